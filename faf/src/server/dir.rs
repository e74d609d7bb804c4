//! Directories: names with attributes, many at once.

use super::session::Open;
use super::{Out, Turn, attr_of, errno, reopen};
use crate::bytes::Bounded;
use crate::op::{Answer, Entry, Handle, Line, Listed, OpenId, dir_bytes};
use krg_sys::dirents::{self, Dirent};
use krg_sys::file_handle;
use krg_sys::names;
use krg_sys::statx::statx;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// The kernel takes so much for an entry without its name, and for one with the longest.
const ENTRY_BYTES: usize = 24;
const ENTRY_BYTES_MAX: usize = 280;

impl Turn<'_> {
    pub(super) fn open_dir(&self, dir: &Handle, bytes: u32, out: &mut Out) -> io::Result<Answer> {
        let found = self.find(dir)?;
        self.promise(&found);
        let stat = statx(found.fd.as_fd(), c"")?;
        let fd = self.acting(|| reopen(found.fd.as_fd(), libc::O_RDONLY | libc::O_DIRECTORY))?;
        let exact = names::are_exact(fd.as_fd());
        let (lines, end) = self.lines(fd.as_fd(), bytes, out)?;
        if end {
            // A small directory has been read in one go: nothing stays open.
            return Ok(Answer::Listed(Listed { open: None, lines, end, exact, life: 0 }));
        }
        let caller = self.caller.clone();
        let (file, place) = ((stat.dev, stat.ino), Mutex::new(()));
        let open = self.session.add(Arc::new(Open {
            fd: Arc::new(fd),
            caller,
            append: false,
            file,
            key: None,
            watched: false,
            set_id: false,
            broken: AtomicBool::new(false),
            place,
        }))?;
        Ok(Answer::Listed(Listed { open: Some(open), lines, end, exact, life: 0 }))
    }

    pub(super) fn read_dir(
        &self,
        open: OpenId,
        offset: i64,
        bytes: u32,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let dir = self.session.get(open)?;
        let _place = dir.place.lock().unwrap_or_else(PoisonError::into_inner);
        dirents::seek(dir.fd.as_fd(), offset)?;
        let (lines, end) = self.lines(dir.fd.as_fd(), bytes, out)?;
        Ok(Answer::Listed(Listed { open: Some(open), lines, end, exact: false, life: 0 }))
    }

    pub(super) fn sync_dir(&self, dir: &Handle) -> io::Result<Answer> {
        let found = self.find(dir)?;
        let fd = self.acting(|| reopen(found.fd.as_fd(), libc::O_RDONLY | libc::O_DIRECTORY))?;
        nix::unistd::fsync(&fd)?;
        Ok(Answer::Done)
    }

    /// The next names, and whether they are the last.
    fn lines(
        &self,
        dir: BorrowedFd<'_>,
        bytes: u32,
        out: &mut Out,
    ) -> io::Result<(Vec<Line>, bool)> {
        let mut lines = Vec::new();
        // A name takes about 32 bytes there, and its attributes some 120 here.
        let mut room = dir_bytes(bytes) / 4;
        // Read on until nothing comes: that this is the end, is worth a round trip to know.
        while room >= ENTRY_BYTES_MAX {
            let buf = &mut out.room(dir_bytes(bytes))[..room];
            let entries = dirents::read(dir, buf)?;
            let (before, mut taken) = (lines.len(), 0);
            self.acting(|| {
                for entry in entries {
                    taken += ENTRY_BYTES + entry.name.count_bytes();
                    lines.extend(self.line(dir, &entry));
                }
                Ok(())
            })?;
            if lines.len() == before {
                return Ok((lines, true));
            }
            room = room.saturating_sub(taken);
        }
        Ok((lines, false))
    }

    fn line(&self, dir: BorrowedFd<'_>, entry: &Dirent<'_>) -> Option<Line> {
        let name = Bounded::new(entry.name.to_bytes())?;
        let dots = entry.name == c"." || entry.name == c"..";
        // A name that is gone by now, or leads to what nobody may see, is still a name.
        let described = || self.described(dir, entry.name, entry.ino).ok();
        let entry_of = (!dots).then(described).flatten();
        Some(Line {
            name,
            next: entry.next,
            ino: entry_of.as_ref().map_or(entry.ino, |e| e.attr.ino),
            kind: entry.kind,
            entry: entry_of,
        })
    }

    /// A name's file. Handle and attributes are asked for one after the other, which is half the
    /// work of opening it; that both are of one file, its number tells.
    fn described(&self, dir: BorrowedFd<'_>, name: &CStr, ino: u64) -> io::Result<Entry> {
        if self.tree.denies(dir, name)? {
            return self.entry(self.tree.child(dir, name)?);
        }
        let (handle, id) = file_handle::of_name(dir, name)?;
        let mount = self.tree.key(id)?;
        let key = self.tree.change_key(mount, &handle);
        self.session.promises.make(key);
        let stat = statx(dir, name)?;
        if stat.ino != ino {
            // A mount point, or it has just been replaced.
            return self.entry(self.tree.child(dir, name)?);
        }
        if self.tree.is_denied(&stat) {
            return Err(errno(libc::EACCES));
        }
        let sealed = self.server.export.sealer().seal(mount, &handle);
        let watched = self.server.watch.covers(mount);
        Ok(Entry { handle: sealed, attr: attr_of(&self.tree, mount, &stat), key, watched })
    }
}
