//! What the kernel knows of a file: statx(2).

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A moment of a file: seconds since 1970, which may be negative, and nanoseconds after them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Time {
    /// Seconds.
    pub s: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub ns: u32,
}

/// The attributes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its number in its file system.
    pub ino: u64,
    /// Type and permissions, as `S_IFMT` and the bits below it.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes that it takes on the disk.
    pub blocks: u64,
    /// How many bytes are best read or written at a time.
    pub blksize: u32,
    /// When it was last read.
    pub atime: Time,
    /// When its content last changed.
    pub mtime: Time,
    /// When its attributes last changed.
    pub ctime: Time,
    /// When it was made, on file systems that keep that.
    pub btime: Option<Time>,
    /// What a device file stands for, as makedev(3) puts it together.
    pub rdev: u64,
    /// The device of its file system, likewise.
    pub dev: u64,
    /// The mount it was reached by: the first field of its line of `/proc/PID/mountinfo`.
    pub mount_id: u64,
}

/// The attributes of what `name` is in the directory `dir`, without following a link or waking an
/// automounter; of `dir` itself (of any type, also opened with `O_PATH`) if the name is empty.
///
/// # Errors
/// Those of statx(2).
pub fn statx(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
    const FLAGS: libc::c_int = libc::AT_EMPTY_PATH
        | libc::AT_SYMLINK_NOFOLLOW
        | libc::AT_NO_AUTOMOUNT
        | libc::AT_STATX_SYNC_AS_STAT;
    const MASK: libc::c_uint = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name is a C string and `out` has the room of one statx; both outlive the call.
    let done =
        unsafe { libc::statx(dir.as_raw_fd(), name.as_ptr(), FLAGS, MASK, out.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is plain integers, all of them set to zero before the kernel wrote some.
    Ok(from_kernel(unsafe { out.assume_init_ref() }))
}

fn from_kernel(x: &libc::statx) -> Stat {
    let time = |t: &libc::statx_timestamp| Time { s: t.tv_sec, ns: t.tv_nsec };
    Stat {
        ino: x.stx_ino,
        mode: x.stx_mode.into(),
        nlink: x.stx_nlink,
        uid: x.stx_uid,
        gid: x.stx_gid,
        size: x.stx_size,
        blocks: x.stx_blocks,
        blksize: x.stx_blksize,
        atime: time(&x.stx_atime),
        mtime: time(&x.stx_mtime),
        ctime: time(&x.stx_ctime),
        btime: (x.stx_mask & libc::STATX_BTIME != 0).then(|| time(&x.stx_btime)),
        rdev: libc::makedev(x.stx_rdev_major, x.stx_rdev_minor),
        dev: libc::makedev(x.stx_dev_major, x.stx_dev_minor),
        mount_id: x.stx_mnt_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};

    #[test]
    fn says_what_the_library_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "12345").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let at = File::open(dir.path()).unwrap();
        let file = statx(at.as_fd(), c"file").unwrap();
        let other = std::fs::metadata(dir.path().join("file")).unwrap();
        assert_eq!((file.size, file.mode, file.ino), (5, other.mode(), other.ino()));
        assert_eq!((file.dev, file.rdev), (other.dev(), other.rdev()));
        assert_eq!((file.mtime.s, i64::from(file.mtime.ns)), (other.mtime(), other.mtime_nsec()));
        let link = statx(at.as_fd(), c"link").unwrap();
        assert_eq!(link.mode & libc::S_IFMT, libc::S_IFLNK);
        let path = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(dir.path().join("link"))
            .unwrap();
        assert_eq!(statx(path.as_fd(), c"").unwrap(), link);
        assert!(statx(at.as_fd(), c"none").is_err());
    }

    #[test]
    fn a_device_has_its_number() {
        let null = File::open("/dev/null").unwrap();
        let stat = statx(null.as_fd(), c"").unwrap();
        assert_eq!(stat.rdev, libc::makedev(1, 3));
        let mounts = crate::mount::mountinfo("self").unwrap();
        assert!(mounts.iter().any(|m| u64::from(m.id) == stat.mount_id));
    }
}
