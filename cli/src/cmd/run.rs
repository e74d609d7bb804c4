//! `krg run`: starts a program as a job, and stays with it.

use crate::args::RunArgs;
use crate::daemon;
use anyhow::{Context, Result, bail};
use krg_rpc::job::{Received, written};
use krg_rpc::proto::job::{self as wire, from_job, to_job};
use krg_sys::fd_passing;
use krg_sys::process::{SigSet, Signal, WindowSize};
use krg_types::limits::PROTOCOL_VERSION;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Signals that are passed on to a job without a terminal.
const PASSED: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];

/// Runs it; its exit code.
pub fn run(args: RunArgs) -> Result<u8> {
    let background = args.background;
    run_told(args, move |job, _| {
        if background {
            println!("{job}");
        }
        Ok(())
    })
}

/// What is told of a job that was started: its number, and what ends a line now.
type Told = Box<dyn Fn(u32, &str) -> Result<()>>;

/// As [`run`]; `told` hears the job's number.
pub fn run_told(args: RunArgs, told: impl Fn(u32, &str) -> Result<()> + 'static) -> Result<u8> {
    if let Some(Err(words)) = args.cap.as_deref().map(super::capset::parse) {
        bail!(words);
    }
    let socket = daemon::socket().with_file_name("jobs.sock");
    let stream = UnixStream::connect(&socket);
    let stream = stream.with_context(|| {
        format!(
            "no job can be started at {} (is krgd running? `krg doctor` tells)",
            socket.display()
        )
    })?;
    let on_terminal = !args.background && io::stdin().is_terminal() && io::stdout().is_terminal();
    let size = on_terminal.then(|| WindowSize::of(io::stdin())).transpose()?;
    ask(&stream, &args, size)?;
    let signals = blocked()?;
    let raw = size.and_then(|_| RawMode::set());
    let name = args.command.first().map(|p| p.to_string_lossy().into_owned());
    let session = Session {
        stream,
        received: Received::default(),
        on_terminal,
        background: args.background,
        name: name.unwrap_or_default(),
        only_print: false,
        told: Box::new(told),
    };
    let ended = session.follow(&signals);
    drop(raw);
    ended
}

/// `krg attach`, and `krg logs`: a job of this node, by its number or its name.
pub fn attach(job: &str, only_print: bool) -> Result<u8> {
    let known = super::jobs::everywhere()?.jobs;
    let is_it = |info: &&wire::JobInfo| info.name == job || info.id.to_string() == job;
    let found: Vec<_> = known.iter().filter(is_it).collect();
    let info = match found[..] {
        [info] => info,
        [] => bail!("there is no job {job} (krg jobs shows them)"),
        _ => bail!("{} jobs are called {job}: take its number (krg jobs)", found.len()),
    };
    let own = daemon::status()?.node;
    if info.home != own {
        let (id, home) = (info.id, info.home);
        bail!("job {id} was started on node {home}: its terminal is there");
    }
    let place = daemon::socket().with_file_name("jobs").join(format!("{}.sock", info.id));
    let stream = UnixStream::connect(&place);
    let stream = stream.with_context(|| format!("cannot connect with job {}", info.id))?;
    let on_terminal = !only_print && io::stdin().is_terminal() && io::stdout().is_terminal();
    let size = on_terminal.then(|| WindowSize::of(io::stdin())).transpose()?;
    let attach = wire::Attach { version: PROTOCOL_VERSION, size: size.map(window) };
    (&stream).write_all(&written(&wire::ToJob { what: Some(to_job::What::Attach(attach)) }))?;
    if only_print {
        let about = wire::About { version: PROTOCOL_VERSION };
        (&stream).write_all(&written(&wire::ToJob { what: Some(to_job::What::About(about)) }))?;
    }
    let signals = blocked()?;
    let raw = size.and_then(|_| RawMode::set());
    let received = Received::default();
    let name = info.name.clone();
    let session = Session { only_print, ..Session::new(stream, received, on_terminal, name) };
    let ended = session.follow(&signals);
    drop(raw);
    ended
}

