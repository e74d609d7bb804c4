//! Locks of clients, as locks of this node's kernel: they hold against its own processes too.
//!
//! Each owner of locks on a file has an open file description of its own for them. A client's
//! kernel does not tell flock(2) from a lock of fcntl(2) on the whole file, so the latter is both.

use super::{Turn, errno, reopen};
use crate::op::{Answer, Lock, LockKind, OpenId};
use krg_sys::file_lock::{self, Blocker, Range};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file (device and number), and whose lock it is.
type Key = ((u64, u64), u64);

/// The locks of one client.
#[derive(Default)]
pub struct Locks(Mutex<HashMap<Key, Arc<OwnedFd>>>);

impl Locks {
    /// All locks of an owner on a file: closing their description gives them up.
    pub fn give_up(&self, file: (u64, u64), owner: u64) {
        self.table().remove(&(file, owner));
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Arc<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole file, wherever it will end.
fn is_whole(lock: &Lock) -> bool {
    lock.start == 0 && lock.end >= i64::MAX as u64
}

fn range(lock: &Lock) -> io::Result<Range> {
    if lock.end < lock.start || lock.start > i64::MAX as u64 {
        return Err(errno(libc::EINVAL));
    }
    let to_the_end = lock.end >= i64::MAX as u64;
    let len = if to_the_end { 0 } else { lock.end - lock.start + 1 };
    Ok(Range { start: lock.start, len })
}

fn kind(kind: LockKind) -> file_lock::LockKind {
    match kind {
        LockKind::Read => file_lock::LockKind::Read,
        LockKind::Write => file_lock::LockKind::Write,
        LockKind::Unlock => file_lock::LockKind::Unlock,
    }
}

impl Turn<'_> {
    /// The description that holds an owner's locks on an open file.
    fn lock_fd(&self, open: OpenId, owner: u64) -> io::Result<(Key, Arc<OwnedFd>)> {
        let open = self.session.get(open)?;
        let key = (open.file, owner);
        let mut table = self.session.locks.table();
        if let Some(fd) = table.get(&key) {
            return Ok((key, fd.clone()));
        }
        // The client's kernel has seen to it that who locks may read or write.
        let flags = libc::O_NONBLOCK;
        let fd = reopen(open.fd.as_fd(), libc::O_RDWR | flags)
            .or_else(|_| reopen(open.fd.as_fd(), libc::O_RDONLY | flags))?;
        // Two threads of an owner must have the same: to close one would give its locks up.
        let fd = Arc::new(fd);
        table.insert(key, fd.clone());
        Ok((key, fd))
    }

    pub(super) fn test_lock(&self, open: OpenId, lock: Lock) -> io::Result<Answer> {
        let (_, fd) = self.lock_fd(open, lock.owner)?;
        let found = file_lock::blocker(fd.as_fd(), kind(lock.kind), range(&lock)?)?;
        Ok(Answer::Blocker(found.map(|b| told(&b))))
    }

    pub(super) fn set_lock(&self, open: OpenId, lock: Lock) -> io::Result<Answer> {
        let (key, fd) = self.lock_fd(open, lock.owner)?;
        let range = range(&lock)?;
        if !file_lock::try_set(fd.as_fd(), kind(lock.kind), range)? {
            return Err(errno(libc::EAGAIN));
        }
        if is_whole(&lock) && !file_lock::try_flock(fd.as_fd(), kind(lock.kind))? {
            file_lock::try_set(fd.as_fd(), file_lock::LockKind::Unlock, range)?;
            return Err(errno(libc::EAGAIN));
        }
        if lock.kind == LockKind::Unlock && is_whole(&lock) {
            self.session.locks.table().remove(&key);
        }
        Ok(Answer::Done)
    }

    pub(super) fn unlock(&self, open: OpenId, owner: u64) -> io::Result<Answer> {
        let open = self.session.get(open)?;
        self.session.locks.give_up(open.file, owner);
        Ok(Answer::Done)
    }
}

fn told(blocker: &Blocker) -> Lock {
    let end = match blocker.len {
        0 => i64::MAX as u64,
        len => blocker.start + len - 1,
    };
    let kind = match blocker.kind {
        file_lock::LockKind::Read => LockKind::Read,
        file_lock::LockKind::Write => LockKind::Write,
        file_lock::LockKind::Unlock => LockKind::Unlock,
    };
    // Its process is one of this node's, or none: the client has no number for either.
    Lock { owner: 0, kind, start: blocker.start, end }
}
