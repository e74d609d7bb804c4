//! Open files and directories of one mount.

use super::behind::Failure;
use bytes::Bytes;
use fuser::INodeNo;
use krg_faf::bytes::Bounded;
use krg_faf::op::{Caller, Handle, Line, OpenId, Opened};
use krg_types::limits::HANDLES_MAX;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open file.
pub struct OpenFile {
    /// Which.
    pub ino: INodeNo,
    /// What its server calls it.
    pub handle: Arc<Handle>,
    /// What it was opened with.
    pub flags: u32,
    /// That it was.
    pub proof: Bounded<32>,
    /// By whom.
    pub opener: Caller,
    /// Its number on the server, and in which life of that.
    remote: Mutex<(u64, OpenId)>,
    /// Its beginning, as it came with the answer that it is open.
    first: Mutex<Option<First>>,
    /// Who has locked something through it.
    owners: Mutex<HashSet<u64>>,
    /// A lock was lost: what relies on it must not go on.
    lost: AtomicBool,
    /// Of a write that was not waited for.
    pub failure: Failure,
}

/// The beginning of a file, as it was at a moment.
struct First {
    bytes: Bytes,
    /// There is nothing behind it.
    whole: bool,
    moment: Moment,
    at: Instant,
}

/// How often the server has told of changes of a file, and this node has changed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// By the server.
    pub changes: u64,
    /// Here.
    pub edits: u64,
}

/// The beginning of a file is of use for so long.
const FIRST_MAX: Duration = Duration::from_secs(1);

impl OpenFile {
    /// As a server has opened it.
    pub fn new(
        ino: INodeNo,
        handle: Arc<Handle>,
        flags: u32,
        opener: Caller,
        opened: &Opened,
    ) -> OpenFile {
        OpenFile {
            ino,
            handle,
            flags,
            proof: opened.proof.clone(),
            opener,
            remote: Mutex::new((opened.life, opened.open)),
            first: Mutex::default(),
            owners: Mutex::default(),
            lost: AtomicBool::new(false),
            failure: Failure::default(),
        }
    }

    /// Its number on the server in this life of that; `None` if it was opened in another.
    pub fn remote(&self, life: u64) -> Option<OpenId> {
        let (of, open) = *lock(&self.remote);
        (of == life).then_some(open)
    }

    /// It was opened again; false if somebody else has done it meanwhile.
    pub fn reopened(&self, life: u64, open: OpenId) -> bool {
        let mut remote = lock(&self.remote);
        if remote.0 == life {
            return false;
        }
        *remote = (life, open);
        if !lock(&self.owners).is_empty() {
            self.lost.store(true, Ordering::Release);
        }
        true
    }

    /// May who writes go on before it is written? Not if it was opened to know it, or where.
    pub fn may_lag(&self) -> bool {
        let waits = libc::O_SYNC | libc::O_DSYNC | libc::O_APPEND | libc::O_DIRECT;
        self.flags as i32 & waits == 0
    }

    /// Has it lost a lock?
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Its beginning, if `asked` bytes of it were asked for and these came.
    pub fn set_first(&self, bytes: Bytes, asked: u32, moment: Moment) {
        let whole = bytes.len() < asked as usize;
        *lock(&self.first) = Some(First { bytes, whole, moment, at: Instant::now() });
    }

    /// What a first read gets from it, if nothing has changed since. It is given once: later ones
    /// want what is there then.
    pub fn take_first(&self, offset: u64, size: u32, now: Moment) -> Option<Bytes> {
        let first = lock(&self.first).take()?;
        if first.moment != now || first.at.elapsed() >= FIRST_MAX {
            return None;
        }
        let start = usize::try_from(offset).ok()?.min(first.bytes.len());
        let end = start.saturating_add(size as usize);
        if end > first.bytes.len() && !first.whole {
            return None;
        }
        Some(first.bytes.slice(start..end.min(first.bytes.len())))
    }

