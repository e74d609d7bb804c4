//! Reading directories: names with attributes, a part at a time.

use super::convert::kind_of_line;
use super::core::{Core, Result, Who, unexpected};
use super::generation;
use super::inodes::is_apart;
use super::opens::{Asked, OpenDir, Part};
use fuser::{Errno, FileHandle, FopenFlags, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use krg_faf::op::{Answer, Entry, Handle, Key, Line, Listed, Op, OpenId};
use krg_types::limits::DIR_BYTES_MAX;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names that are read for the sake of those that are not among them: some two hundred.
const SAKE_BYTES: u32 = 16 << 10;

impl Core {
    /// Opens a directory and reads its first part. The kernel may go on using the names that it
    /// has of it if the flags say so.
    pub fn open_dir(
        self: &Arc<Self>,
        who: &Who,
        ino: INodeNo,
        done: impl FnOnce(Result<(FileHandle, FopenFlags)>) + Send + 'static,
    ) {
        let handle = match self.handle(ino) {
            Ok(handle) => handle,
            Err(e) => return done(Err(e)),
        };
        if let Some(part) = self.just_read(ino) {
            // What the kernel keeps was read from nothing older.
            let how = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
            let dir = OpenDir::new(handle, None, part);
            let fh = self.opens.add_dir(dir).map(FileHandle).ok_or(Errno::ENFILE);
            return done(fh.map(|fh| (fh, how)));
        }
        let core = self.clone();
        self.read_names(who, ino, &handle.clone(), DIR_BYTES_MAX, move |reply| match reply {
            Ok((open, part)) => {
                let how = match part.end && core.is_watched() {
                    true => FopenFlags::FOPEN_CACHE_DIR,
                    false => FopenFlags::empty(),
                };
                let dir = OpenDir::new(handle, open, part);
                let fh = core.opens.add_dir(dir).map(FileHandle).ok_or(Errno::ENFILE);
                done(fh.map(|fh| (fh, how)));
            }
            Err(e) => done(Err(e)),
        });
    }

    /// What a directory had a moment ago, if nothing is known to have changed.
    fn just_read(&self, ino: INodeNo) -> Option<Arc<Part>> {
        self.listings.get(ino, |part| self.is_news(part.asked, self.inodes.key(ino)))
    }

    /// Reads a directory from its beginning, and remembers what is of use later.
    fn read_names(
        self: &Arc<Self>,
        who: &Who,
        ino: INodeNo,
        handle: &Handle,
        bytes: u32,
        done: impl FnOnce(Result<(Option<(u64, OpenId)>, Arc<Part>)>) + Send + 'static,
    ) {
        let (asked, edits, key) = (self.asked(), self.listings.edits(), self.inodes.key(ino));
        let is_known = ino != INodeNo::ROOT && !self.is_local() && self.is_watched();
        let reading = is_known.then(|| self.known.begun(key));
        let op = Op::OpenDir { dir: handle.clone(), bytes };
        let core = self.clone();
        self.ask(who, op, &[], move |reply| match reply {
            Ok((Answer::Listed(listed), _)) => {
                if let Some(reading) = reading {
                    let whole = listed.end && listed.exact;
                    core.known.read(key, reading, whole.then_some(&listed.lines));
                }
                let open = listed.open.map(|open| (listed.life, open));
                let part = Arc::new(part(0, asked, listed));
                if part.end && core.is_watched() {
                    core.listings.keep(ino, &part, edits);
                }
                done(Ok((open, part)));
            }
            other => {
                if let Some(reading) = reading {
                    core.known.read(key, reading, None);
                }
                done(Err(unexpected(other)));
            }
        });
    }

    /// Is it known, without asking, that a directory has no such name?
    pub fn lacks(&self, dir: INodeNo, name: &[u8]) -> bool {
        self.is_up() && self.known.lacks(self.inodes.key(dir), name)
    }

    /// A name was looked for in vain in a directory whose changes are told. Where that happens
    /// more than once, all its names are read.
    pub fn missed(self: &Arc<Self>, who: &Who, dir: INodeNo) {
        if self.is_local() || !self.known.missed(self.inodes.key(dir)) {
            return;
        }
        let Ok(handle) = self.handle(dir) else { return };
        let core = self.clone();
        self.read_names(&who.gone_on(), dir, &handle, SAKE_BYTES, move |reply| {
            if let Ok((Some((_, open)), _)) = reply {
                core.tell(Op::Close { open, owner: None });
            }
        });
    }

    /// The part with the lines from `offset` on.
    pub fn read_dir(
        self: &Arc<Self>,
        who: &Who,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        done: impl FnOnce(Result<Arc<Part>>) + Send + 'static,
    ) {
        let Some(dir) = self.opens.dir(fh.0) else { return done(Err(Errno::EBADF)) };
        let offset = offset as i64;
        // What the kernel keeps from now on must not be older than what is kept here.
        if let Some(part) = (offset == 0).then(|| self.just_read(ino)).flatten() {
            dir.read(None, part);
        }
        if let Some(part) = dir.part(offset) {
            return done(Ok(part));
        }
        let (life, asked) = (self.life(), self.asked());
        let op = match (dir.remote(life), offset) {
            (Some(open), _) => Op::ReadDir { open, offset, bytes: DIR_BYTES_MAX },
            (None, 0) => Op::OpenDir { dir: (*dir.handle).clone(), bytes: DIR_BYTES_MAX },
            // Half of it was read from a server that is not there any more.
            (None, _) => return done(Err(Errno::EIO)),
        };
        self.ask(who, op, &[], move |reply| match reply {
            Ok((Answer::Listed(listed), _)) => {
                let remote = listed.open.map(|open| (listed.life, open));
                let part = Arc::new(part(offset, asked, listed));
                dir.read(remote, part.clone());
                done(Ok(part));
            }
            other => done(Err(unexpected(other))),
        });
    }

    /// Lets a directory go.
    pub fn close_dir(&self, fh: FileHandle) {
        if let Some(dir) = self.opens.dir(fh.0) {
            self.opens.remove(fh.0);
            if let Some(open) = dir.remote(self.life()) {
                self.tell(Op::Close { open, owner: None });
            }
        }
    }

    /// Puts names into an answer, as many as it has room for.
    pub fn fill(part: &Part, offset: u64, ino: INodeNo, mut reply: ReplyDirectory) {
        for line in part.from(offset as i64).unwrap_or_default() {
            let number = if is_dots(line) { ino } else { INodeNo(line.ino.max(1)) };
            let kind = kind_of_line(line.kind);
            if reply.add(number, line.next as u64, kind, name(line)) {
                break;
            }
        }
        reply.ok();
    }

    /// Has a line's name, or its file, been changed since it was read?
    fn is_old(
        &self,
        part: &Part,
        (dir, key): &(Arc<Handle>, Key),
        line: &Line,
        entry: &Entry,
    ) -> bool {
        !self.is_news(part.asked, *key)
            || self.touched.since(part.asked.touched, dir, line.name.as_slice(), &entry.handle)
    }

    /// The same with attributes: the kernel then knows these files.
    pub fn fill_plus(
        &self,
        part: &Part,
        offset: u64,
        ino: INodeNo,
        mut reply: ReplyDirectoryPlus,
    ) {
        let age = part.age(Instant::now());
        let news = self.is_news(part.asked, self.inodes.key(ino));
        let dir = (self.handle(ino).unwrap_or_default(), self.inodes.key(ino));
        for line in part.from(offset as i64).unwrap_or_default() {
            let next = line.next as u64;
            let full = match &line.entry {
                Some(entry) => {
                    let number = self.inodes.told(entry, is_apart(line.name.as_slice()));
                    let attr = self.attr_of(number, &entry.attr, part.asked);
                    let generation = generation(&entry.handle);
                    // One time for both is all that can be said here: the shorter.
                    let (_, ttl) = self.ttls(entry, part.asked);
                    let ttl = match !news || self.is_old(part, &dir, line, entry) {
                        // The kernel asks again before it uses it.
                        true => Duration::ZERO,
                        false => ttl.saturating_sub(age),
                    };
                    let full = reply.add(number, next, name(line), &ttl, &attr, generation);
                    if full {
                        self.forget(number, 1);
                    }
                    full
                }
                None => {
                    // Number 0: the kernel asks for it when it wants to know.
                    let mut attr = super::convert::nobody();
                    attr.ino = if is_dots(line) { ino } else { INodeNo(0) };
                    attr.kind = kind_of_line(line.kind);
                    let none = fuser::Generation(0);
                    reply.add(attr.ino, next, name(line), &Duration::ZERO, &attr, none)
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }
}

fn part(start: i64, asked: Asked, listed: Listed) -> Part {
    Part { start, lines: listed.lines, end: listed.end, asked, at: Instant::now() }
}

fn is_dots(line: &Line) -> bool {
    matches!(line.name.as_slice(), b"." | b"..")
}

fn name(line: &Line) -> &OsStr {
    OsStr::from_bytes(line.name.as_slice())
}
