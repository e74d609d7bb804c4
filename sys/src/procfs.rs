//! The kernel's own /proc, reached through a mount of one's own.
//!
//! A daemon that covers /proc with its view must never read through the cover, so it opens an
//! instance that is nowhere in the tree.

use crate::feature::Feature;
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// How /proc hides processes from other users (proc(5), `hidepid` and `gid`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct HidePid {
    /// 0 none, 1 noaccess, 2 invisible, 4 ptraceable.
    pub level: u32,
    /// The group that is exempt.
    pub gid: Option<u32>,
}

impl HidePid {
    /// Reads the options column of /proc's line in mountinfo.
    pub fn from_options(options: &str) -> HidePid {
        let mut hide = HidePid::default();
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("hidepid", "off")) => hide.level = 0,
                Some(("hidepid", "noaccess")) => hide.level = 1,
                Some(("hidepid", "invisible")) => hide.level = 2,
                Some(("hidepid", "ptraceable")) => hide.level = 4,
                Some(("hidepid", n)) => hide.level = n.parse().unwrap_or(0),
                Some(("gid", n)) => hide.gid = n.parse().ok(),
                _ => {}
            }
        }
        hide
    }

    /// What this machine's /proc is mounted with.
    pub fn of_this_machine() -> HidePid {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        HidePid::from_mountinfo(&text)
    }

    /// The last proc mount on /proc in a mountinfo text is the one in force.
    fn from_mountinfo(text: &str) -> HidePid {
        let mut lines = text.lines().rev().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let is_proc = right.next() == Some("proc");
            let on_proc = left.split(' ').nth(4) == Some("/proc");
            (is_proc && on_proc).then(|| right.nth(1)).flatten()
        });
        lines.next().map(HidePid::from_options).unwrap_or_default()
    }
}

/// Bytes of the first read of a file.
const READ_BYTES: usize = 4096;

/// This process's own, opened once and then kept: through it the process sees itself whatever is
/// mounted on /proc.
///
/// # Errors
/// As `Procfs::shared`.
pub fn own() -> io::Result<&'static Procfs> {
    static OWN: OnceLock<Procfs> = OnceLock::new();
    match OWN.get() {
        Some(procfs) => Ok(procfs),
        None => {
            let opened = Procfs::open(HidePid::default())?;
            Ok(OWN.get_or_init(|| opened))
        }
    }
}

/// An open procfs, independent of what is mounted on /proc.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// Mounts an instance nowhere, with the given hiding.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN; then `shared` may do.
    pub fn private(hide: HidePid) -> io::Result<Procfs> {
        if Feature::MountApi.masked() {
            return Procfs::shared();
        }
        let name = c"proc";
        // SAFETY: a constant C string; returns a new descriptor or -1.
        let ctx = owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), 1) })?;
        if hide.level != 0 {
            config(&ctx, 1, Some(("hidepid", &hide.level.to_string())))?;
        }
        if let Some(gid) = hide.gid {
            config(&ctx, 1, Some(("gid", &gid.to_string())))?;
        }
        config(&ctx, 6, None)?;
        // SAFETY: a live descriptor and plain flags (FSMOUNT_CLOEXEC, nosuid nodev noexec).
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, ctx.as_raw_fd(), 1, 0x0e) };
        Ok(Procfs(owned(fd)?))
    }

    /// The one on /proc, if that is the kernel's own.
    ///
    /// # Errors
    /// ENODEV if something else covers /proc.
    pub fn shared() -> io::Result<Procfs> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for path in ["/proc", "/proc/.local"] {
            let Ok(fd) = nix::fcntl::open(path, flags, Mode::empty()) else { continue };
            if is_procfs(&fd) {
                return Ok(Procfs(fd));
            }
        }
        Err(io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// `private`, or `shared` where that is not allowed.
    ///
    /// # Errors
    /// As `shared`.
    pub fn open(hide: HidePid) -> io::Result<Procfs> {
        Procfs::private(hide).or_else(|_| Procfs::shared())
    }

    /// A directory with the same names, for simulated machines.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn of_tree(path: &Path) -> io::Result<Procfs> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Procfs(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// The directory itself.
    pub fn root(&self) -> DirAt<'_> {
        DirAt(self.0.as_fd())
    }

    /// The directory of one process or file tree below it.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn dir(&self, name: &str) -> io::Result<OwnedFd> {
        open_dir(self.0.as_fd(), name)
    }
}

