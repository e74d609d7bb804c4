//! What is behind a descriptor: fstat(2), pipe(7), proc_pid_fd(5).

pub use nix::sys::stat::SFlag;
use nix::sys::stat::fstat;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

/// What kind of thing is open, its device and inode number, and of a device its own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFile {
    /// As in st_mode (inode(7)).
    pub kind: SFlag,
    /// Where it is.
    pub dev: u64,
    /// Which it is there.
    pub ino: u64,
    /// Of a device: which.
    pub rdev: u64,
}

/// Of a descriptor.
///
/// # Errors
/// Those of fstat(2).
pub fn open_file(fd: impl AsFd) -> io::Result<OpenFile> {
    let stat = fstat(fd)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    Ok(OpenFile { kind, dev: stat.st_dev, ino: stat.st_ino, rdev: stat.st_rdev })
}

/// A pipe, FIFO or terminal once more, as an open file of its own: what is set on it (O_NONBLOCK)
/// is not set for those who have the first. Of a pipe either side, whichever is open here.
///
/// # Errors
/// Those of open(2); ENXIO for a socket.
pub fn open_again(fd: impl AsFd, read: bool, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(read).write(write).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Is it open for reading, and for writing, as far as that is asked? One that was opened as a place
/// only (O_PATH) is open for nothing.
///
/// # Errors
/// Those of fcntl(2).
pub fn is_open_for(fd: impl AsFd, reading: bool, writing: bool) -> io::Result<bool> {
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?;
    let access = flags & libc::O_ACCMODE;
    let wrong = (reading && access == libc::O_WRONLY) || (writing && access == libc::O_RDONLY);
    Ok(flags & libc::O_PATH == 0 && !wrong)
}

/// Are these the same open file, with one position (kcmp(2))? False where the kernel does not tell.
pub fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let (own, one, other) =
        (std::process::id(), one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    // SAFETY: plain numbers go in.
    unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one, other) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn nobody_gets_more_than_he_had() {
        let place = File::options().read(true).custom_flags(libc::O_PATH).open("/").unwrap();
        assert!(!is_open_for(&place, false, false).unwrap());
        let read = File::open("/dev/null").unwrap();
        assert!(is_open_for(&read, true, false).unwrap());
        assert!(!is_open_for(&read, false, true).unwrap());
        assert!(is_same(&read, read.try_clone().unwrap()));
        assert!(!is_same(&read, File::open("/dev/null").unwrap()));
    }

    #[test]
    fn what_is_in_a_pipe_can_be_read_from_the_writers_side() {
        let (_read, write) = nix::unistd::pipe().unwrap();
        assert_eq!(open_file(&write).unwrap().kind, SFlag::S_IFIFO);
        let mut file = File::from(write);
        file.write_all(b"left").unwrap();
        let mut buf = [0; 16];
        assert_eq!(open_again(&file, true, false).unwrap().read(&mut buf).unwrap(), 4);
        let empty = open_again(&file, true, false).unwrap().read(&mut buf);
        assert_eq!(empty.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