pub(super) fn blocked() -> Result<SignalFd> {
    let signals = (PASSED.into_iter()).collect::<SigSet>();
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn ask(stream: &UnixStream, args: &RunArgs, size: Option<WindowSize>) -> Result<()> {
    let cwd = std::env::current_dir().context("the working directory is gone")?;
    let env = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(umask);
    let run = wire::Run {
        version: PROTOCOL_VERSION,
        argv: args.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: env.collect(),
        cwd: cwd.as_os_str().as_bytes().to_vec(),
        umask: umask.bits(),
        name: args.name.clone().unwrap_or_default(),
        terminal: size.map(window),
        background: args.background,
        capabilities: args.cap.clone().unwrap_or_default(),
    };
    let bytes = written(&wire::ToJob { what: Some(to_job::What::Run(run)) });
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let fds = match (size.is_some(), args.background) {
        (true, _) => vec![],
        (false, true) => vec![null.as_fd(), null.as_fd(), null.as_fd()],
        (false, false) => vec![input.as_fd(), output.as_fd(), error.as_fd()],
    };
    let sent = fd_passing::send(stream, &bytes, &fds)?;
    Ok((&*stream).write_all(&bytes[sent..])?)
}

pub(super) fn window(size: WindowSize) -> wire::WindowSize {
    let (rows, columns) = size.parts();
    wire::WindowSize { rows: rows.into(), columns: columns.into() }
}

pub(super) struct Session {
    stream: UnixStream,
    received: Received,
    on_terminal: bool,
    background: bool,
    name: String,
    /// What it has written by now is all that is wanted.
    only_print: bool,
    told: Told,
}

impl Session {
    /// With a job that is there.
    pub(super) fn new(
        stream: UnixStream,
        received: Received,
        on_terminal: bool,
        name: String,
    ) -> Session {
        let (background, only_print) = (false, false);
        let told: Told = Box::new(|_, _| Ok(()));
        Session { stream, received, on_terminal, background, name, only_print, told }
    }

    fn tell(&mut self, what: to_job::What) -> Result<()> {
        let bytes = written(&wire::ToJob { what: Some(what) });
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Until the program has ended, or been started if nobody waits for it.
    pub(super) fn follow(mut self, signals: &SignalFd) -> Result<u8> {
        let mut typing = self.on_terminal;
        let mut buf = vec![0; READ_BYTES];
        loop {
            while let Some(message) = self.received.take::<wire::FromJob>()? {
                if let Some(code) = self.heard(message)? {
                    return Ok(code);
                }
            }
            let stdin = io::stdin();
            let mut fds = vec![
                PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(typing.then(|| PollFd::new(stdin.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
            if ready[0] {
                match self.stream.read(&mut buf)? {
                    0 => bail!("the job's supervisor has ended"),
                    n => self.received.add(&buf[..n]),
                }
            }
            if ready[1] {
                self.signalled(signals)?;
            }
            if ready.get(2) == Some(&true) {
                match nix::unistd::read(&stdin, &mut buf) {
                    Ok(0) | Err(Errno::EIO) => {
                        typing = false;
                        self.tell(to_job::What::Signal(Signal::SIGHUP as i32))?;
                    }
                    Ok(n) => self.tell(to_job::What::Input(buf[..n].to_vec()))?,
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }

    fn signalled(&mut self, signals: &SignalFd) -> Result<()> {
        while let Some(info) = signals.read_signal()? {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGWINCH) if self.on_terminal => {
                    let size = window(WindowSize::of(io::stdin())?);
                    self.tell(to_job::What::Size(size))?;
                }
                Ok(Signal::SIGWINCH) | Err(_) => {}
                Ok(signal) => self.tell(to_job::What::Signal(signal as i32))?,
            }
        }
        Ok(())
    }

    fn heard(&mut self, message: wire::FromJob) -> Result<Option<u8>> {
        match message.what {
            Some(from_job::What::Started(started)) => {
                // On a raw terminal a line does not begin at the left by itself.
                (self.told)(started.pid, if self.on_terminal { "\r\n" } else { "\n" })?;
                io::stdout().flush()?;
                Ok(self.background.then_some(0))
            }
            Some(from_job::What::Output(bytes)) => {
                io::stdout().write_all(&bytes)?;
                io::stdout().flush()?;
                Ok(None)
            }
            Some(from_job::What::Info(_)) if self.only_print => Ok(Some(0)),
            Some(from_job::What::Ended(ended)) => {
                if !ended.lost.is_empty() {
                    eprintln!("krg run: {}: it is lost: {}", self.name, ended.lost);
                }
                Ok(Some(exit_code(&ended)))
            }
            Some(from_job::What::Refused(refused)) => {
                eprintln!("krg run: {}: {}", self.name, refused.why);
                Ok(Some(match refused.errno {
                    0 => 1,
                    libc::ENOENT => 127,
                    _ => 126,
                }))
            }
            _ => Ok(None),
        }
    }
}

/// As a shell has it.
fn exit_code(ended: &wire::Ended) -> u8 {
    let code = ended.code.or(ended.signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The user's terminal hands every key on as it is, until this is dropped.
pub struct RawMode(Termios);

impl RawMode {
    /// From now on.
    pub fn set() -> Option<RawMode> {
        let old = tcgetattr(io::stdin()).ok()?;
        let mut raw = old.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(RawMode(old))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}
