//! Files that are open: reading, writing, and what else is done to their bytes.

use super::names::with_umask;
use super::session::{Open, Session};
use super::{Out, Turn, attr_of, errno, reopen};
use crate::bytes::{Bounded, Name};
use crate::export::Child;
use crate::op::{Answer, Handle, Key, OpenId, Opened};
use krg_sys::cred::ActingAs;
use krg_sys::file_handle;
use krg_sys::statx::{Stat, statx};
use krg_types::limits::COPY_BYTES_MAX;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, copy_file_range, fallocate, fcntl, openat};
use nix::sys::stat::Mode;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, fdatasync, fsync, ftruncate, lseek64};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// Flags of open(2) that mean something here. O_DIRECT is the client's business; what is opened
/// never waits, nor becomes anybody's terminal.
const KEPT: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_TRUNC
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_NOATIME
    | libc::O_LARGEFILE;

impl Turn<'_> {
    fn keep(
        &self,
        fd: OwnedFd,
        child: &Child,
        handle: &Handle,
        flags: i32,
        lease: bool,
    ) -> io::Result<Opened> {
        // First: what is changed after the file was looked at is told.
        let key = self.promise(child);
        let (fd, reads) = (Arc::new(fd), flags & libc::O_ACCMODE != libc::O_WRONLY);
        if reads {
            self.server.watch.opened(&self.server.sessions, key, &fd);
        }
        let stat = statx(fd.as_fd(), c"")?;
        let open = Open {
            fd,
            caller: self.caller.clone(),
            append: flags & libc::O_APPEND != 0,
            file: (stat.dev, stat.ino),
            key: Some(key),
            watched: reads,
            set_id: stat.mode & (libc::S_ISUID | libc::S_ISGID) != 0,
            broken: AtomicBool::new(false),
            place: Mutex::new(()),
        };
        let flags = flags & !libc::O_TRUNC;
        let proof =
            self.server.export.sealer().proof(self.session.member.get(), handle, flags as u32);
        let attr = attr_of(&self.tree, child.mount, &stat);
        let open = Arc::new(open);
        let id = self.session.add(open.clone());
        let id = id.inspect_err(|_| self.server.unwatch(&open))?;
        Ok(Opened { open: id, attr, lease, proof, life: 0 })
    }

    /// Does the client get the lease on a file? Whoever else has it gives it back first.
    pub(super) fn lease(&self, key: Key, writes: bool) -> bool {
        let sessions = &self.server.sessions;
        let recall = |holder| {
            if let Some(session) = sessions.numbered(holder) {
                session.promises.recall(key);
            }
        };
        let broken = |holder| {
            if let Some(session) = sessions.numbered(holder) {
                session.break_lease(key);
            }
        };
        self.server.leases.opened(key, self.session.serial, writes, recall, broken)
    }

    /// Opens a file with the lease, if the client gets it: before it is truncated, all that others
    /// have written is there.
    fn leased<T>(
        &self,
        key: Key,
        flags: i32,
        open: impl FnOnce(bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let lease = self.lease(key, flags & libc::O_ACCMODE != libc::O_RDONLY);
        open(lease).inspect_err(|_| self.server.leases.closed(key, self.session.serial))
    }

    pub(super) fn open(
        &self,
        file: &Handle,
        flags: u32,
        want: u32,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let found = self.find(file)?;
        is_regular(&statx(found.fd.as_fd(), c"")?)?;
        let flags = flags as i32 & KEPT;
        let opened = self.leased(self.key(&found), flags, |lease| {
            let fd = self.acting(|| reopen(found.fd.as_fd(), flags | libc::O_NONBLOCK))?;
            if flags & libc::O_TRUNC != 0 {
                self.changed(&found);
            }
            self.keep(fd, &found, file, flags, lease)
        })?;
        out.len = beginning(self.session, opened.open, want as usize, out);
        Ok(Answer::Opened(opened))
    }

    pub(super) fn open_again(
        &self,
        file: &Handle,
        flags: u32,
        proof: &Bounded<32>,
    ) -> io::Result<Answer> {
        let kept = flags as i32 & KEPT & !libc::O_TRUNC;
        let member = self.session.member.get();
        if !self.server.export.sealer().proves(proof, member, file, kept as u32) {
            return Err(errno(libc::EACCES));
        }
        let found = self.find(file)?;
        let stat = statx(found.fd.as_fd(), c"")?;
        is_regular(&stat)?;
        if stat.nlink == 0 {
            return Err(errno(libc::ESTALE));
        }
        let opened = self.leased(self.key(&found), kept, |lease| {
            let fd = reopen(found.fd.as_fd(), kept | libc::O_NONBLOCK)?;
            self.keep(fd, &found, file, kept, lease)
        })?;
        Ok(Answer::Opened(opened))
    }

    pub(super) fn create(
        &self,
        dir: &Handle,
        name: &Name,
        (mode, umask): (u32, u32),
        flags: u32,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let dir = self.find(dir)?;
        self.may_touch(&dir, name)?;
        let exclusive = flags as i32 & libc::O_EXCL;
        let flags = flags as i32 & KEPT;
        let truncates = flags & libc::O_TRUNC != 0;
        let how = OFlag::from_bits_truncate(flags & !libc::O_TRUNC | exclusive)
            | OFlag::O_CREAT
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        let fd = self.acting(|| {
            with_umask(umask, || Ok(openat(dir.fd.as_fd(), name.as_c(), how, mode)?))
        })?;
        let stat = statx(fd.as_fd(), c"")?;
        is_regular(&stat)?;
        self.renamed(&dir, name);
        let (handle, id) = file_handle::of(fd.as_fd())?;
        let child = Child { fd, mount: self.tree.key(id)?, handle };
        let mut entry = self.entry_of(&child, &stat)?;
        let fd = child.fd.try_clone()?;
        let opened = self.leased(entry.key, flags, |lease| {
            // It was there before: what others have written must not come after this.
            if truncates && stat.size > 0 {
                ftruncate(&fd, 0)?;
                self.changed(&child);
            }
            self.keep(fd, &child, &entry.handle, flags, lease)
        })?;
        entry.attr = opened.attr;
        self.tell_after(&dir, out);
        Ok(Answer::Created { entry, opened })
    }

    pub(super) fn read(
        &self,
        open: OpenId,
        offset: u64,
        size: u32,
        out: &mut Out,
    ) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        // Who has it mapped reads a page and is to be told of the next change too.
        if let Some(key) = open.key {
            self.session.promises.make(key);
        }
        let buf = out.room(size as usize);
        let mut filled = 0;
        while filled < buf.len() {
            let at = place(offset + filled as u64)?;
            match pread(&open.fd, &mut buf[filled..], at) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) if filled == 0 => return Err(e.into()),
                Err(_) => break,
            }
        }
        out.len = filled;
        Ok(Answer::Data)
    }

    pub(super) fn write(&self, open: OpenId, offset: u64, data: &[u8]) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        // As who opened it: what a user may not fill up, or what loses its set-uid bit when a
        // user writes to it, is so here too.
        let _as = ActingAs::enter(&open.caller)?;
        if !open.append {
            let bytes = write_all(data, offset, |piece, at| pwrite(&open.fd, piece, at))?;
            self.written(&open);
            return Ok(Answer::Written { bytes, end: None });
        }
        let _place = open.place.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = write_all(data, 0, |piece, _| nix::unistd::write(&open.fd, piece))?;
        let end = lseek64(&open.fd, 0, Whence::SeekCur)?;
        self.written(&open);
        Ok(Answer::Written { bytes, end: Some(end as u64) })
    }

    pub(super) fn write_at(&self, open: OpenId, offset: u64, data: &[u8]) -> io::Result<Answer> {
        let appending = self.session.get(open)?;
        if !appending.append {
            return self.write(open, offset, data);
        }
        let _as = ActingAs::enter(&appending.caller)?;
        let _place = appending.place.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlag::from_bits_retain(fcntl(&appending.fd, FcntlArg::F_GETFL)?);
        // With that flag pwrite(2) appends, wherever it is told to write.
        fcntl(&appending.fd, FcntlArg::F_SETFL(flags - OFlag::O_APPEND))?;
        let bytes = write_all(data, offset, |piece, at| pwrite(&appending.fd, piece, at));
        fcntl(&appending.fd, FcntlArg::F_SETFL(flags))?;
        self.written(&appending);
        Ok(Answer::Written { bytes: bytes?, end: None })
    }

    pub(super) fn close(&self, id: OpenId, owner: Option<u64>) -> io::Result<Answer> {
        let open = self.session.remove(id).ok_or_else(|| errno(libc::EBADF))?;
        if let Some(owner) = owner {
            self.session.locks.give_up(open.file, owner);
        }
        self.server.closed(self.session, &open);
        Ok(Answer::Done)
    }

    /// Tells the other clients that an open file has been written.
    fn written(&self, open: &Open) {
        if let Some(key) = open.key {
            self.server.sessions.changed(Some(self.session), key, false);
        }
    }

    pub(super) fn sync(&self, open: OpenId, data_only: bool) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        if data_only {
            fdatasync(&open.fd)?
        } else {
            fsync(&open.fd)?
        }
        Ok(Answer::Done)
    }

    pub(super) fn allocate(
        &self,
        open: OpenId,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        let mode =
            FallocateFlags::from_bits(mode as i32).ok_or_else(|| errno(libc::EOPNOTSUPP))?;
        let _as = ActingAs::enter(&open.caller)?;
        fallocate(&open.fd, mode, place(offset)?, place(len)?)?;
        self.written(&open);
        Ok(Answer::Done)
    }

    pub(super) fn seek(&self, open: OpenId, offset: i64, whence: u32) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        let whence = match whence as i32 {
            libc::SEEK_DATA => Whence::SeekData,
            libc::SEEK_HOLE => Whence::SeekHole,
            _ => return Err(errno(libc::EINVAL)),
        };
        // The place of an open file that appends is nobody's business, but it is there.
        let _place = open.place.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Answer::Offset(lseek64(&open.fd, offset, whence)? as u64))
    }

    pub(super) fn copy(
        &self,
        (from, from_offset): (OpenId, u64),
        (to, to_offset): (OpenId, u64),
        len: u64,
    ) -> io::Result<Answer> {
        let (from, to): (Arc<Open>, Arc<Open>) = (self.session.get(from)?, self.session.get(to)?);
        let (mut from_offset, mut to_offset) = (place(from_offset)?, place(to_offset)?);
        let len = usize::try_from(len.min(COPY_BYTES_MAX)).unwrap_or(usize::MAX);
        let _as = ActingAs::enter(&to.caller)?;
        let copied =
            copy_file_range(&from.fd, Some(&mut from_offset), &to.fd, Some(&mut to_offset), len)?;
        Ok(Answer::Written { bytes: copied as u32, end: None })
    }
}

/// Reads the first bytes of an open file, if any are wanted and it may be read; how many.
pub(super) fn beginning(session: &Session, open: OpenId, want: usize, out: &mut Out) -> usize {
    match session.get(open) {
        Ok(open) if want > 0 => pread(&open.fd, out.room(want), 0).unwrap_or(0),
        _ => 0,
    }
}

/// Only files of bytes are opened through a server: a FIFO or a device belongs to one machine.
fn is_regular(stat: &Stat) -> io::Result<()> {
    match stat.mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(errno(libc::EISDIR)),
        libc::S_IFLNK => Err(errno(libc::ELOOP)),
        _ => Err(errno(libc::ENXIO)),
    }
}

/// An offset as the kernel takes it.
pub(super) fn place(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| errno(libc::EINVAL))
}

/// Writes on after a short write, until an error; what was written before it counts.
fn write_all(
    data: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], i64) -> nix::Result<usize>,
) -> io::Result<u32> {
    let mut done = 0;
    while done < data.len() {
        match write(&data[done..], place(offset + done as u64)?) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) if done == 0 => return Err(e.into()),
            Err(_) => break,
        }
    }
    Ok(done as u32)
}
