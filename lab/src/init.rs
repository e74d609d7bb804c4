//! `krg-lab init`: a node's pid 1. It keeps krgd running and reaps every orphan.

use crate::message::{Report, line};
use crate::restart::Restarts;
use crate::root::PROGRAMS;
use anyhow::{Context, Result};
use krg_sys::mount::{self, MsFlags};
use krg_sys::process;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// krgd's output.
const LOG: &str = "/var/log/krgd.log";
/// Where krgd says that it is ready, in the words of sd_notify(3).
const NOTIFY: &str = "/run/krg/notify.sock";
/// Runs this in the place of krgd, for tests of the lab itself.
pub const KRGD_ENV: &str = "KRG_LAB_KRGD";
/// How long krgd may take to end in good order.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Runs the node until it is told to end.
pub fn run() -> Result<()> {
    process::set_name("krg-init")?;
    umask(Mode::from_bits_truncate(0o022));
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount::mount_fs("proc", Path::new("/proc"), "proc", safe, "")
        .context("cannot mount /proc")?;
    let report = own_stdio().context("cannot open the node's log")?;
    let mask: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1].into_iter().collect();
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let notify = UnixDatagram::bind(NOTIFY).context("cannot listen for krgd's readiness")?;
    fs::set_permissions(NOTIFY, Permissions::from_mode(0o600))?;
    notify.set_nonblocking(true)?;
    let mut init = Init {
        report,
        krgd: None,
        restarts: Restarts::default(),
        start_at: Some(Instant::now()),
        stop_at: None,
    };
    init.serve(&signals, &notify)
}

/// Opens standard input, output and error in the node: descriptors of the host's files would keep
/// its processes from being checkpointed. Returns the pipe to the keeper, which was the output.
fn own_stdio() -> Result<File> {
    let report = io::stdout().as_fd().try_clone_to_owned()?;
    // A keeper that does not read must never stop a node's pid 1.
    fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_WRONLY))?;
    let log = append(LOG)?;
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(&log)?;
    dup2_stderr(&log)?;
    Ok(File::from(report))
}

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Init {
    report: File,
    krgd: Option<(Pid, Instant)>,
    restarts: Restarts,
    /// When to start krgd, if it is to be started.
    start_at: Option<Instant>,
    /// Set once the node is ending: when to wait no longer.
    stop_at: Option<Instant>,
}

impl Init {
    fn serve(&mut self, signals: &SignalFd, notify: &UnixDatagram) -> Result<()> {
        loop {
            let now = Instant::now();
            if self.stop_at.is_some_and(|at| self.krgd.is_none() || at <= now) {
                // The end of pid 1 is the end of all processes of the node.
                return Ok(());
            }
            if self.start_at.is_some_and(|at| at <= now) {
                self.start_krgd();
                continue;
            }
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(notify.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, self.timeout(now)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            // Readiness before signals: a krgd that was ready and ended is not ready.
            self.take_notes(notify);
            while let Some(info) = signals.read_signal()? {
                self.on_signal(info.ssi_signo);
            }
        }
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let Some(next) = [self.start_at, self.stop_at].into_iter().flatten().min() else {
            return PollTimeout::NONE;
        };
        let ms = next.saturating_duration_since(now).as_micros().div_ceil(1000);
        PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
    }

    fn take_notes(&mut self, notify: &UnixDatagram) {
        let mut buffer = [0u8; 4096];
        while let Ok(n) = notify.recv(&mut buffer) {
            let ready = buffer[..n].split(|b| *b == b'\n').any(|l| l == b"READY=1");
            if ready && self.krgd.is_some() {
                self.say(&Report::Ready);
            }
        }
    }

    fn on_signal(&mut self, signal: u32) {
        match Signal::try_from(signal as i32) {
            Ok(Signal::SIGCHLD) => self.reap(),
            Ok(Signal::SIGTERM | Signal::SIGINT) if self.stop_at.is_none() => {
                self.start_at = None;
                self.stop_at = Some(Instant::now() + STOP_MAX);
                if let Some((krgd, _)) = self.krgd {
                    let _ = kill(krgd, Signal::SIGTERM);
                }
            }
            Ok(Signal::SIGUSR1) if self.krgd.is_none() && self.stop_at.is_none() => {
                self.restarts = Restarts::default();
                self.start_at = Some(Instant::now());
            }
            _ => {}
        }
    }

    fn start_krgd(&mut self) {
        self.start_at = None;
        let words = std::env::var(KRGD_ENV).unwrap_or(format!("{PROGRAMS}/krgd"));
        let mut words = words.split_ascii_whitespace();
        let program = words.next().unwrap_or("false");
        let out = append(LOG).and_then(|log| Ok((log.try_clone()?, log)));
        let spawned = out.and_then(|(out, err)| {
            let mut command = Command::new(program);
            command
                .args(words)
                .env("NOTIFY_SOCKET", NOTIFY)
                .env_remove(KRGD_ENV)
                .current_dir("/")
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err);
            process::unblock_signals(&mut command).spawn()
        });
        match spawned {
            Ok(child) => self.krgd = Some((Pid::from_raw(child.id() as i32), Instant::now())),
            Err(e) => self.again(Duration::ZERO, &format!("cannot start {program}: {e}")),
        }
    }

    fn reap(&mut self) {
        // Any child: orphans of the whole node come here.
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let (pid, words) = match status {
                WaitStatus::Exited(pid, 0) => (pid, None),
                WaitStatus::Exited(pid, code) => {
                    (pid, Some(format!("krgd ended with status {code}")))
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    (pid, Some(format!("krgd was ended by {signal}")))
                }
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if self.krgd.is_some_and(|(krgd, _)| krgd == pid) {
                self.krgd_ended(words);
            }
        }
    }

    fn krgd_ended(&mut self, words: Option<String>) {
        let life = self.krgd.take().map(|(_, since)| since.elapsed()).unwrap_or_default();
        match words {
            // Told to end, by a shutdown of the cluster or by hand: it stays down.
            None => {
                println!("krg-init: krgd ended in good order; `krg lab heal` starts it");
                self.say(&Report::Stopped);
            }
            Some(words) if self.stop_at.is_none() => self.again(life, &words),
            Some(_) => {}
        }
    }

    fn again(&mut self, life: Duration, words: &str) {
        let delay = self.restarts.delay(life);
        println!("krg-init: {words}; starting it again in {} ms", delay.as_millis());
        self.start_at = Some(Instant::now() + delay);
        self.say(&Report::Ended(words.to_owned()));
    }

    fn say(&mut self, report: &Report) {
        // One write below the size of a pipe's buffer: it is whole or not there.
        let _ = self.report.write_all(line(report).as_bytes());
    }
}
