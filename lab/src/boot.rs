//! `krg-lab boot`: makes one node's namespaces, starts its init and holds on until that ends.

use crate::message::{Report, line};
use crate::name::LabName;
use crate::plan::{clock_offsets, hostname};
use crate::state::Lab;
use crate::{disk, fill, net, root};
use anyhow::{Context, Result, anyhow, bail};
use krg_sys::ns::{self, Namespaces};
use krg_sys::process::{self, PidFd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The PATH of a node's processes.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a node until it ends. Standard input and output are pipes to the keeper.
pub fn run(name: &LabName, node: u32) -> Result<()> {
    let init = start(name, node);
    if let Err(e) = &init {
        say(&Report::Failed(format!("{e:#}")));
    }
    hold(init?)
}

fn start(name: &LabName, node: u32) -> Result<Child> {
    process::set_name("krg-boot")?;
    process::close_on_exec_all()?;
    umask(Mode::from_bits_truncate(0o022));
    let lab = Lab::load(name)?;
    let kinds = Namespaces::NET | Namespaces::MOUNT | Namespaces::UTS | Namespaces::IPC;
    ns::unshare(kinds)
        .context("cannot make namespaces (root is needed, outside of sandboxes)")?;
    say(&Report::Unshared);
    let tree = root::mount_layers(name, node)?;
    mount_state(name, &lab, node, &tree)?;
    let mut go = String::new();
    if io::stdin().read_line(&mut go)? == 0 {
        bail!("the keeper is gone");
    }
    // Before the namespaces of children only: `ip` must not become pid 1.
    net::configure_node(lab.plan(), node)?;
    nix::unistd::sethostname(hostname(node)).context("cannot set the host name")?;
    if lab.own_clocks {
        let (monotonic, boot) = clock_offsets(node);
        ns::unshare(Namespaces::TIME)
            .and_then(|()| ns::set_time_offsets(monotonic, boot))
            .context("cannot set the node's clocks (KRG_MASK=timens does without)")?;
    }
    ns::unshare(Namespaces::PID).context("cannot make a pid namespace")?;
    root::enter(&tree, &lab, node)?;
    let init = spawn_init(&lab, node)?;
    say(&Report::Init(init.id()));
    Ok(init)
}

/// Mounts what krgd keeps its state on: a disk, or a directory where that cannot be.
fn mount_state(name: &LabName, lab: &Lab, node: u32, tree: &Path) -> Result<()> {
    // What it was in its first life it stays: its files are there.
    let had_disk = name.disk(node).exists();
    let known = lab.nodes.iter().find(|n| n.id == node).and_then(|n| n.no_disk.clone());
    let disk = match known.or(lab.no_disks.clone()) {
        Some(words) => Err(anyhow!(words)),
        None => disk::mount(name, node, tree),
    };
    match disk {
        Ok(()) => fill::empty(&tree.join(disk::STATE_DIR.trim_start_matches('/'))),
        Err(e) if had_disk => Err(e),
        Err(e) => {
            say(&Report::NoDisk(format!("{e:#}")));
            // It was made for a mount that failed.
            let _ = std::fs::remove_file(name.disk(node));
            disk::mount_directory(name, node, tree)
        }
    }
}

fn spawn_init(lab: &Lab, node: u32) -> Result<Child> {
    let mut command = Command::new(format!("{}/krg-lab", root::PROGRAMS));
    command
        .arg0("krg-lab")
        .args(["init", "--name", &lab.name, "--node", &node.to_string()])
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .envs(std::env::vars().filter(|(k, _)| k.starts_with("KRG_") || k.starts_with("RUST_")))
        .envs(lab.node_env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::inherit());
    process::kill_with_parent(&mut command).spawn().context("cannot start the node's init")
}

/// Waits for the end of init. The keeper's end is the node's too: its links are gone.
fn hold(mut init: Child) -> Result<()> {
    let fd = PidFd::open(init.id())?.context("the node's init ended at once")?;
    let keeper = io::stdin();
    loop {
        let mut fds = [
            PollFd::new(fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(keeper.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) if fds[0].any() == Some(true) => break,
            Ok(_) => init.kill()?,
        }
    }
    init.wait()?;
    Ok(())
}

/// Tells the keeper; if that is gone, so is this node soon.
fn say(report: &Report) {
    let _ = io::stdout().write_all(line(report).as_bytes());
}
