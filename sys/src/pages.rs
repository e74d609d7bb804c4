//! Memory by whole pages, from the kernel and back to it: mmap(2). What is put there once, handed
//! to a pipe without being copied, and given back piece by piece.

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice, vmsplice};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Some, zero at first. Dropped, the kernel has them back at once.
pub struct Pages {
    at: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory is nobody else's, and belongs to no thread.
unsafe impl Send for Pages {}

impl Pages {
    /// So many bytes, rounded up to pages by the kernel. Large pages are not asked for: in a
    /// virtual machine whose host takes free ones back the first use of them takes two to three
    /// times as long.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(length: NonZeroUsize) -> io::Result<Pages> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping somewhere, which changes no other.
        let at = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Pages { at, length: length.get() })
    }

    /// Hands the first so many bytes to a pipe, which takes the pages as they are (vmsplice(2)):
    /// waits until there is room for all of them. They may be dropped then, and not changed: they
    /// are in the pipe until somebody has read them.
    ///
    /// # Errors
    /// Those of vmsplice(2): BrokenPipe when nobody reads there.
    pub fn splice(self, length: usize, pipe: impl AsFd) -> io::Result<()> {
        let mut left = &self[..length.min(self.length)];
        while !left.is_empty() {
            match vmsplice(pipe.as_fd(), &[IoSlice::new(left)], SpliceFFlags::empty()) {
                Ok(taken) => left = &left[taken.min(left.len())..],
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped there as long as `self` is, made by the kernel.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has them.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it is this mapping, and nobody has any of it any more.
        let _ = unsafe { munmap(self.at, self.length) };
    }
}

/// Moves what is in a pipe to a file, at most so many bytes, without a copy of this program's
/// (splice(2)); how many. 0: it has ended.
///
/// # Errors
/// Those of splice(2).
pub fn pour(pipe: impl AsFd, file: impl AsFd, most: usize) -> io::Result<usize> {
    loop {
        match splice(pipe.as_fd(), None, file.as_fd(), None, most, SpliceFFlags::empty()) {
            Err(nix::errno::Errno::EINTR) => {}
            poured => return Ok(poured?),
        }
    }
}

/// Makes a pipe hold so much, bytes, if that is allowed (pipe(7)): the larger the fewer turns.
pub fn widen(pipe: impl AsFd, bytes: u32) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn what_a_pipe_has_taken_stays_when_the_pages_are_gone() {
        let length = 3 << 20;
        let mut pages = Pages::new(NonZeroUsize::new(length).unwrap()).unwrap();
        assert!(pages.iter().all(|byte| *byte == 0));
        for (at, byte) in pages.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        let (read, write) = nix::unistd::pipe().unwrap();
        let writes = std::thread::spawn(move || pages.splice(length - 7, write));
        let mut all = Vec::new();
        File::from(read).read_to_end(&mut all).unwrap();
        writes.join().unwrap().unwrap();
        assert_eq!(all.len(), length - 7);
        assert!(all.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }

    #[test]
    fn nobody_reads() {
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        crate::process::ignore_sigpipe();
        let pages = Pages::new(NonZeroUsize::MIN).unwrap();
        let e = pages.splice(1, write).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
    }
}
