//! What changes in whole file systems, whoever changes it: fanotify(7), with files named by their
//! handles, so that nothing is kept open.
//!
//! What it does not tell: stores through a shared mapping (only the close after the last of them),
//! and on a whole file system truncate(2) and a new mtime alone, which count as writes: those are
//! told of files that are watched one by one. Events of one file by one process that nobody has
//! read yet are merged: one event may have many bits, in no order.

use crate::file_handle::FileHandle;
use crate::procfs;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `read` with a buffer of this size has room for any one event.
pub const EVENT_BYTES_MAX: usize = 4096;

/// Something has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What: the bits below, any number of them.
    pub mask: u64,
    /// The process that did it; 0 if it is of another pid namespace.
    pub pid: i32,
    /// In which file system, as `fsid` says it.
    pub fsid: u64,
    /// In which directory, for what has a name.
    pub dir: Option<FileHandle>,
    /// Under which name of that directory. It need not be its name any more.
    pub name: Option<CString>,
    /// Which file. Not known on kernels before 5.17 for what only concerns its name.
    pub object: Option<FileHandle>,
    /// Events were lost: anything may have changed. Nothing else of this event counts.
    pub overflow: bool,
}

impl Event {
    /// The content was written, or truncated; only of files that are watched one by one.
    pub const MODIFY: u64 = libc::FAN_MODIFY;
    /// Other attributes were changed, the number of names among them.
    pub const ATTRIB: u64 = libc::FAN_ATTRIB;
    /// A file that was open for writing was closed, whether written or not.
    pub const CLOSE_WRITE: u64 = libc::FAN_CLOSE_WRITE;
    /// Something was renamed; it had this name before.
    pub const MOVED_FROM: u64 = libc::FAN_MOVED_FROM;
    /// Something was renamed; it has this name now.
    pub const MOVED_TO: u64 = libc::FAN_MOVED_TO;
    /// A name was made.
    pub const CREATE: u64 = libc::FAN_CREATE;
    /// A name was removed.
    pub const DELETE: u64 = libc::FAN_DELETE;
    /// A file is gone: it has no name any more and nobody has it open.
    pub const DELETE_SELF: u64 = libc::FAN_DELETE_SELF;
    /// It is a directory.
    pub const ON_DIR: u64 = libc::FAN_ONDIR;

    fn lost() -> Event {
        let (dir, name, object) = (None, None, None);
        let mask = libc::FAN_Q_OVERFLOW;
        Event { mask, pid: 0, fsid: 0, dir, name, object, overflow: true }
    }
}

/// What is asked of a file system. Writes are not: they would cost every local writer a
/// microsecond for each.
const ON_FILE_SYSTEM: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_ATTRIB
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_DELETE_SELF
    | libc::FAN_ONDIR;

/// Kernel 5.17, and what came before it.
const NAMES: [libc::c_uint; 2] =
    [libc::FAN_REPORT_DFID_NAME_TARGET, libc::FAN_REPORT_DFID_NAME | libc::FAN_REPORT_FID];

/// Watches any number of file systems and files. Its descriptor is readable when there are events.
#[derive(Debug)]
pub struct Watcher(OwnedFd);

