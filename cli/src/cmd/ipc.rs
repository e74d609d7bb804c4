//! Kerrighed's `ipccheckpoint` and `ipcrestart`: one object of System V, to a file and from there,
//! in the caller's own IPC namespace.

mod format;

use crate::args::exit_codes;
use anyhow::{Context, Result, bail};
use clap::{ArgGroup, CommandFactory, Parser};
use format::{Content, HEADER_BYTES, MESSAGES_MAX, Object};
use krg_sys::sysv::{self, Attached, Kind};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Of a message, a set of semaphores or a description, bytes: more than the kernel takes.
const CONTENT_BYTES_MAX: u64 = 256 << 20;
/// Shared memory is copied in pieces of this.
const PIECE_BYTES: usize = 1 << 20;

/// Writes an object of System V to a file that is not there yet (Kerrighed).
#[derive(Parser)]
#[command(name = "ipccheckpoint", version, after_help = exit_codes!())]
#[command(group = ArgGroup::new("kind").args(["queue", "semaphores", "memory"]).required(true))]
struct IpcCheckpoint {
    #[command(flatten)]
    which: Which,
    /// Its number (ipcs)
    #[arg(value_name = "IPCID")]
    id: i32,
    /// The file
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Makes an object of System V from a file (Kerrighed).
#[derive(Parser)]
#[command(name = "ipcrestart", version, after_help = exit_codes!())]
#[command(group = ArgGroup::new("kind").args(["queue", "semaphores", "memory"]).required(true))]
struct IpcRestart {
    #[command(flatten)]
    which: Which,
    /// The file
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

#[derive(clap::Args)]
struct Which {
    /// A message queue
    #[arg(short)]
    queue: bool,
    /// A set of semaphores
    #[arg(short)]
    semaphores: bool,
    /// Shared memory
    #[arg(short)]
    memory: bool,
}

impl Which {
    fn kind(&self) -> Kind {
        match (self.queue, self.semaphores) {
            (true, _) => Kind::Queue,
            (_, true) => Kind::Semaphores,
            _ => Kind::Memory,
        }
    }
}

/// The descriptions that their man pages are made from.
pub fn commands() -> [clap::Command; 2] {
    [IpcCheckpoint::command(), IpcRestart::command()]
}

/// `ipccheckpoint`.
pub fn checkpoint(argv: Vec<OsString>) -> Result<u8> {
    let IpcCheckpoint { which, id, path } = IpcCheckpoint::parse_from(argv);
    let mut new = File::options();
    new.write(true).create_new(true).mode(0o600);
    let named = || path.display().to_string();
    let mut file = new.open(&path).with_context(named)?;
    let saved = save(which.kind(), id, &mut file).and_then(|()| Ok(file.sync_all()?));
    if let Err(e) = saved {
        // Half of one is none.
        let _ = std::fs::remove_file(&path);
        return Err(e.context(id.to_string()));
    }
    Ok(0)
}

fn save(kind: Kind, id: i32, file: &mut File) -> Result<()> {
    let (common, content) = match kind {
        Kind::Queue => {
            let (common, _, bytes_max) = sysv::queue(id)?;
            (common, Content::Queue { bytes_max, messages: messages(id, bytes_max)? })
        }
        Kind::Semaphores => {
            let (common, values) = sysv::semaphores(id)?;
            (common, Content::Semaphores(values))
        }
        Kind::Memory => {
            let (common, bytes) = sysv::memory(id)?;
            (common, Content::Memory(bytes))
        }
    };
    file.write_all(&Object { id, common, content }.written())?;
    if kind == Kind::Memory {
        let (attached, mut at, mut buf) = (Attached::new(id, false)?, 0, vec![0; PIECE_BYTES]);
        loop {
            match attached.read(at, &mut buf) {
                0 => break,
                n => file.write_all(&buf[..n])?,
            }
            at += PIECE_BYTES;
        }
    }
    Ok(())
}

fn messages(id: i32, bytes_max: u64) -> Result<Vec<(i64, Vec<u8>)>> {
    let longest = usize::try_from(bytes_max.min(CONTENT_BYTES_MAX))?;
    let mut all = Vec::new();
    while let Some(message) = sysv::message(id, i32::try_from(all.len())?, longest)? {
        all.push(message);
        if all.len() > MESSAGES_MAX {
            bail!("too many messages");
        }
    }
    Ok(all)
}

/// `ipcrestart`.
pub fn restart(argv: Vec<OsString>) -> Result<u8> {
    let IpcRestart { which, path } = IpcRestart::parse_from(argv);
    make(which.kind(), &path).with_context(|| path.display().to_string())?;
    Ok(0)
}

fn make(kind: Kind, path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    let head = if kind == Kind::Memory { HEADER_BYTES as u64 } else { CONTENT_BYTES_MAX };
    (&mut file).take(head).read_to_end(&mut bytes)?;
    let Object { id, common, content } = Object::read(&bytes, length)?;
    if content.kind() != kind {
        bail!("it is of another kind");
    }
    sysv::number_next(kind, id);
    match content {
        Content::Queue { bytes_max, messages } => {
            let id = sysv::make_queue(common, bytes_max)?;
            let put = messages.iter().try_for_each(|(kind, text)| sysv::put(id, *kind, text));
            undone(kind, id, put)
        }
        Content::Semaphores(mut values) => {
            sysv::make_semaphores(common, &mut values)?;
            Ok(())
        }
        Content::Memory(bytes) => {
            let id = sysv::make_memory(common, bytes)?;
            undone(kind, id, fill(id, &mut file))
        }
    }
}

fn fill(id: i32, file: &mut File) -> io::Result<()> {
    let (mut attached, mut at, mut buf) = (Attached::new(id, true)?, 0, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(()),
            n => at += attached.write(at, &buf[..n]),
        }
    }
}

/// What could not be filled is not left.
fn undone(kind: Kind, id: i32, filled: io::Result<()>) -> Result<()> {
    if filled.is_err() {
        let _ = sysv::remove(kind, id);
    }
    Ok(filled?)
}
