//! Where others on this node find a job: a socket, and a file about it.

use crate::job::Job;
use crate::members;
use krg_sys::ns;
use krg_sys::process::{self, PidFd, Signal};
use nix::errno::Errno;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// It.
pub struct Place {
    dir: PathBuf,
    id: u32,
    listener: Option<UnixListener>,
}

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// The job.
    pub id: u32,
    /// Its first process here, or 0.
    pub init: u32,
    /// When that has started, in ticks since boot.
    pub start: u64,
    /// Its PID namespace here.
    pub namespace: String,
    /// First and last of its numbers, or 0.
    pub pids: (u32, u32),
}

/// The socket of a job's holder.
pub fn socket(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id}.sock"))
}

/// For CRIU's sockets and logs, of one move of a job.
pub fn criu_dir(dir: &Path, id: u32, trace: &str) -> PathBuf {
    dir.join(format!("{id}.{trace}.criu"))
}

/// In the directory of a move: the numbers of a job that is on its way here.
const COMING: &str = "coming";

/// A job with these numbers is on its way here, until this directory of its move is put away.
///
/// # Errors
/// The kernel's.
pub fn mark_coming(criu_dir: &Path, (first, last): (u32, u32)) -> io::Result<()> {
    fs::write(criu_dir.join(COMING), format!("{first} {last}\n"))
}

/// The numbers of those that are on their way here.
pub fn coming(dir: &Path) -> Vec<(u32, u32)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let moves = entries.filter(|e| e.file_name().as_encoded_bytes().ends_with(b".criu"));
    let numbers = moves.filter_map(|e| {
        let text = fs::read_to_string(e.path().join(COMING)).ok()?;
        let (first, last) = text.trim().split_once(' ')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    numbers.collect()
}

/// What is known of all jobs that have a holder on this node.
pub fn all(dir: &Path) -> Vec<About> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| About::parse(&fs::read_to_string(dir.join(id.to_string())).ok()?))
        .collect()
}

/// What is known of a job, for who looks after it when its holder is killed.
///
/// # Errors
/// The kernel's.
pub fn note(dir: &Path, job: &Job, init: u32) -> io::Result<()> {
    let about = About {
        id: job.id,
        init,
        start: process::start_time(init)?.unwrap_or(0),
        namespace: ns::id(init, "pid").unwrap_or_else(|_| "-".into()),
        pids: job.pids.unwrap_or_default(),
    };
    // Never half of it.
    let new = dir.join(format!("{}.new", job.id));
    fs::write(&new, about.text())?;
    fs::rename(new, dir.join(job.id.to_string()))
}

/// In the directory of a move: the first process of what CRIU is bringing back, and its start.
const INIT: &str = "init";

/// What CRIU is bringing back, with its directory, has this first process.
///
/// # Errors
/// The kernel's.
pub fn note_init(criu_dir: &Path, init: u32) -> io::Result<()> {
    let start = process::start_time(init)?.unwrap_or(0);
    fs::write(criu_dir.join(INIT), format!("{init} {start}"))
}

/// Puts away what CRIU has left: processes that it has not brought back to the end, and its
/// directory.
pub fn clear(criu_dir: &Path) {
    let text = fs::read_to_string(criu_dir.join(INIT)).unwrap_or_default();
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    if let (Some(Ok(init)), Some(Ok(start))) = (words.next(), words.next())
        && let Ok(init) = u32::try_from(init)
    {
        end(init, start);
    }
    let _ = fs::remove_dir_all(criu_dir);
}

fn end(init: u32, start: u64) {
    if let Ok(Some(first)) = PidFd::open_started(init, start)
        && let Ok(true) = first.signal(Signal::SIGKILL)
    {
        // If it is a child here.
        process::reap(init);
    }
}

/// Puts away what holders have left that were killed: a job that nobody holds ends. Directories of
/// moves are told, to be cleared: CRIU may still write to them for a moment.
pub fn sweep(dir: &Path) -> Vec<PathBuf> {
    for about in all(dir).into_iter().filter(|about| !is_held(dir, about.id)) {
        tracing::warn!(job = about.id, "its holder was killed: it ends");
        end(about.init, about.start);
        let _ = fs::remove_file(dir.join(about.id.to_string()));
        let _ = fs::remove_file(socket(dir, about.id));
    }
    let mut left = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // Of who was killed before anything was noted of its job.
        let place = name.to_str().and_then(|name| name.strip_suffix(".sock")?.parse().ok());
        if place.is_some_and(|id| !is_held(dir, id)) {
            let _ = fs::remove_file(entry.path());
        }
        let name = name.to_str().and_then(|name| name.strip_suffix(".criu"));
        let id = name.and_then(|name| name.split('.').next()?.parse().ok());
        if id.is_some_and(|id| !is_held(dir, id)) {
            left.push(entry.path());
        }
    }
    left
}

/// Has somebody the place of this job?
pub fn is_held(dir: &Path, id: u32) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asked = UnixAddr::new(&self::socket(dir, id)).and_then(|address| {
        let asks = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(asks.as_raw_fd(), &address)
    });
    // Who has no room for more is there.
    matches!(asked, Ok(()) | Err(Errno::EAGAIN))
}

impl About {
    /// Is this number the job's, or one of its own?
    pub fn owns(&self, number: u32) -> bool {
        let (first, last) = self.pids;
        number == self.id || (first > 0 && (first..=last).contains(&number))
    }

    /// The process with this number of the job's own, as this node numbers it, if it is here.
    pub fn process(&self, number: u32) -> Option<u32> {
        if self.init == 0 { None } else { members::find(self.init, number) }
    }

    fn text(&self) -> String {
        let About { id, init, start, namespace, pids: (first, last) } = self;
        format!("{id} {init} {start} {namespace} {first} {last}\n")
    }

    fn parse(text: &str) -> Option<About> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [id, init, start, namespace, first, last] = words[..] else { return None };
        Some(About {
            id: id.parse().ok()?,
            init: init.parse().ok()?,
            start: start.parse().ok()?,
            namespace: namespace.to_owned(),
            pids: (first.parse().ok()?, last.parse().ok()?),
        })
    }
}

impl Place {
    /// Takes it. Nothing is told of it before `changed`.
    ///
    /// # Errors
    /// When there is one of this job already, or none can be made.
    pub fn take(dir: &Path, id: u32) -> io::Result<Place> {
        fs::create_dir_all(dir)?;
        let socket = socket(dir, id);
        if is_held(dir, id) {
            let why = format!("job {id} has a holder here already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        // Who connects is looked at: root, or the owner.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
        Ok(Place { dir: dir.to_owned(), id, listener: Some(listener) })
    }

    /// Its first process here is another now, or none (0).
    ///
    /// # Errors
    /// The kernel's.
    pub fn changed(&self, job: &Job, init: u32) -> io::Result<()> {
        note(&self.dir, job, init)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.id.to_string())
    }

    /// Who connects, comes there; can be taken once.
    ///
    /// # Errors
    /// When it was taken.
    pub fn listener(&mut self) -> io::Result<UnixListener> {
        self.listener.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// For CRIU.
    pub fn criu_dir(&self, trace: &str) -> PathBuf {
        criu_dir(&self.dir, self.id, trace)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The socket last: who finds a file and nobody there ends what it tells of.
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_file(socket(&self.dir, self.id));
    }
}