impl Watcher {
    /// One that watches nothing yet. Its queue is bounded (fs.fanotify.max_queued_events).
    ///
    /// # Errors
    /// EPERM: no CAP_SYS_ADMIN. EMFILE: fs.fanotify.max_user_groups of them exist.
    pub fn new() -> io::Result<Watcher> {
        match Watcher::with(NAMES[0]) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Watcher::with(NAMES[1]),
            result => result,
        }
    }

    fn with(names: libc::c_uint) -> io::Result<Watcher> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_NONBLOCK | libc::FAN_CLOEXEC | names;
        // SAFETY: plain integers; returns a new descriptor or -1.
        let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        Ok(Watcher(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Tells from now on of names, attributes and closed files of the whole file system that
    /// `mount` is any file of, by whatever mount they are reached. It ends with the file system.
    ///
    /// # Errors
    /// EOPNOTSUPP: its files have no handles (overlayfs without `nfs_export`). ENODEV: it has no
    /// number of its own (FUSE). EXDEV: one of several volumes of a file system (btrfs).
    pub fn watch_file_system(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, ON_FILE_SYSTEM, mount)
    }

    /// Tells from now on when this one file is written or truncated. Every write costs its writer
    /// a microsecond, and the kernel keeps the file's inode in memory.
    ///
    /// # Errors
    /// As `watch_file_system`; ENOSPC: fs.fanotify.max_user_marks of them exist.
    pub fn watch_inode(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_ADD, libc::FAN_MODIFY, fd)
    }

    /// Does not tell of this one file any more; what was not read yet is still told.
    ///
    /// # Errors
    /// ENOENT: it is not watched.
    pub fn unwatch_inode(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_REMOVE, libc::FAN_MODIFY, fd)
    }

    /// Does not tell of any of those files any more; of whole file systems it does.
    ///
    /// # Errors
    /// None is known.
    pub fn unwatch_inodes(&self) -> io::Result<()> {
        let (own, flags) = (self.0.as_raw_fd(), libc::FAN_MARK_FLUSH);
        // SAFETY: plain integers; this flag takes no path.
        match unsafe { libc::fanotify_mark(own, flags, 0, libc::AT_FDCWD, std::ptr::null()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The kernel takes no descriptor opened with `O_PATH` here (EBADF, up to 6.18) and no empty
    /// path (ENOENT), so the file is named by its link in a procfs. That of a symbolic link leads
    /// to the link itself, and nothing is opened: a FIFO or a device does not wake.
    fn mark(&self, flags: libc::c_uint, mask: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let path = CString::new(format!("self/fd/{}", fd.as_raw_fd()))?;
        let (own, at) = (self.0.as_raw_fd(), procfs::own()?.root().0.as_raw_fd());
        // SAFETY: a C string that outlives the call; else plain integers.
        match unsafe { libc::fanotify_mark(own, flags, mask, at, path.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads events, as many as the buffer has room for; none if there are none, without waiting.
    ///
    /// # Errors
    /// EINVAL: the buffer has no room for the next event.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<Vec<Event>> {
        match nix::unistd::read(&self.0, buf) {
            Ok(filled) => Ok(parse(buf.get(..filled).unwrap_or_default())),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number that events have of the file system of this file.
///
/// # Errors
/// Those of fstatfs(2).
pub fn fsid(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let id = nix::sys::statfs::fstatfs(fd)?.filesystem_id();
    // SAFETY: both are eight bytes without padding, of which every value is valid; the library
    // keeps the two integers of the first to itself.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, u64>(id) })
}

/// Reads what the kernel has filled a buffer with. Bytes that are not of its form count as events
/// that were lost.
pub fn parse(filled: &[u8]) -> Vec<Event> {
    let (mut events, mut rest) = (Vec::new(), filled);
    while !rest.is_empty() {
        let (event, after) = first_event(rest).unwrap_or_else(|| (Event::lost(), &[]));
        events.push(event);
        rest = after;
    }
    events
}

/// `N` bytes from `at` on.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// `struct fanotify_event_metadata`, its records, and what follows.
fn first_event(bytes: &[u8]) -> Option<(Event, &[u8])> {
    const HEAD_BYTES: usize = 24;
    let len = u32::from_ne_bytes(field(bytes, 0)?);
    let (this, after) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    let [version] = field(this, 4)?;
    let head = usize::from(u16::from_ne_bytes(field(this, 6)?));
    if version != libc::FANOTIFY_METADATA_VERSION || head < HEAD_BYTES {
        return None;
    }
    let mask = u64::from_ne_bytes(field(this, 8)?);
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return Some((Event::lost(), after));
    }
    let pid = i32::from_ne_bytes(field(this, 20)?);
    let (dir, name, object) = (None, None, None);
    let mut event = Event { mask, pid, fsid: 0, dir, name, object, overflow: false };
    let mut records = this.get(head..)?;
    while !records.is_empty() {
        let [kind] = field(records, 0)?;
        let len = usize::from(u16::from_ne_bytes(field(records, 2)?));
        let (record, others) = records.split_at_checked(len)?;
        add_record(&mut event, kind, record)?;
        records = others;
    }
    Some((event, after))
}

/// `struct fanotify_event_info_fid`: which file system, a file handle, for some a name.
fn add_record(event: &mut Event, kind: u8, record: &[u8]) -> Option<()> {
    const HANDLE_AT: usize = 20;
    let fid = [
        libc::FAN_EVENT_INFO_TYPE_FID,
        libc::FAN_EVENT_INFO_TYPE_DFID,
        libc::FAN_EVENT_INFO_TYPE_DFID_NAME,
    ];
    if !fid.contains(&kind) {
        // Of a later kernel, and never asked for. Its length alone must be sane, or the loop over
        // records would not end.
        return (record.len() >= 4).then_some(());
    }
    event.fsid = u64::from_ne_bytes(field(record, 4)?);
    let len = usize::try_from(u32::from_ne_bytes(field(record, 12)?)).ok()?;
    let handle_kind = i32::from_ne_bytes(field(record, 16)?);
    let (bytes, tail) = record.get(HANDLE_AT..)?.split_at_checked(len)?;
    let handle = FileHandle::new(handle_kind, bytes)?;
    if kind == libc::FAN_EVENT_INFO_TYPE_FID {
        event.object = Some(handle);
        return Some(());
    }
    let name = match kind {
        libc::FAN_EVENT_INFO_TYPE_DFID_NAME => Some(CStr::from_bytes_until_nul(tail).ok()?),
        _ => None,
    };
    // A directory itself is told of as the dot in it.
    if name == Some(c".") {
        event.object = Some(handle);
    } else {
        (event.dir, event.name) = (Some(handle), name.map(CStr::to_owned));
    }
    Some(())
}

#[cfg(test)]
mod tests;
