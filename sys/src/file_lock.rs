//! Locks that belong to an open file description, not to a process: those on ranges, `F_OFD_SETLK`
//! of fcntl(2), and those on whole files, flock(2). Who locks for many others opens the file once
//! for each: closing that description gives up its locks and nobody else's.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What is done to a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Shared with other readers. The file must be open for reading if it is a range.
    Read,
    /// Shared with nobody. The file must be open for writing if it is a range.
    Write,
    /// Given up.
    Unlock,
}

/// Bytes of a file, whether it has them or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// How many; 0: all that follow.
    pub len: u64,
}

/// A lock that is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocker {
    /// Read or write.
    pub kind: LockKind,
    /// The first of its bytes.
    pub start: u64,
    /// How many; 0: all that follow.
    pub len: u64,
    /// The process that has it; -1 if it belongs to an open file description.
    pub pid: i32,
}

/// Offsets are signed for the kernel.
fn to_kernel(kind: LockKind, range: Range) -> io::Result<libc::flock> {
    let signed = |n: u64| i64::try_from(n).map_err(|_| Errno::EINVAL);
    let l_type = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    Ok(libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: signed(range.start)?,
        l_len: signed(range.len)?,
        l_pid: 0,
    })
}

/// Locks or unlocks a range for this open file description, replacing what it had there; `false`
/// if somebody else's lock is in the way.
///
/// # Errors
/// EBADF: not open for that. EINVAL, EOVERFLOW: the range ends beyond 2^63.
pub fn try_set(fd: BorrowedFd<'_>, kind: LockKind, range: Range) -> io::Result<bool> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&to_kernel(kind, range)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The lock of somebody else that would keep this open file description from locking a range, one
/// of them if there are many.
///
/// # Errors
/// EINVAL: as `try_set`, and for `Unlock`, which nothing prevents.
pub fn blocker(fd: BorrowedFd<'_>, kind: LockKind, range: Range) -> io::Result<Option<Blocker>> {
    if kind == LockKind::Unlock {
        // Newer kernels answer something else to that question: which locks are one's own.
        return Err(Errno::EINVAL.into());
    }
    let mut lock = to_kernel(kind, range)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut lock))?;
    let kind = match i32::from(lock.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => LockKind::Read,
        _ => LockKind::Write,
    };
    let (start, len) = (lock.l_start.unsigned_abs(), lock.l_len.unsigned_abs());
    Ok(Some(Blocker { kind, start, len, pid: lock.l_pid }))
}

/// Locks or unlocks a whole file for this open file description; `false` if somebody else's lock
/// is in the way. A lock that is changed to the other kind is given up first, so it may be lost.
///
/// # Errors
/// ENOLCK, and EBADF for a descriptor opened with `O_PATH`.
pub fn try_flock(fd: BorrowedFd<'_>, kind: LockKind) -> io::Result<bool> {
    let operation = match kind {
        LockKind::Read => libc::LOCK_SH,
        LockKind::Write => libc::LOCK_EX,
        LockKind::Unlock => libc::LOCK_UN,
    };
    // SAFETY: plain integers, and a descriptor that is open.
    if unsafe { libc::flock(fd.as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match Errno::last() {
        Errno::EWOULDBLOCK => Ok(false),
        e => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;

    fn two_descriptions() -> (tempfile::NamedTempFile, File, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
        let (a, b) = (open(), open());
        (file, a, b)
    }

    #[test]
    fn ranges_of_two_descriptions_exclude_each_other() {
        let (_file, a, b) = two_descriptions();
        let (first, all) = (Range { start: 10, len: 5 }, Range { start: 0, len: 0 });
        assert!(try_set(a.as_fd(), LockKind::Write, first).unwrap());
        assert!(!try_set(b.as_fd(), LockKind::Read, all).unwrap());
        let found = blocker(b.as_fd(), LockKind::Read, all).unwrap().unwrap();
        assert_eq!(found, Blocker { kind: LockKind::Write, start: 10, len: 5, pid: -1 });
        assert_eq!(blocker(a.as_fd(), LockKind::Write, all).unwrap(), None);
        assert!(try_set(b.as_fd(), LockKind::Write, Range { start: 15, len: 0 }).unwrap());
        assert!(try_set(a.as_fd(), LockKind::Unlock, all).unwrap());
        assert!(try_set(b.as_fd(), LockKind::Read, all).unwrap());
        drop(b);
        assert!(try_set(a.as_fd(), LockKind::Write, all).unwrap());
    }

    #[test]
    fn ranges_beyond_the_end_of_numbers_are_refused() {
        let (_file, a, _b) = two_descriptions();
        let far = Range { start: u64::MAX, len: 0 };
        assert!(try_set(a.as_fd(), LockKind::Read, far).is_err());
        assert!(blocker(a.as_fd(), LockKind::Unlock, Range { start: 0, len: 0 }).is_err());
        let last = Range { start: i64::MAX as u64, len: 2 };
        assert!(try_set(a.as_fd(), LockKind::Read, last).is_err());
    }

    #[test]
    fn whole_files_are_locked_by_description() {
        let (_file, a, b) = two_descriptions();
        assert!(try_flock(a.as_fd(), LockKind::Read).unwrap());
        assert!(try_flock(b.as_fd(), LockKind::Read).unwrap());
        assert!(!try_flock(a.as_fd(), LockKind::Write).unwrap());
        assert!(try_flock(b.as_fd(), LockKind::Unlock).unwrap());
        assert!(try_flock(a.as_fd(), LockKind::Write).unwrap());
    }
}
