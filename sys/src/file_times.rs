//! Setting when a file was read and written: utimensat(2).

use crate::statx::Time;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What becomes of one of the times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// It stays.
    Omit,
    /// The kernel's present time. Allowed to who may write the file; `At` only to its owner.
    Now,
    /// This time.
    At(Time),
}

impl SetTime {
    fn to_kernel(self) -> libc::timespec {
        match self {
            SetTime::Omit => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
            SetTime::Now => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
            SetTime::At(t) => libc::timespec { tv_sec: t.s, tv_nsec: t.ns.into() },
        }
    }
}

/// Sets the times of an open file, also of one opened with `O_PATH` (kernel 5.8), so of a
/// symbolic link too.
///
/// # Errors
/// EPERM and EACCES as utimensat(2) says; EINVAL: more nanoseconds than a second has.
pub fn set(fd: BorrowedFd<'_>, atime: SetTime, mtime: SetTime) -> io::Result<()> {
    // The two words that tell the kernel something else are not times.
    let overfull = |t: SetTime| matches!(t, SetTime::At(at) if at.ns >= 1_000_000_000);
    if overfull(atime) || overfull(mtime) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let times = [atime.to_kernel(), mtime.to_kernel()];
    let (fd, flags) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: an empty C string, and two timespecs that outlive the call, which only reads them.
    match unsafe { libc::utimensat(fd, c"".as_ptr(), times.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statx::statx;
    use std::fs::OpenOptions;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{OpenOptionsExt, symlink};

    #[test]
    fn times_are_set_kept_and_taken_from_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        symlink("nowhere", &path).unwrap();
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let link = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let (old, new) = (Time { s: -5, ns: 7 }, Time { s: 9, ns: 999_999_999 });
        set(link.as_fd(), SetTime::At(old), SetTime::At(new)).unwrap();
        let stat = statx(link.as_fd(), c"").unwrap();
        assert_eq!((stat.atime, stat.mtime), (old, new));
        set(link.as_fd(), SetTime::Omit, SetTime::Now).unwrap();
        let stat = statx(link.as_fd(), c"").unwrap();
        assert_eq!(stat.atime, old);
        assert!(stat.mtime > Time { s: 1_000_000_000, ns: 0 });
        let overfull = SetTime::At(Time { s: 0, ns: libc::UTIME_NOW as u32 });
        assert!(set(link.as_fd(), overfull, SetTime::Omit).is_err());
    }
}