    /// What is read now has to be what is there now.
    pub fn forget_first(&self) {
        lock(&self.first).take();
    }

    /// Somebody has locked something.
    pub fn locked(&self, owner: u64) {
        lock(&self.owners).insert(owner);
    }

    /// One who has, and has not given it up.
    pub fn owner_left(&self) -> Option<u64> {
        lock(&self.owners).iter().next().copied()
    }

    /// Has this owner? It has not any more.
    pub fn unlocked(&self, owner: u64) -> bool {
        lock(&self.owners).remove(&owner)
    }
}

/// When something was asked: what is told meanwhile may make the answer old.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// How many notices had come.
    pub notices: u64,
    /// Which writes had been answered, as `Behind` counts them.
    pub writes: u64,
    /// What had been changed here, as `Touched` counts it.
    pub touched: u64,
}

/// A part of a directory, read but not yet asked for.
pub struct Part {
    /// Where its first line is.
    pub start: i64,
    /// Lines.
    pub lines: Vec<Line>,
    /// Nothing follows.
    pub end: bool,
    /// When it was asked for.
    pub asked: Asked,
    /// By the clock.
    pub at: Instant,
}

impl Part {
    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    /// The lines from `offset` on; `None` if they are not in it.
    pub fn from(&self, offset: i64) -> Option<&[Line]> {
        if offset == self.start {
            return Some(&self.lines);
        }
        let at = self.lines.iter().position(|line| line.next == offset)?;
        let rest = &self.lines[at + 1..];
        (!rest.is_empty() || self.end).then_some(rest)
    }
}

/// An open directory.
pub struct OpenDir {
    /// What its server calls it.
    pub handle: Arc<Handle>,
    /// Its number on the server, and in which life; none if it was read in one go.
    remote: Mutex<Option<(u64, OpenId)>>,
    part: Mutex<Arc<Part>>,
    /// Nobody has read it from the beginning yet.
    fresh: AtomicBool,
}

impl OpenDir {
    /// As it was opened.
    pub fn new(handle: Arc<Handle>, remote: Option<(u64, OpenId)>, part: Arc<Part>) -> OpenDir {
        OpenDir {
            handle,
            remote: Mutex::new(remote),
            part: Mutex::new(part),
            fresh: AtomicBool::new(true),
        }
    }

    /// Its number on the server in this life of that.
    pub fn remote(&self, life: u64) -> Option<OpenId> {
        lock(&self.remote).filter(|(of, _)| *of == life).map(|(_, open)| open)
    }

    /// The part that was read last, if the lines from `offset` on are in it. Who reads it from
    /// the beginning again (rewinddir(3)) wants what is there then.
    pub fn part(&self, offset: i64) -> Option<Arc<Part>> {
        let again = offset == 0 && !self.fresh.swap(false, Ordering::AcqRel);
        let part = lock(&self.part).clone();
        (!again && part.from(offset).is_some()).then_some(part)
    }

    /// More has been read; and it was opened again for that, if it says so.
    pub fn read(&self, remote: Option<(u64, OpenId)>, part: Arc<Part>) {
        if remote.is_some() {
            *lock(&self.remote) = remote;
        }
        *lock(&self.part) = part;
    }
}

#[derive(Clone)]
enum Open {
    File(Arc<OpenFile>),
    Dir(Arc<OpenDir>),
}

/// All of them, by number.
#[derive(Default)]
pub struct Opens {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Open>>,
}

impl Opens {
    fn add(&self, open: Open) -> Option<u64> {
        let mut table = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= HANDLES_MAX {
            return None;
        }
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        table.insert(fh, open);
        Some(fh)
    }

    /// Keeps a file; `None` if there are too many.
    pub fn add_file(&self, file: OpenFile) -> Option<u64> {
        self.add(Open::File(Arc::new(file)))
    }

    /// Keeps a directory; `None` if there are too many.
    pub fn add_dir(&self, dir: OpenDir) -> Option<u64> {
        self.add(Open::Dir(Arc::new(dir)))
    }

