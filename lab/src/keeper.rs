//! `krg-lab keeper`: one process per lab. It owns the links and is the parent of all nodes.

mod door;
mod grow;
mod joins;
mod nodes;

use crate::disk;
use crate::message::{Reply, Report, Request, line};
use crate::name::LabName;
use crate::net;
use crate::state::{Lab, Proc};
use anyhow::{Context, Result};
use krg_sys::ns::{self, Namespaces};
use krg_sys::process;
use nix::sys::stat::{Mode, umask};
use nodes::Nodes;
use std::io::Write;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// How long a node may take to become ready.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long one of many new nodes may take.
const ADDED_MAX: Duration = Duration::from_secs(60);
/// Events waiting for the keeper.
const EVENTS_MAX: usize = 256;

/// What the keeper's tasks bring to it.
pub enum Event {
    /// A boot process (its pid) or its init says something of a node.
    Report(u32, u32, Report),
    /// A node made tokens for others to join with, or could not.
    Tokens(u32, Result<Vec<String>, String>),
    /// A node (and its boot process) has joined the cluster, or could not.
    Joined(u32, u32, Result<(), String>),
    /// A command asks for something.
    Ask(Request, oneshot::Sender<Reply>),
}

/// Runs the keeper. Standard output is a pipe to `krg-lab start`: one line tells how it went.
pub fn run(name: &LabName, wait: bool) -> Result<()> {
    process::set_name("krg-keeper")?;
    process::close_on_exec_all()?;
    process::become_subreaper()?;
    nix::unistd::setsid().context("cannot leave the terminal")?;
    umask(Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/")?;
    let mut lab = Lab::load(name)?;
    lab.keeper = Some(Proc::now(std::process::id())?);
    ns::unshare(Namespaces::NET).context("cannot make a network namespace")?;
    // Made while the links are.
    let disk = disk::Base::begin(name);
    net::make_links(lab.plan())?;
    if let Err(e) = disk.and_then(disk::Base::end) {
        eprintln!("the nodes have no disks: {e:#}");
        lab.no_disks = Some(format!("{e:#}"));
    }
    lab.save(name)?;
    // One thread: a node's boot process is to have the keeper's only thread as its parent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(name, lab, wait))
}

async fn serve(name: &LabName, lab: Lab, wait: bool) -> Result<()> {
    let mut child_ended = signal(SignalKind::child())?;
    let mut told_to_end = signal(SignalKind::terminate())?;
    let (events, mut incoming) = mpsc::channel(EVENTS_MAX);
    let socket = name.keeper_socket();
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    tokio::spawn(door::serve(listener, events.clone()));
    let mut nodes = Nodes::new(name.clone(), lab, events);
    nodes.start_all();
    let mut starting = true;
    loop {
        tokio::select! {
            Some(event) = incoming.recv() => nodes.on(event),
            _ = child_ended.recv() => nodes.reap(),
            _ = told_to_end.recv() => {
                nodes.end_all();
                return Ok(());
            }
        }
        nodes.answer();
        if incoming.is_empty() {
            nodes.save();
        }
        if starting && let Some(reply) = nodes.start_result(wait) {
            starting = false;
            nodes.save();
            tell_start(&reply);
        }
    }
}

/// How long the keeper takes for a request, at most.
pub fn patience(request: &Request) -> Duration {
    if matches!(request, Request::Await { .. }) { ADDED_MAX } else { READY_MAX }
}

/// Tells `krg-lab start`, which closes its end then, or has ended already.
fn tell_start(reply: &Reply) {
    let _ = std::io::stdout().write_all(line(reply).as_bytes());
}
