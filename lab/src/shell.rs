//! `krg lab shell`: a shell in a node, on a terminal of the node's own.

use crate::inside;
use crate::name::LabName;
use anyhow::{Context, Result};
use krg_sys::process::{self, Signal, WindowSize};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Child;

/// The shell that runs in a node.
const SHELL: [&str; 4] = ["bash", "--rcfile", "/etc/krg/lab.bashrc", "-i"];

/// Runs a shell in a node; its exit code.
pub fn run(name: &LabName, word: &str) -> Result<u8> {
    if !io::stdin().is_terminal() {
        // A script comes in: there is nobody to show a terminal to.
        return crate::exec::one(name, word, &["bash".into(), "-s".into()]);
    }
    let host = inside::enter(name, word)?;
    let (master, slave) = open_terminal().context("cannot open a terminal in the node")?;
    if let Ok(size) = WindowSize::of(io::stdin()) {
        size.apply(&slave)?;
    }
    let more = [Signal::SIGCHLD, Signal::SIGWINCH];
    let signals = inside::signals(&more, SfdFlags::SFD_NONBLOCK)?;
    let mut command = inside::command(SHELL[0]);
    command.args(&SHELL[1..]);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let mut child = match process::lead_terminal(&mut command).spawn() {
        Ok(child) => child,
        Err(e) => {
            eprintln!("krg lab shell: {host}: bash: {e}");
            return Ok(inside::code_of_failure(&e));
        }
    };
    // The command holds the terminal's other end too: only the shell may.
    drop(command);
    let raw = RawMode::set(io::stdin());
    let relayed = relay(&master, &signals, &mut child);
    drop(raw);
    // Closing the terminal hangs up what is left on it.
    drop(master);
    let status = child.wait()?;
    relayed?;
    Ok(inside::code_of(status))
}

fn open_terminal() -> Result<(PtyMaster, File)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let mut open = OpenOptions::new();
    open.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let slave = open.open(ptsname_r(&master)?)?;
    Ok((master, slave))
}

/// Carries bytes between the user's terminal and the node's until the shell ends.
fn relay(master: &PtyMaster, signals: &SignalFd, child: &mut Child) -> Result<()> {
    let stdin = io::stdin();
    let mut typing = true;
    let mut buffer = [0u8; 8192];
    loop {
        let mut fds = vec![
            PollFd::new(master.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if typing {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = fds.iter().map(|f| f.any() == Some(true)).collect();
        drop(fds);
        if ready[0] && !copy(master, io::stdout(), &mut buffer)? {
            // The last process on the node's terminal has closed it.
            return Ok(());
        }
        if ready.get(2) == Some(&true) && !copy(&stdin, master, &mut buffer)? {
            typing = false;
            // The user's terminal is gone: the shell is told so, and ends.
            inside::forward(Signal::SIGHUP as i32, child.id());
        }
        if ready[1] && !on_signals(signals, master, child)? {
            drain(master, &mut buffer);
            return Ok(());
        }
    }
}

/// Copies what is there to read; `false` at the end.
fn copy(from: impl AsFd, to: impl AsFd, buffer: &mut [u8]) -> Result<bool> {
    match read(from, buffer) {
        // EIO is how a terminal says that its other end is closed.
        Ok(0) | Err(Errno::EIO) => Ok(false),
        Ok(n) => write_all(to, &buffer[..n]).map(|()| true),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(&to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// `false` once the shell has ended.
fn on_signals(signals: &SignalFd, master: &PtyMaster, child: &mut Child) -> Result<bool> {
    while let Some(info) = signals.read_signal()? {
        match Signal::try_from(info.ssi_signo as i32) {
            Ok(Signal::SIGCHLD) => {}
            Ok(Signal::SIGWINCH) => {
                if let Ok(size) = WindowSize::of(io::stdin()) {
                    size.apply(master)?;
                }
            }
            // An interactive shell ends on a hang-up, not on the others.
            Ok(Signal::SIGTERM) => inside::forward(Signal::SIGHUP as i32, child.id()),
            _ => inside::forward(info.ssi_signo as i32, child.id()),
        }
    }
    Ok(child.try_wait()?.is_none())
}

/// Shows what the shell wrote last, as far as it is there.
fn drain(master: &PtyMaster, buffer: &mut [u8]) {
    loop {
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if !matches!(copy(master, io::stdout(), buffer), Ok(true)) {
            return;
        }
    }
}

/// The user's terminal hands every key on as it is, until this is dropped.
struct RawMode(Stdin, Termios);

impl RawMode {
    fn set(stdin: Stdin) -> Option<RawMode> {
        let old = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten()?;
        let mut raw = old.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(RawMode(stdin, old))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, SetArg::TCSADRAIN, &self.1);
    }
}
