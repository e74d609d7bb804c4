//! Entering a node: what `exec` and `shell` share.

use crate::boot::PATH;
use crate::name::LabName;
use crate::state::Lab;
use anyhow::{Context, Result};
use krg_sys::ns::{self, Namespaces};
use krg_sys::process::{self, Signal};
use nix::sys::signal::{SigSet, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Signals that are handed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Moves this process into all namespaces of a node; its next children are the node's. Returns
/// the node's host name.
pub fn enter(name: &LabName, word: &str) -> Result<String> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    let (init, held) = node.open_init(name)?;
    let mut kinds =
        Namespaces::MOUNT | Namespaces::NET | Namespaces::UTS | Namespaces::IPC | Namespaces::PID;
    if ns::has_time() && ns::id(init.pid, "time")? != ns::id(std::process::id(), "time")? {
        kinds = kinds | Namespaces::TIME;
    }
    process::close_on_exec_all()?;
    ns::enter(&held, kinds).with_context(|| format!("cannot enter {}", node.hostname))?;
    std::env::set_current_dir("/")?;
    Ok(node.hostname.clone())
}

/// A command with a node's environment.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", PATH).env("HOME", "/root").env("PWD", "/").env_remove("OLDPWD");
    process::unblock_signals(&mut command);
    command
}

/// The exit code that stands for a command that could not be started, as shells have it.
pub fn code_of_failure(e: &io::Error) -> u8 {
    if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The exit code that stands for a command's end, as shells have it.
pub fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// Takes the signals of this process out of a descriptor from now on.
pub fn signals(more: &[Signal], flags: SfdFlags) -> Result<SignalFd> {
    let all: SigSet = FORWARDED.into_iter().chain(more.iter().copied()).collect();
    all.thread_block()?;
    Ok(SignalFd::with_flags(&all, flags | SfdFlags::SFD_CLOEXEC)?)
}

/// Hands a signal on to the command, if it is one of those.
pub fn forward(signal: i32, child: u32) {
    if let Ok(signal) = Signal::try_from(signal)
        && FORWARDED.contains(&signal)
    {
        // If it has just ended, that is told next.
        let _ = kill(Pid::from_raw(child as i32), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_shells() {
        assert_eq!(code_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code_of(ExitStatus::from_raw(9)), 137);
        assert_eq!(code_of_failure(&io::ErrorKind::NotFound.into()), 127);
        assert_eq!(code_of_failure(&io::ErrorKind::PermissionDenied.into()), 126);
    }
}
