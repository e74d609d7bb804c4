//! Extended attributes of files: getxattr(2), setxattr(2), listxattr(2), removexattr(2).
//!
//! Every path is followed: a file that is open, also with `O_PATH`, is named `self/fd/N` relative
//! to a procfs. That of a symbolic link leads to the link itself.

use std::ffi::CStr;
use std::io;

fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an attribute and says how long it is; an empty buffer asks for the length alone.
///
/// # Errors
/// ENODATA: there is none of this name. ERANGE: it is longer than the buffer.
pub fn get(path: &CStr, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    let (buf, len) = (value.as_mut_ptr(), value.len());
    // SAFETY: two C strings, and a buffer with the room that is said; all outlive the call.
    length(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buf.cast(), len) })
}

/// Sets an attribute; `flags` are 0, `XATTR_CREATE` (it must be new) or `XATTR_REPLACE`.
///
/// # Errors
/// EEXIST and ENODATA as the flags say; EOPNOTSUPP: the file cannot have one of this kind.
pub fn set(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> io::Result<()> {
    let (buf, len) = (value.as_ptr(), value.len());
    // SAFETY: two C strings, and a buffer of the length that is said; all outlive the call.
    done(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), buf.cast(), len, flags) })
}

/// Reads the names of all attributes, each ended by a zero, and says how many bytes they take; an
/// empty buffer asks for that alone.
///
/// # Errors
/// ERANGE: they take more than the buffer has.
pub fn list(path: &CStr, names: &mut [u8]) -> io::Result<usize> {
    let (buf, len) = (names.as_mut_ptr(), names.len());
    // SAFETY: a C string, and a buffer with the room that is said; both outlive the call.
    length(unsafe { libc::listxattr(path.as_ptr(), buf.cast(), len) })
}

/// Takes an attribute away.
///
/// # Errors
/// ENODATA: there is none of this name.
pub fn remove(path: &CStr, name: &CStr) -> io::Result<()> {
    // SAFETY: two C strings that outlive the call.
    done(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::is_root;
    use std::ffi::CString;
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{OpenOptionsExt, symlink};
    use std::path::Path;

    fn errno<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|e| e.raw_os_error())
    }

    /// An open file, and the path it has by its descriptor.
    fn by_descriptor(path: &Path) -> (std::fs::File, CString) {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        (file, path)
    }

    #[test]
    fn an_attribute_is_set_read_listed_and_removed() {
        if !is_root("an_attribute_is_set") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let (_file, path) = by_descriptor(&dir.path().join("file"));
        set(&path, c"trusted.a", b"value", libc::XATTR_CREATE).unwrap();
        assert_eq!(errno(set(&path, c"trusted.a", b"", libc::XATTR_CREATE)), Some(libc::EEXIST));
        assert_eq!(get(&path, c"trusted.a", &mut []).unwrap(), 5);
        assert_eq!(errno(get(&path, c"trusted.a", &mut [0; 2])), Some(libc::ERANGE));
        let mut value = [0; 10];
        assert_eq!(get(&path, c"trusted.a", &mut value).unwrap(), 5);
        assert_eq!(&value[..5], b"value");
        let mut names = vec![0; list(&path, &mut []).unwrap()];
        let len = list(&path, &mut names).unwrap();
        assert!(names[..len].split(|b| *b == 0).any(|name| name == b"trusted.a"));
        set(&path, c"trusted.a", b"", 0).unwrap();
        assert_eq!(get(&path, c"trusted.a", &mut value).unwrap(), 0);
        remove(&path, c"trusted.a").unwrap();
        assert_eq!(errno(get(&path, c"trusted.a", &mut [])), Some(libc::ENODATA));
        assert_eq!(errno(remove(&path, c"trusted.a")), Some(libc::ENODATA));
    }

    #[test]
    fn the_descriptor_of_a_link_is_the_link() {
        if !is_root("the_descriptor_of_a_link") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let (_link, link) = by_descriptor(&dir.path().join("link"));
        let (_file, file) = by_descriptor(&dir.path().join("file"));
        let path = CString::new(dir.path().join("link").to_str().unwrap()).unwrap();
        set(&link, c"trusted.a", b"link", 0).unwrap();
        assert_eq!(errno(get(&path, c"trusted.a", &mut [])), Some(libc::ENODATA));
        set(&path, c"trusted.a", b"file's", 0).unwrap();
        assert_eq!(get(&file, c"trusted.a", &mut []).unwrap(), 6);
        assert_eq!(get(&link, c"trusted.a", &mut []).unwrap(), 4);
    }
}
