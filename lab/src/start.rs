//! `krg lab start`.

use crate::args::StartArgs;
use crate::explain::{explain, tail};
use crate::message::{LINE_BYTES_MAX, Reply};
use crate::name::{LABS, LabName};
use crate::plan::Plan;
use crate::print::print;
use crate::state::Lab;
use crate::{init, memory, online, stop};
use anyhow::{Context, Result, anyhow, bail};
use krg_sys::feature::Feature;
use krg_sys::mount::{self, MsFlags};
use krg_sys::{ns, process};
use krg_types::limits::LAB_NODES_MAX;
use nix::sys::stat::{Mode, umask};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

/// How long the start of a lab of ordinary size may take.
const START_MAX: Duration = Duration::from_secs(10);
/// Up to this many nodes.
const ORDINARY_NODES: u32 = 16;
/// How much longer each further node may take: every node greets every other.
const MORE_A_NODE: Duration = Duration::from_secs(1);
/// The nodes answer this long before we give up: their words tell more than ours.
const ANSWER_EARLY: Duration = Duration::from_millis(500);
/// How long `krg names` may take.
const NAMES_MAX: Duration = Duration::from_secs(2);
/// The names that are there whatever `krg names` says.
const OLD_NAMES: [&str; 6] =
    ["krgadm", "ssi-start", "ssi-stop", "mount.krgproc", "mount.mfs", "umount.fuse.krgmfs"];

/// Starts a lab; when it fails or is interrupted, nothing stays.
pub fn run(args: &StartArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab needs root for its namespaces: use sudo");
    }
    let nodes = args.nodes;
    if !(1..=LAB_NODES_MAX).contains(&nodes) {
        bail!("a lab has 1 to {LAB_NODES_MAX} nodes, not {nodes}");
    }
    memory::check(nodes)?;
    process::close_on_exec_all()?;
    umask(Mode::from_bits_truncate(0o022));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = runtime.block_on(start(args))?;
    report(args, took)
}

async fn start(args: &StartArgs) -> Result<Duration> {
    let begin = Instant::now();
    let patience = START_MAX + MORE_A_NODE * args.nodes.saturating_sub(ORDINARY_NODES);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let lab = describe(args).await?;
    make_dir(&args.name)?;
    let done = tokio::select! {
        done = bring_up(&args.name, &lab, !args.no_wait, begin + patience) => done,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
        _ = hang_up.recv() => Err(anyhow!("the terminal was closed")),
    };
    if let Err(e) = done {
        stop::clear(&args.name).context("cannot clear what was started")?;
        return Err(e.context(format!("lab `{}` did not start", args.name)));
    }
    Ok(begin.elapsed())
}

/// What the lab is to be.
async fn describe(args: &StartArgs) -> Result<Lab> {
    let own = std::env::current_exe().context("cannot find this program's directory")?;
    let programs = own.parent().unwrap_or(Path::new("/")).to_owned();
    let krgd = programs.join("krgd");
    if !krgd.is_file() && std::env::var_os(init::KRGD_ENV).is_none() {
        bail!("{} is missing: build or install krgd beside krg-lab", krgd.display());
    }
    Ok(Lab {
        name: args.name.to_string(),
        links: args.link,
        old_names: old_names(&programs.join("krg")).await,
        programs,
        node_env: args.node_env.clone(),
        own_clocks: ns::has_time() && !Feature::TimeNamespace.masked(),
        keeper: None,
        no_disks: None,
        nodes: Lab::new_nodes(Plan { links: args.link }, args.nodes),
    })
}

/// The names of older systems that krg answers to.
async fn old_names(krg: &Path) -> Vec<String> {
    let mut names: Vec<String> = OLD_NAMES.map(str::to_owned).into();
    let mut command = tokio::process::Command::new(krg);
    command.arg("names").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // An older krg does not know the question: then these names are all.
    if let Ok(Ok(out)) = timeout(NAMES_MAX, command.output()).await
        && out.status.success()
    {
        let more = String::from_utf8_lossy(&out.stdout);
        names.extend(more.lines().filter(|n| is_command_name(n)).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

fn is_command_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=32).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(inner)
}

/// Makes the lab's directory: whoever makes it has the name.
fn make_dir(name: &LabName) -> Result<()> {
    let dir = name.dir();
    loop {
        fs::create_dir_all(LABS).with_context(|| format!("cannot make {LABS}"))?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let option = name.option();
                bail!(
                    "lab `{name}` is there already: see `krg lab status{option}`, end it with \
                     `krg lab stop{option}`, or choose another --name"
                )
            }
            // The last of the other labs has just ended, and took what held them all along.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            made => return made.with_context(|| format!("cannot make {}", dir.display())),
        }
    }
}

/// Everything between an empty directory and a cluster that sees itself.
async fn bring_up(name: &LabName, lab: &Lab, wait: bool, deadline: Instant) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount::mount_fs("krg-lab", &name.dir(), "tmpfs", flags, "mode=0700")
        .context("cannot mount the lab's tmpfs")?;
    lab.save(name)?;
    let mut keeper = spawn_keeper(name, wait)?;
    let out = keeper.stdout.take().context("a keeper without output")?;
    let up = async {
        keeper_reply(out.into(), name).await?;
        if wait { all_online(name, deadline - ANSWER_EARLY).await } else { Ok(()) }
    };
    match timeout_at(deadline, up).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(explain(name, e)),
        Err(_) => Err(explain(name, anyhow!("time is up"))),
    }
}

fn spawn_keeper(name: &LabName, wait: bool) -> Result<Child> {
    let path = name.keeper_log();
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("krg-lab")
        .args(["keeper", "--name", name.as_str()])
        .args((!wait).then_some("--no-wait"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command.spawn().context("cannot start the lab's keeper")
}

/// The keeper's one line: all nodes are up, or why not.
async fn keeper_reply(out: OwnedFd, name: &LabName) -> Result<()> {
    let pipe = pipe::Receiver::from_owned_fd(out)?;
    let mut text = Vec::new();
    BufReader::new(pipe.take(LINE_BYTES_MAX as u64)).read_until(b'\n', &mut text).await?;
    match serde_json::from_slice(&text) {
        Ok(Reply::Done) => Ok(()),
        Ok(Reply::Error(words)) => Err(anyhow!(words)),
        Ok(Reply::Added(_)) | Err(_) => {
            Err(anyhow!("the keeper ended {}", tail(&name.keeper_log())))
        }
    }
}

/// Asks every node's krgd at once.
async fn all_online(name: &LabName, deadline: Instant) -> Result<()> {
    online::wait_all(Lab::load(name)?.nodes, deadline).await
}

fn report(args: &StartArgs, took: Duration) -> Result<()> {
    if args.json {
        return crate::status::one(&args.name, true);
    }
    let (nodes, option) = (args.nodes, args.name.option());
    let s = if nodes == 1 { "" } else { "s" };
    print(&format!(
        "lab `{}`: {nodes} node{s} up in {:.2} s
  krg lab exec{option} 1 -- COMMAND    run a command on node 1
  krg lab shell{option} 1              a shell there
  krg lab stop{option}                 end it\n",
        args.name,
        took.as_secs_f64()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_paths() {
        assert!(is_command_name("mount.krgproc") && is_command_name("where_pid"));
        for bad in ["", "a/b", "..", "-x", "a b"] {
            assert!(!is_command_name(bad), "{bad}");
        }
    }
}
