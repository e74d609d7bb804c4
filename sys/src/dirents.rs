//! Directories by offsets: getdents64(2), lseek(2). The library's readdir(3) hides where in a
//! directory an entry is; who serves directories to others has to say it.

use nix::unistd::{Whence, lseek};
use std::ffi::CStr;
use std::io;
use std::iter::FusedIterator;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where the name starts in `struct linux_dirent64`, after its four fields.
const NAME_AT: usize = 19;

/// One entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirent<'a> {
    /// The number of its file.
    pub ino: u64,
    /// What to `seek` to for the entry after it.
    pub next: i64,
    /// The type of its file: `DT_REG`, `DT_DIR`...; `DT_UNKNOWN` where that is not known.
    pub kind: u8,
    /// Its name.
    pub name: &'a CStr,
}

/// Entries that were read; ends before bytes that are not of their form.
#[derive(Clone, Debug)]
pub struct Dirents<'a>(&'a [u8]);

impl<'a> Dirents<'a> {
    /// Those in a buffer that the kernel has filled.
    pub fn parse(filled: &'a [u8]) -> Dirents<'a> {
        Dirents(filled)
    }
}

impl<'a> Iterator for Dirents<'a> {
    type Item = Dirent<'a>;

    fn next(&mut self) -> Option<Dirent<'a>> {
        let rest = std::mem::take(&mut self.0);
        let (ino, fields) = rest.split_first_chunk()?;
        let (next, fields) = fields.split_first_chunk()?;
        let (len, fields) = fields.split_first_chunk()?;
        let len = usize::from(u16::from_ne_bytes(*len));
        let entry = Dirent {
            ino: u64::from_ne_bytes(*ino),
            next: i64::from_ne_bytes(*next),
            kind: *fields.first()?,
            name: CStr::from_bytes_until_nul(rest.get(NAME_AT..len)?).ok()?,
        };
        self.0 = rest.get(len..)?;
        Some(entry)
    }
}

impl FusedIterator for Dirents<'_> {}

/// Reads as many of the next entries of `dir` as `buf` has room for, `.` and `..` among them;
/// none at the end of the directory. 280 bytes have room for any one entry.
///
/// # Errors
/// EINVAL: there is no room for the next entry. ENOENT: the directory was removed.
pub fn read<'a>(dir: BorrowedFd<'_>, buf: &'a mut [u8]) -> io::Result<Dirents<'a>> {
    let (start, len) = (buf.as_mut_ptr(), buf.len());
    // SAFETY: the buffer has the room that is said and outlives the call.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), start, len) };
    let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
    Ok(Dirents(buf.get(..filled).unwrap_or_default()))
}

/// Reads on from an offset: 0, or the `next` of an entry of this directory, also of another
/// descriptor.
///
/// # Errors
/// EINVAL: the file system never gives this offset.
pub fn seek(dir: BorrowedFd<'_>, offset: i64) -> io::Result<()> {
    lseek(dir, offset, Whence::SeekSet)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn names(dir: &File, buf: &mut [u8]) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let more = read(dir.as_fd(), buf).unwrap();
            let before = all.len();
            all.extend(more.map(|e| e.name.to_str().unwrap().to_owned()));
            if all.len() == before {
                return all;
            }
        }
    }

    #[test]
    fn a_directory_is_read_in_pieces_and_from_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..200 {
            std::fs::write(dir.path().join(format!("a rather long name {n}")), "").unwrap();
        }
        let at = File::open(dir.path()).unwrap();
        let mut buf = [0; 512];
        let all = names(&at, &mut buf);
        assert_eq!(all.len(), 202);
        seek(at.as_fd(), 0).unwrap();
        let first: Vec<(String, i64)> = read(at.as_fd(), &mut buf)
            .unwrap()
            .map(|e| (e.name.to_str().unwrap().to_owned(), e.next))
            .collect();
        assert!(first.len() > 2 && first.iter().map(|e| &e.0).eq(&all[..first.len()]));
        let other = File::open(dir.path()).unwrap();
        seek(other.as_fd(), first[1].1).unwrap();
        assert_eq!(names(&other, &mut buf), all[2..]);
    }

    #[test]
    fn no_room_is_an_error_and_no_entry_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let at = File::open(dir.path()).unwrap();
        let small = read(at.as_fd(), &mut [0; 8]).unwrap_err();
        assert_eq!(small.raw_os_error(), Some(libc::EINVAL));
        let mut buf = [0; 512];
        let kinds: Vec<u8> = read(at.as_fd(), &mut buf).unwrap().map(|e| e.kind).collect();
        assert_eq!(kinds, [libc::DT_DIR; 2]);
        assert_eq!(read(at.as_fd(), &mut buf).unwrap().count(), 0);
    }

    #[test]
    fn any_bytes_are_read_safely() {
        let mut entry = [0; 32];
        entry[16] = 32;
        entry[NAME_AT] = b'x';
        for seed in 0..20_000 {
            let mut noise = Noise::new(seed);
            let bytes = noise.bytes(120);
            assert!(Dirents::parse(&bytes).count() <= bytes.len() / NAME_AT);
            let mut nearly = entry.repeat(3);
            for _ in 0..3 {
                let at = noise.below(nearly.len());
                nearly[at] ^= 1 << noise.below(8);
            }
            assert!(Dirents::parse(&nearly).count() <= nearly.len() / NAME_AT);
        }
        assert_eq!(Dirents::parse(&entry.repeat(3)).count(), 3);
    }
}
