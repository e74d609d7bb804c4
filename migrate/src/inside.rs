//! The side of a job that is on this node: its first process, and this side of the pipes and of the
//! terminal that lead out of it.

use crate::flow::{Chunk, Credit, Reader, Writer};
use crate::images::drain;
use crate::report::REPORT_BYTES;
use crate::terminal::Terminal;
use krg_rpc::proto::job as wire;
use krg_sys::open_file::{OpenFile, SFlag, open_again, open_file};
use krg_sys::process::{PidFd, Signal, WindowSize};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use tokio::sync::mpsc::UnboundedSender;

/// The channel of a job's terminal; those of its standard descriptors have their numbers.
pub const TERMINAL: u32 = 3;

/// What comes out of a job.
#[derive(Debug)]
pub enum Told {
    /// Written on a channel; `None`: nothing more comes.
    Out(u32, Option<Chunk>),
    /// Nobody reads on this channel any more.
    Deaf(u32),
    /// Its first process has said something; `None`: that has ended.
    Report(Option<[u8; REPORT_BYTES]>),
}

/// One way out of a job.
pub struct End {
    channel: u32,
    /// The job reads from it (a pipe).
    reads: bool,
    /// As CRIU names the job's side.
    name: String,
    kind: Kind,
    reader: Option<Reader>,
    writer: Option<Writer>,
}

enum Kind {
    Pipe(OwnedFd),
    Terminal(Terminal),
}

/// As CRIU names what is outside of what it saves: `pipe:[INO]`, `tty[RDEV:DEV]`.
fn name_of(fd: impl AsFd) -> io::Result<String> {
    let OpenFile { kind, dev, ino, rdev } = open_file(fd)?;
    Ok(match kind == SFlag::S_IFCHR {
        true => format!("tty[{rdev:x}:{dev:x}]"),
        false => format!("pipe:[{ino}]"),
    })
}

impl End {
    /// A pipe, and the job's side of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pipe(channel: u32, reads: bool) -> io::Result<(End, OwnedFd)> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (ours, theirs) = if reads { (write, read) } else { (read, write) };
        let name = name_of(&theirs)?;
        // Not by its flags, which the job's side does not share: by an open file of its own.
        let ours = OwnedFd::from(open_again(&ours, !reads, reads)?);
        let kind = Kind::Pipe(ours);
        Ok((End { channel, reads, name, kind, reader: None, writer: None }, theirs))
    }

    /// A terminal, and the job's side of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn terminal(owner: u32, size: WindowSize) -> io::Result<(End, OwnedFd)> {
        let (terminal, slave) = Terminal::open(owner, size)?;
        let theirs = OwnedFd::from(slave);
        let name = name_of(&theirs)?;
        let (kind, reads) = (Kind::Terminal(terminal), false);
        Ok((End { channel: TERMINAL, reads, name, kind, reader: None, writer: None }, theirs))
    }

    /// One that has moved, as it was told, and the job's side of it.
    ///
    /// # Errors
    /// The kernel's; InvalidData for what is none.
    pub fn again(told: &wire::End, owner: u32) -> io::Result<(End, OwnedFd)> {
        if told.channel != TERMINAL {
            return match told.channel < TERMINAL {
                true => End::pipe(told.channel, told.reads),
                false => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        let number = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size = WindowSize::new(number(told.rows), number(told.columns));
        let (end, theirs) = End::terminal(owner, size)?;
        if let Kind::Terminal(terminal) = &end.kind {
            terminal.set(&told.settings)?;
        }
        Ok((end, theirs))
    }

    /// For the node where it goes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn told(&self) -> io::Result<wire::End> {
        let (channel, name, reads) = (self.channel, self.name.clone(), self.reads);
        let mut told = wire::End { channel, name, reads, ..wire::End::default() };
        if let Kind::Terminal(terminal) = &self.kind {
            let (settings, size) = terminal.settings()?;
            let (rows, columns) = size.parts();
            told.settings = settings;
            (told.rows, told.columns) = (rows.into(), columns.into());
        }
        Ok(told)
    }

    fn connect(&mut self, tell: &UnboundedSender<Told>) -> io::Result<()> {
        let (channel, reads) = (self.channel, self.reads);
        let ours = match &self.kind {
            Kind::Pipe(ours) => ours.try_clone()?,
            Kind::Terminal(terminal) => terminal.master()?,
        };
        if !reads {
            let (tell, ours) = (tell.clone(), ours.try_clone()?);
            self.reader = Some(Reader::start(ours, Credit::default(), move |chunk| {
                let _ = tell.send(Told::Out(channel, chunk));
            }));
        }
        if reads || channel == TERMINAL {
            let tell = tell.clone();
            self.writer = Some(Writer::start(ours, move || {
                let _ = tell.send(Told::Deaf(channel));
            }));
        }
        Ok(())
    }
}

/// What was on its way into the job.
#[derive(Debug, Default)]
pub struct Stopped {
    /// On each channel, and whether it was the last there.
    pub unread: Vec<wire::Unread>,
    /// What the job had written, and nobody had read.
    pub written: Vec<(u32, Vec<u8>)>,
}

/// A job that is here.
pub struct Inside {
    /// Its first process.
    pub init: PidFd,
    /// Its number on this node.
    pub init_pid: u32,
    /// As CRIU names the pipe of its reports.
    pub report_name: String,
    report: File,
    ends: Vec<End>,
    report_reader: Option<Reader>,
}

