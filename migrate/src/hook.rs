//! What CRIU calls between its steps (`--action-script`): this program under another name. It
//! mounts the job's own /proc when there are processes to be mounted for, numbers its processes,
//! and lets CRIU go on after a step only when the holder of the job says so: a dump that is let
//! go on kills what was dumped, one that is not leaves it as it was (criu(8)).

use crate::place;
use crate::root::{self, ROOT};
use krg_sys::clock::boot_ns;
use krg_sys::ns;
use krg_sys::process::PidFd;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name under which this is called.
pub const NAME: &str = "krg-job-hook";
/// Beside it: where the holder listens.
const SOCKET: &str = "hook.sock";
/// And when CRIU began to stop the processes, ns since the boot.
const FROZEN: &str = "frozen";
/// Longest line.
const LINE_BYTES_MAX: u64 = 256;

/// Where CRIU has got to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All is dumped; the processes stand still.
    Dumped,
    /// All is restored; the processes stand still.
    Restored,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Dumped => "post-dump",
            Step::Restored => "post-restore",
        }
    }
}

/// Called by CRIU as `program`.
///
/// # Errors
/// When CRIU is not to go on.
pub fn run(program: &Path) -> io::Result<()> {
    let action = env::var("CRTOOLS_SCRIPT_ACTION").unwrap_or_default();
    let pid = env::var("CRTOOLS_INIT_PID").ok().and_then(|pid| pid.parse().ok());
    match action.as_str() {
        "pre-dump" => {
            // They stand still from here on.
            let dir = program.parent().ok_or(io::ErrorKind::NotFound)?;
            std::fs::write(dir.join(FROZEN), boot_ns().to_string())
        }
        "setup-namespaces" => {
            if let (Some(dir), Some(pid)) = (program.parent(), pid) {
                place::note_init(dir, pid)?;
            }
            ns::act_among(first(pid)?, root::mount_proc)
        }
        "post-dump" | "post-restore" => {
            let dir = program.parent().ok_or(io::ErrorKind::NotFound)?;
            let mut holder = UnixStream::connect(dir.join(SOCKET))?;
            writeln!(holder, "{action} {}", pid.unwrap_or(0))?;
            let mut answer = String::new();
            BufReader::new(io::Read::take(holder, LINE_BYTES_MAX)).read_line(&mut answer)?;
            let mut words = answer.split_whitespace();
            if words.next() != Some("go") {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let numbers: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
            match numbers[..] {
                [next, last] => {
                    // It is this node's by now, whatever numbers it gets.
                    let proc = Path::new(ROOT).join("proc");
                    let _ = ns::act_among(first(pid)?, || ns::number_from(&proc, next, last));
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn first(pid: Option<u32>) -> io::Result<PidFd> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    PidFd::open(pid.ok_or_else(gone)?)?.ok_or_else(gone)
}

/// The holder's side.
pub struct Hooks {
    listener: UnixListener,
    script: PathBuf,
}

/// CRIU waits for the word.
pub struct Waiting {
    connection: UnixStream,
    /// The job's first process, as this node numbers it; 0 if CRIU did not say.
    pub init: u32,
}

impl Hooks {
    /// In a directory of the holder's own; `program` is what knows to be called as a hook.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(dir: &Path, program: &Path) -> io::Result<Hooks> {
        let (socket, script) = (dir.join(SOCKET), dir.join(NAME));
        for old in [&socket, &script] {
            match std::fs::remove_file(old) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        std::os::unix::fs::symlink(program, &script)?;
        let listener = UnixListener::bind(socket)?;
        Ok(Hooks { listener, script })
    }

    /// For how long the processes have been standing still, us; `None` before they do.
    pub fn frozen_us(dir: &Path) -> Option<u64> {
        let since = std::fs::read_to_string(dir.join(FROZEN)).ok()?.parse().ok()?;
        Some(boot_ns().checked_sub(since)? / 1_000)
    }

    /// What CRIU is to call.
    pub fn script(&self) -> &Path {
        &self.script
    }

    /// Until CRIU has got to this step; `None` when `ended` (a descriptor that becomes readable) is
    /// sooner.
    ///
    /// # Errors
    /// The kernel's; InvalidData for what no hook says.
    pub fn wait(&self, step: Step, ended: impl std::os::fd::AsFd) -> io::Result<Option<Waiting>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            let mut fds = [
                PollFd::new(std::os::fd::AsFd::as_fd(&self.listener), PollFlags::POLLIN),
                PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            if fds[0].any() != Some(true) {
                return Ok(None);
            }
            let (connection, _) = self.listener.accept()?;
            connection.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut line = String::new();
            let read = io::Read::take(&connection, LINE_BYTES_MAX);
            BufReader::new(read).read_line(&mut line)?;
            let mut words = line.split_whitespace();
            if words.next() == Some(step.name()) {
                let init = words.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
                return Ok(Some(Waiting { connection, init }));
            }
        }
    }
}

impl Waiting {
    /// CRIU goes on; the job's next process gets this number, if it has numbers of its own.
    ///
    /// # Errors
    /// When CRIU is gone.
    pub fn go(mut self, numbers: Option<(u32, u32)>) -> io::Result<()> {
        match numbers {
            Some((next, last)) => writeln!(self.connection, "go {next} {last}"),
            None => writeln!(self.connection, "go"),
        }
    }

    /// CRIU undoes what it has done.
    pub fn refuse(mut self) {
        // If CRIU is gone it is undone already.
        let _ = writeln!(self.connection, "no");
    }
}

/// How long something took.
pub struct Clock(Instant);

impl Clock {
    /// From now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Since the start, or since this was asked last, us.
    pub fn lap_us(&mut self) -> u64 {
        let us = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0 = Instant::now();
        us
    }
}
