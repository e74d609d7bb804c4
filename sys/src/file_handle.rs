//! Names of files that outlive their paths: name_to_handle_at(2), open_by_handle_at(2).
//!
//! A handle means the same file for as long as the file exists, across restarts of who holds it
//! and of the machine, whatever it is renamed to. ESTALE says that it is gone.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The longest handle that the kernel makes or takes (`MAX_HANDLE_SZ`).
pub const BYTES_MAX: usize = 128;

/// A file of one file system. Which one is not in it: the mount is asked for separately.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FileHandle {
    /// How the file system reads the bytes.
    pub kind: i32,
    bytes: Box<[u8]>,
}

impl FileHandle {
    /// A handle that somebody kept; `None` if it is longer than any.
    pub fn new(kind: i32, bytes: &[u8]) -> Option<FileHandle> {
        (bytes.len() <= BYTES_MAX).then(|| FileHandle { kind, bytes: bytes.into() })
    }

    /// What tells it from the other files of its file system.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Raw {
    len: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; BYTES_MAX],
}

/// The handle of an open file (of any type, also opened with `O_PATH`), and the mount it was
/// reached by.
///
/// # Errors
/// EOPNOTSUPP: its file system has no handles that could be opened again (overlayfs without
/// `nfs_export`, proc). EOVERFLOW: a file system that has, but not for this file.
pub fn of(fd: BorrowedFd<'_>) -> io::Result<(FileHandle, i32)> {
    of_name(fd, c"")
}

/// The handle of what `name` is in the directory `dir`, without following a link; of `dir` itself
/// if the name is empty.
///
/// # Errors
/// As `of`, and those of looking a name up.
pub fn of_name(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(FileHandle, i32)> {
    let mut raw = Raw { len: BYTES_MAX as libc::c_uint, kind: 0, bytes: [0; BYTES_MAX] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the name is a C string; `raw` is a file_handle with as many bytes after it as its
    // length says; both and `mount` outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = raw.bytes.get(..raw.len as usize).unwrap_or(&raw.bytes);
    Ok((FileHandle { kind: raw.kind, bytes: bytes.into() }, mount))
}

/// Opens the file of a handle; `flags` are those of open(2), `O_CLOEXEC` is added. A symbolic
/// link takes `O_PATH` and is not followed. `mount` is any file of the mounted file system and
/// says by which mount the file is reached; opened with `O_PATH` it is refused (EBADF, at least up
/// to kernel 6.18).
///
/// What is not a directory comes without a name unless the kernel has one of its names at hand: its
/// link in a procfs says `/`, and events of what is done through the descriptor have no name. On an
/// overlay, a first write through it to a file of a lower layer is then lost at the next mount (the
/// copy has no name: EIO). Looking up a name just before avoids all of it.
///
/// # Errors
/// ESTALE: there is no such file any more, or never was. EPERM: the thread has no
/// CAP_DAC_READ_SEARCH. Then those of open(2).
pub fn open(mount: BorrowedFd<'_>, handle: &FileHandle, flags: i32) -> io::Result<OwnedFd> {
    let len = handle.bytes.len();
    let mut raw = Raw { len: len as libc::c_uint, kind: handle.kind, bytes: [0; BYTES_MAX] };
    raw.bytes[..len].copy_from_slice(&handle.bytes);
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: `raw` is a file_handle with at least as many bytes after it as its length says, and
    // outlives the call, which only reads it.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const raw, flags)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statx::statx;
    use crate::testing::is_root;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{OpenOptionsExt, symlink};

    fn errno<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|e| e.raw_os_error())
    }

    #[test]
    fn a_handle_is_of_limited_length() {
        assert_eq!(FileHandle::new(1, &[7; BYTES_MAX]).unwrap().bytes().len(), BYTES_MAX);
        assert!(FileHandle::new(1, &[7; BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn a_handle_survives_a_rename_and_ends_with_the_file() {
        if !is_root("a_handle_survives_a_rename") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (name, renamed) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&name, "text").unwrap();
        let at = File::open(dir.path()).unwrap();
        let (handle, mount) = of_name(at.as_fd(), c"a").unwrap();
        assert_eq!(mount as u64, statx(at.as_fd(), c"").unwrap().mount_id);
        std::fs::rename(&name, &renamed).unwrap();
        let kept = FileHandle::new(handle.kind, handle.bytes()).unwrap();
        let again = open(at.as_fd(), &kept, libc::O_RDONLY).unwrap();
        assert_eq!(std::io::read_to_string(File::from(again)).unwrap(), "text");
        let path = open(at.as_fd(), &kept, libc::O_PATH).unwrap();
        assert_eq!(of(path.as_fd()).unwrap().0, handle);
        drop(path);
        std::fs::remove_file(&renamed).unwrap();
        assert_eq!(errno(open(at.as_fd(), &kept, libc::O_PATH)), Some(libc::ESTALE));
    }

    #[test]
    fn a_link_is_not_followed_and_the_mount_is_really_open() {
        if !is_root("a_link_is_not_followed") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        symlink("/nowhere", dir.path().join("link")).unwrap();
        let at = File::open(dir.path()).unwrap();
        let (handle, _) = of_name(at.as_fd(), c"link").unwrap();
        assert_eq!(errno(open(at.as_fd(), &handle, libc::O_RDONLY)), Some(libc::ELOOP));
        let link = open(at.as_fd(), &handle, libc::O_PATH).unwrap();
        assert_eq!(statx(link.as_fd(), c"").unwrap().mode & libc::S_IFMT, libc::S_IFLNK);
        let path =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(dir.path()).unwrap();
        // A kernel may come that takes it; today's do not.
        let refused = errno(open(path.as_fd(), &handle, libc::O_PATH));
        assert!(matches!(refused, None | Some(libc::EBADF)), "{refused:?}");
    }

    #[test]
    fn what_has_no_handles_says_so() {
        let proc = File::open("/proc").unwrap();
        assert_eq!(errno(of(proc.as_fd())), Some(libc::EOPNOTSUPP));
    }
}