impl Inside {
    /// Of what there is; nothing flows yet.
    ///
    /// # Errors
    /// ESRCH when the first process is not there any more.
    pub fn new(
        init_pid: u32,
        report: File,
        report_name: String,
        ends: Vec<End>,
    ) -> io::Result<Inside> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let init = PidFd::open(init_pid)?.ok_or_else(gone)?;
        Ok(Inside { init, init_pid, report_name, report, ends, report_reader: None })
    }

    /// What comes out of it is told from now on; what was read before goes in first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(
        &mut self,
        tell: &UnboundedSender<Told>,
        unread: Vec<wire::Unread>,
    ) -> io::Result<()> {
        for end in &mut self.ends {
            end.connect(tell)?;
        }
        for wire::Unread { channel, data, ended } in unread {
            let Some(end) = self.ends.iter().find(|end| end.channel == channel) else { continue };
            match (&end.kind, &end.writer) {
                (Kind::Terminal(terminal), writer) => {
                    // More than a terminal keeps is typed as there is room for it.
                    let kept = terminal.type_again(&data)?;
                    if let (Some(writer), [_, ..]) = (writer, &data[kept..]) {
                        writer.push(data[kept..].to_vec().into());
                    }
                }
                (_, Some(writer)) => writer.push(data.into()),
                _ => {}
            }
            if let (true, Some(writer)) = (ended, &end.writer) {
                writer.end();
            }
        }
        let tell = tell.clone();
        let report = OwnedFd::from(open_again(&self.report, true, false)?);
        let mut read = Vec::new();
        self.report_reader = Some(Reader::start(report, Credit::default(), move |chunk| {
            let over = chunk.is_none();
            read.extend(chunk.into_iter().flat_map(|chunk| chunk.bytes));
            while let Some((first, rest)) = read.split_first_chunk::<REPORT_BYTES>() {
                let (first, rest) = (*first, rest.to_vec());
                let _ = tell.send(Told::Report(Some(first)));
                read = rest;
            }
            if over {
                let _ = tell.send(Told::Report(None));
            }
        }));
        Ok(())
    }

    /// Channels on which something may come out of it.
    pub fn outs(&self) -> HashSet<u32> {
        self.ends.iter().filter(|end| !end.reads).map(|end| end.channel).collect()
    }

    /// Has all been read that it has written?
    pub fn is_idle(&self) -> bool {
        self.ends.iter().all(|end| end.reader.as_ref().is_none_or(Reader::is_idle))
    }

    /// Into the job.
    pub fn push(&self, channel: u32, chunk: Chunk) {
        if let Some(writer) = self.writer(channel) {
            writer.push(chunk);
        }
    }

    /// Nothing more comes in on this channel.
    pub fn end(&self, channel: u32) {
        if let Some(writer) = self.writer(channel) {
            writer.end();
        }
    }

    fn writer(&self, channel: u32) -> Option<&Writer> {
        self.ends.iter().find(|end| end.channel == channel)?.writer.as_ref()
    }

    /// What nobody hears any more is not read, and the job's writing to it fails.
    pub fn close(&mut self, channel: u32) {
        self.ends.retain(|end| end.channel != channel);
    }

    /// Its terminal.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.ends.iter().find_map(|end| match &end.kind {
            Kind::Terminal(terminal) => Some(terminal),
            Kind::Pipe(_) => None,
        })
    }

    /// Of all that leads out of it, for the node where it goes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn told(&self) -> io::Result<Vec<wire::End>> {
        self.ends.iter().map(End::told).collect()
    }

    /// As CRIU names what leads out of it.
    pub fn names(&self) -> Vec<String> {
        self.ends.iter().map(|end| end.name.clone()).collect()
    }

    /// Takes what is on its way between the job, which stands still, and its holder. What was told
    /// before is told; nothing is from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn stop(&mut self) -> io::Result<Stopped> {
        let mut stopped = Stopped::default();
        if let Some(reader) = self.report_reader.take() {
            reader.stop().await;
        }
        for end in &mut self.ends {
            let channel = end.channel;
            if let Some(reader) = end.reader.take() {
                reader.stop().await;
            }
            let (mut data, ended) = match end.writer.take() {
                Some(writer) => writer.stop().await,
                None => (Vec::new(), false),
            };
            match &end.kind {
                Kind::Terminal(terminal) => {
                    let typed = terminal.take_typed()?;
                    data.splice(0..0, typed);
                    stopped.written.push((channel, read_out(terminal)?));
                }
                Kind::Pipe(ours) if end.reads => {
                    data.splice(0..0, drain(ours)?);
                }
                Kind::Pipe(ours) => stopped.written.push((channel, drain(ours)?)),
            }
            if !data.is_empty() || ended {
                stopped.unread.push(wire::Unread { channel, data, ended });
            }
        }
        Ok(stopped)
    }

    /// A signal to what is in front on its terminal, or else to the program's process group.
    pub fn signal(&self, signal: Signal, program: u32) {
        if let Some(Ok(())) = self.terminal().map(|terminal| terminal.signal(signal)) {
            return;
        }
        if let Some(pid) = crate::members::find(self.init_pid, program) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid as i32), signal);
        }
    }
}

/// What is there to be read at the master's side.
fn read_out(terminal: &Terminal) -> io::Result<Vec<u8>> {
    let mut master = File::from(terminal.master()?);
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match master.read(&mut buf) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // EIO: nobody has the other side any more.
            Err(_) => return Ok(all),
        }
    }
}