    fn get(&self, fh: u64) -> Option<Open> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&fh).cloned()
    }

    /// The file with this number.
    pub fn file(&self, fh: u64) -> Option<Arc<OpenFile>> {
        match self.get(fh)? {
            Open::File(file) => Some(file),
            Open::Dir(_) => None,
        }
    }

    /// Any that is open of a file. All are looked through for it.
    pub fn of(&self, ino: INodeNo) -> Option<Arc<OpenFile>> {
        let table = self.open.read().unwrap_or_else(PoisonError::into_inner);
        table.values().find_map(|open| match open {
            Open::File(file) if file.ino == ino => Some(file.clone()),
            _ => None,
        })
    }

    /// The directory with this number.
    pub fn dir(&self, fh: u64) -> Option<Arc<OpenDir>> {
        match self.get(fh)? {
            Open::Dir(dir) => Some(dir),
            Open::File(_) => None,
        }
    }

    /// Lets go of one.
    pub fn remove(&self, fh: u64) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&fh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OpenFile {
        let (attr, proof) = Default::default();
        let opened = Opened { open: 5, attr, lease: false, proof, life: 1 };
        OpenFile::new(INodeNo(2), Arc::default(), 0, Caller::default(), &opened)
    }

    #[test]
    fn the_beginning_is_given_once_and_only_if_it_is_enough() {
        let (file, now) = (file(), Moment::default());
        file.set_first(Bytes::from_static(b"abc"), 10, now);
        assert_eq!(file.take_first(1, 100, now).as_deref(), Some(&b"bc"[..]));
        assert_eq!(file.take_first(1, 100, now), None);
        file.set_first(Bytes::from_static(b"abc"), 3, now);
        assert_eq!(file.take_first(0, 4, now), None, "more may follow");
        file.set_first(Bytes::from_static(b"abc"), 3, now);
        assert_eq!(file.take_first(0, 3, now).as_deref(), Some(&b"abc"[..]));
        file.set_first(Bytes::new(), 3, now);
        assert_eq!(file.take_first(u64::MAX, 3, now).as_deref(), Some(&b""[..]));
        file.set_first(Bytes::from_static(b"abc"), 10, now);
        let later = Moment { edits: 1, ..now };
        assert_eq!(file.take_first(0, 3, later), None, "it may have changed");
    }

    #[test]
    fn a_file_is_found_by_whoever_has_it_open() {
        let opens = Opens::default();
        let fh = opens.add_file(file()).unwrap();
        assert!(opens.of(INodeNo(2)).is_some() && opens.of(INodeNo(3)).is_none());
        opens.remove(fh);
        assert!(opens.of(INodeNo(2)).is_none());
    }

    #[test]
    fn a_lock_that_is_lost_is_lost_for_good() {
        let file = file();
        assert_eq!((file.remote(1), file.remote(2)), (Some(5), None));
        assert!(file.reopened(2, 9) && !file.reopened(2, 10));
        assert!(!file.has_lost());
        file.locked(77);
        assert!(file.reopened(3, 11));
        assert!(file.has_lost() && file.remote(3) == Some(11));
        assert!(file.unlocked(77) && !file.unlocked(77) && file.has_lost());
    }

    #[test]
    fn a_part_knows_what_is_in_it() {
        let at = Instant::now();
        let line = |next| Line { name: Bounded::default(), next, ino: 0, kind: 0, entry: None };
        let part = Part {
            start: 0,
            lines: vec![line(10), line(7)],
            end: false,
            asked: Asked::default(),
            at,
        };
        assert_eq!(part.from(0).map(<[_]>::len), Some(2));
        assert_eq!(part.from(10).map(<[_]>::len), Some(1));
        assert!(part.from(7).is_none() && part.from(3).is_none());
        assert_eq!(Part { end: true, ..part }.from(7).map(<[_]>::len), Some(0));
    }
}