/// An open directory, relative to which everything else is opened.
#[derive(Clone, Copy, Debug)]
pub struct DirAt<'a>(pub BorrowedFd<'a>);

impl DirAt<'_> {
    /// Reads a whole file into `buf`, which is emptied first and may hold `most` bytes.
    ///
    /// # Errors
    /// The kernel's; EFBIG for a longer file.
    pub fn read(&self, path: impl AsRef<Path>, buf: &mut Vec<u8>, most: usize) -> io::Result<()> {
        buf.clear();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(self.0, path.as_ref(), flags, Mode::empty())?;
        read_up_to(&mut File::from(fd), buf, most)
    }

    /// What a link says.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        Ok(readlinkat(self.0, path.as_ref())?.into_vec())
    }

    /// lstat of a name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lstat(&self, path: impl AsRef<Path>) -> io::Result<FileStat> {
        Ok(fstatat(self.0, path.as_ref(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// The names in a directory below, at most `most` of them, without `.` and `..`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn names(&self, path: impl AsRef<Path>, most: usize) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(self.0, path.as_ref(), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
            if names.len() == most {
                break;
            }
        }
        Ok(names)
    }
}

/// Opens a directory to look below it, without reading it.
///
/// # Errors
/// The kernel's.
pub fn open_dir(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Procfs files have no size: reads until the end, into what the buffer has room for and, where
/// that is not enough, more. Not `read_to_end`, which asks for the size first, twice.
fn read_up_to(file: &mut File, buf: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let mut len = 0;
    buf.resize(buf.capacity().max(READ_BYTES), 0);
    loop {
        if len == buf.len() {
            buf.resize(len * 2, 0);
        }
        let n = file.read(&mut buf[len..])?;
        len += n;
        if n == 0 || len > most {
            buf.truncate(len);
            let whole = len <= most;
            return whole.then_some(()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG));
        }
    }
}

fn is_procfs(fd: &OwnedFd) -> bool {
    nix::sys::statfs::fstatfs(fd)
        .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// fsconfig(2): command 1 sets a string, 6 creates.
fn config(ctx: &OwnedFd, command: libc::c_uint, pair: Option<(&str, &str)>) -> io::Result<()> {
    let (key, value) = match pair {
        Some((k, v)) => (Some(CString::new(k)?), Some(CString::new(v)?)),
        None => (None, None),
    };
    let at = |s: &Option<CString>| s.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    // SAFETY: the pointers are null or of C strings that live until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, ctx.as_raw_fd(), command, at(&key), at(&value), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hiding_is_read_from_mountinfo() {
        let text = "22 26 0:20 / /proc rw shared:5 - proc proc rw,gid=27,hidepid=invisible\n\
                    40 22 0:35 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw,fd=29\n";
        let hide = HidePid::from_mountinfo(text);
        assert_eq!(hide, HidePid { level: 2, gid: Some(27) });
        assert_eq!(HidePid::from_mountinfo("").level, 0);
        assert_eq!(HidePid::from_options("rw,hidepid=4").level, 4);
    }

    #[test]
    fn reads_its_own_process() {
        let procfs = Procfs::open(HidePid::default()).unwrap();
        let me = procfs.dir(&std::process::id().to_string()).unwrap();
        let mut buf = Vec::new();
        DirAt(me.as_fd()).read("stat", &mut buf, 1 << 20).unwrap();
        assert!(buf.starts_with(std::process::id().to_string().as_bytes()));
        assert!(DirAt(me.as_fd()).names("fd", 1000).unwrap().len() > 2);
        assert!(procfs.dir("no-such-thing").is_err());
    }
}
