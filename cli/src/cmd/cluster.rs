//! `krg cluster`: the cluster as a whole.

mod status;
mod token;

pub use status::no_leader;

use crate::args::cluster::{ClusterCommand, InitArgs};
use crate::daemon::{self, AGREE_MAX};
use anyhow::{Result, bail};
use krg_rpc::proto::control::{
    Done, InitRequest, PowerOffRequest, Progress, RecoverRequest, RotateCaRequest,
};
use krg_types::limits::PROTOCOL_VERSION;

const VERSION: u32 = PROTOCOL_VERSION;

const RECOVER: &str = "\
krg cluster recover is for a cluster that lost most of its voters for good.

With --force this node goes on alone with what it knows:
  - it becomes the only member, under a new membership;
  - what the lost nodes had agreed on and this node has not heard of is gone;
  - every other node must join again (krg join --force). Make sure that none of them runs as the
    old cluster, or there will be two.

Choose the node with the largest `last` in `krg cluster status`. If the others may come back,
start them instead. Nothing was done.
";

/// Runs it; returns the exit code.
pub fn run(command: ClusterCommand) -> Result<u8> {
    match command {
        ClusterCommand::Status { json } => status::run(json),
        ClusterCommand::Init(args) => init(args),
        ClusterCommand::Poweroff { reboot } => {
            say(&poweroff(reboot)?);
            Ok(0)
        }
        ClusterCommand::RotateCa { force } => rotate_ca(force),
        ClusterCommand::Recover { force: false } => {
            eprint!("{RECOVER}");
            Ok(2)
        }
        ClusterCommand::Recover { force: true } => {
            let request = RecoverRequest { version: VERSION, force: true };
            say(&daemon::ask(AGREE_MAX, async |mut krgd| krgd.recover(request).await)?);
            Ok(0)
        }
        ClusterCommand::Token { command } => token::run(command),
    }
}

/// Prints what krgd says about what it has done, if anything.
pub fn say(done: &Done) {
    if !done.note.is_empty() {
        println!("{}", done.note);
    }
}

fn init(args: InitArgs) -> Result<u8> {
    let request = InitRequest {
        version: VERSION,
        name: args.name.unwrap_or_default(),
        session: args.session.unwrap_or(0),
        node: args.node.map_or(0, |n| n.get()),
        nodes_min: args.nodes_min.unwrap_or(0),
    };
    say(&daemon::ask(AGREE_MAX, async |mut krgd| krgd.init(request).await)?);
    Ok(0)
}

/// Stops all nodes, or starts them again.
pub fn poweroff(reboot: bool) -> Result<Done> {
    let request = PowerOffRequest { version: VERSION, reboot };
    daemon::ask(AGREE_MAX, async |mut krgd| krgd.power_off(request).await)
}

fn rotate_ca(force: bool) -> Result<u8> {
    let request = RotateCaRequest { version: VERSION, force };
    let mut done = false;
    daemon::follow(
        Some(AGREE_MAX),
        async |mut krgd| krgd.rotate_ca(request).await,
        |progress| {
            println!("{}", progress_line(&progress));
            done = progress.done;
            Ok(())
        },
    )?;
    if !done {
        bail!("the rotation is not done: krgd ended its report (see krg cluster status)");
    }
    Ok(0)
}

fn progress_line(progress: &Progress) -> String {
    match progress {
        Progress { of: 0, note, .. } => note.clone(),
        Progress { steps, of, note, .. } => format!("{steps}/{of}  {note}"),
    }
}
