//! A command with the cluster's /proc on /proc, in a mount namespace of its own.

mod calls;

use crate::cmd::kill;
use crate::daemon;
use anyhow::{Context, Result, bail};
use krg_sys::caller::effective_uid;
use krg_sys::mount::{
    bind, make_private_recursive, make_slave_recursive, mountinfo, rbind, umount_detach,
};
use krg_sys::ns::{Namespaces, keep_ids, unshare};
use krg_sys::process::{
    self, PidFd, SigSet, Signal, ignore_terminal_signals, with_terminal_signals,
};
use krg_sys::seccomp::{self, Call, Listener};
use krg_types::view::{FS_TYPE, SERVER, USUAL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// What is covered, and with what of the view.
const COVERS: [(&str, &str); 3] = [
    // sysctl(8) insists on the kernel's own /proc/sys; only pid_max in it is the cluster's.
    (".local/sys", "/proc/sys"),
    ("sys/kernel/pid_max", "/proc/sys/kernel/pid_max"),
    (".sys/cpu", "/sys/devices/system/cpu"),
];

/// Runs a command on the view at `view`, or where krgd has it; returns the exit code.
pub fn run(view: Option<PathBuf>, command: &[OsString]) -> Result<u8> {
    let Some((program, args)) = command.split_first() else { bail!("no command") };
    let (view, server) = find(view)?;
    let mut supervisor = Supervisor::new(server)?;
    cover(&view)?;
    // In a session inside another one the outer's listener is in force, and does the same.
    supervisor.calls = seccomp::listen(&calls::WATCHED, calls::NUMBERS).ok();
    ignore_terminal_signals();
    let mut command = Command::new(program);
    with_terminal_signals(command.args(args));
    supervisor.unblock_in(&mut command);
    match command.spawn() {
        Ok(child) => Ok(code(supervisor.wait(child)?)),
        Err(e) => {
            eprintln!("krg: {}: {e}", program.to_string_lossy());
            // As the shell has it.
            Ok(if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

/// The exit code to pass on.
fn code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(0);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}

/// The view, and the process that serves it. krgd is not asked: a view outlives it.
fn find(view: Option<PathBuf>) -> Result<(PathBuf, Option<PidFd>)> {
    let view = match view.or_else(mounted) {
        Some(view) => view,
        None => bail!("no view of the cluster is mounted here: {}", why_not()),
    };
    let server = std::fs::read_to_string(view.join(".sys/server"));
    let server = server.with_context(|| format!("{}: no view of a cluster", view.display()))?;
    // In another pid namespace the number would be another process's.
    let pid = server.trim().parse().unwrap_or(0);
    let named = process::stat(pid)?.is_some_and(|s| s.name == SERVER);
    Ok((view, if named { PidFd::open(pid)? } else { None }))
}

/// Where a view is mounted; the usual place rather than another.
pub fn mounted() -> Option<PathBuf> {
    let views = mountinfo("self").ok()?.into_iter().filter(|m| m.fs_type == FS_TYPE);
    let mut views: Vec<PathBuf> = views.map(|m| m.mount_point).collect();
    views.sort_by_key(|v| v != Path::new(USUAL));
    views.into_iter().next()
}

fn why_not() -> String {
    match daemon::status() {
        Err(e) => format!("{e:#}"),
        Ok(status) => {
            let views = status.mounts.iter().filter(|m| m.kind == "proc");
            let states = views.map(|m| format!("{}: {}", m.path, m.state));
            let states: Vec<String> = states.collect();
            format!("krgd says: {}", states.join("; "))
        }
    }
}

fn cover(view: &Path) -> Result<()> {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if own.0 == 0 {
        unshare(Namespaces::MOUNT).context("cannot make a mount namespace")?;
    } else {
        // Somebody who is not root may do it in a user namespace, where the kernel allows that.
        unshare(Namespaces::USER | Namespaces::MOUNT).context(
            "cannot make a user namespace: run as root, or \
             `sysctl -w kernel.unprivileged_userns_clone=1`",
        )?;
        keep_ids(own.0, own.1).context("cannot map this user")?;
    }
    // What krgd mounts and unmounts later is still seen here; nothing goes the other way.
    make_slave_recursive(Path::new("/"))?;
    let what = |from: &Path, to: &str| format!("cannot put {} on {to}", from.display());
    for led_to in [".local", ".live"] {
        hold(&view.join(led_to))?;
    }
    rbind(view, Path::new("/proc")).with_context(|| what(view, "/proc"))?;
    for (from, to) in COVERS {
        let from = view.join(from);
        let to_path = Path::new(to);
        let done = if from.is_dir() { rbind(&from, to_path) } else { bind(&from, to_path) };
        done.with_context(|| what(&from, to))?;
    }
    Ok(())
}

/// What this link of the view leads to stays here when krgd is stopped and takes it away. The
/// directory around it becomes a mount that nothing is told of: what is mounted in it is then not
/// taken out.
fn hold(link: &Path) -> Result<()> {
    let led_to = std::fs::canonicalize(link);
    let led_to =
        led_to.with_context(|| format!("{}: krgd is not done with it", link.display()))?;
    let around = led_to.parent().unwrap_or(Path::new("/"));
    if around != Path::new("/") {
        rbind(around, around).with_context(|| format!("cannot hold {}", around.display()))?;
        make_private_recursive(around)?;
    }
    Ok(())
}

/// Waits for the command, passes signals on to it, and takes the covers away should the view's
/// server die: the kernel's own /proc then shows through, instead of an error for every name.
struct Supervisor {
    server: Option<PidFd>,
    signals: SignalFd,
    mask: SigSet,
    /// System calls on cluster pids, to be answered.
    calls: Option<Listener>,
}

/// What calls are answered from: the view on /proc, and who asks.
struct Asked<'a> {
    listener: &'a Listener,
    call: &'a Call,
}

impl Asked<'_> {
    /// The user that the caller acts as. Not by the owner of its directory: that is root's if the
    /// caller keeps others from looking at it.
    fn uid(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/.local/{}/status", self.call.tid));
        let uid = effective_uid(&status.ok()?)?;
        // Only while it waits is it the one that was looked at.
        self.listener.waits(self.call).then_some(uid)
    }
}

impl calls::View for Asked<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read(Path::new("/proc").join(path)).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn signal(&self, pid: u32, signal: i32) -> Result<(), i32> {
        let uid = self.uid().ok_or(libc::EPERM)?;
        // kill(2) has no errno for a node that does not answer.
        match kill::send(pid, signal, Some(uid)).map_or(libc::EIO, |reply| reply.errno) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }
}

impl Supervisor {
    fn new(server: Option<PidFd>) -> Result<Supervisor> {
        let mask: SigSet =
            [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
        mask.thread_block()?;
        let signals = SignalFd::new(&mask)?;
        Ok(Supervisor { server, signals, mask, calls: None })
    }

    fn unblock_in(&self, command: &mut Command) {
        process::with_signals_unblocked(command, self.mask);
    }

    fn wait(&mut self, mut child: Child) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let (signalled, ended, called) = self.wait_for_something()?;
            if signalled {
                self.pass_on(&child)?;
            }
            if ended {
                self.server = None;
                uncover();
            }
            if called {
                self.answer();
            }
        }
    }

    /// What there is to do: a signal, the end of the view's server, a call to answer.
    fn wait_for_something(&self) -> Result<(bool, bool, bool)> {
        let server = self.server.as_ref().map(AsFd::as_fd);
        let calls = self.calls.as_ref().map(AsFd::as_fd);
        let some = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![some(self.signals.as_fd())];
        fds.extend(server.map(some));
        fds.extend(calls.map(some));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let signalled = ready.next().unwrap_or(false);
        let ended = server.is_some() && ready.next().unwrap_or(false);
        Ok((signalled, ended, calls.is_some() && ready.next().unwrap_or(false)))
    }

    fn answer(&mut self) {
        let Some(calls) = &self.calls else { return };
        match calls.next() {
            Ok(Some(call)) => {
                let asked = Asked { listener: calls, call: &call };
                calls.answer(&call, calls::answer(call.number, &call.args, &asked));
            }
            Ok(None) => {}
            // Nobody is left who could call.
            Err(_) => self.calls = None,
        }
    }

    fn pass_on(&self, child: &Child) -> Result<()> {
        let Some(info) = self.signals.read_signal()? else { return Ok(()) };
        let signal = Signal::try_from(i32::try_from(info.ssi_signo)?)?;
        let process = if signal == Signal::SIGCHLD { None } else { PidFd::open(child.id())? };
        if let Some(process) = process {
            process.signal(signal)?;
        }
        Ok(())
    }
}

fn uncover() {
    for path in ["/sys/devices/system/cpu", "/proc"] {
        let _ = umount_detach(Path::new(path));
    }
}
