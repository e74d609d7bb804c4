//! Mounting, unmounting, and the kernel's list of what is mounted.

use crate::procfs;
use nix::fcntl::{OFlag, openat};
pub use nix::mount::MsFlags;
use nix::mount::{MntFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More than any mount table has (fs.mount-max is 100,000 by default).
const MOUNTINFO_BYTES_MAX: usize = 64 << 20;
const NO_PATH: Option<&Path> = None;
const NO_TEXT: Option<&str> = None;

fn flags_only(source: Option<&Path>, target: &Path, flags: MsFlags) -> io::Result<()> {
    Ok(mount(source, target, NO_TEXT, flags, NO_TEXT)?)
}

/// Shows `source` (a directory or a file) at `target` too, without what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    flags_only(Some(source), target, MsFlags::MS_BIND)
}

/// Shows `source` at `target` with all that is mounted below it.
pub fn rbind(source: &Path, target: &Path) -> io::Result<()> {
    flags_only(Some(source), target, MsFlags::MS_BIND | MsFlags::MS_REC)
}

/// Makes a bind mount read-only (the kernel takes that in a second call only).
pub fn make_bind_read_only(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    flags_only(NO_PATH, target, flags)
}

/// Moves a mount to another place.
pub fn move_mount(source: &Path, target: &Path) -> io::Result<()> {
    flags_only(Some(source), target, MsFlags::MS_MOVE)
}

/// From here down, mounts are neither sent to other namespaces nor taken from them.
pub fn make_private_recursive(target: &Path) -> io::Result<()> {
    flags_only(NO_PATH, target, MsFlags::MS_PRIVATE | MsFlags::MS_REC)
}

/// What is mounted in this mount later appears in its copies in other namespaces too.
pub fn make_shared(target: &Path) -> io::Result<()> {
    flags_only(NO_PATH, target, MsFlags::MS_SHARED)
}

/// From here down, mounts are taken from the namespace this one was copied from, none sent.
pub fn make_slave_recursive(target: &Path) -> io::Result<()> {
    flags_only(NO_PATH, target, MsFlags::MS_SLAVE | MsFlags::MS_REC)
}

/// Mounts a file system of type `fs_type`.
pub fn mount_fs(
    source: &str,
    target: &Path,
    fs_type: &str,
    flags: MsFlags,
    options: &str,
) -> io::Result<()> {
    Ok(mount(Some(source), target, Some(fs_type), flags, Some(options))?)
}

/// Unmounts what nobody uses.
///
/// # Errors
/// EBUSY if somebody does, or something is mounted in it.
pub fn umount(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Takes a mount out of the tree at once; it ends when its last user does.
pub fn umount_detach(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Makes `new_root` (a mount point) the root of this mount namespace and of this process; the old
/// root, with all that is mounted in it, is then at `old`, a directory below `new_root`.
pub fn pivot_root(new_root: &Path, old: &Path) -> io::Result<()> {
    nix::unistd::pivot_root(new_root, old)?;
    Ok(nix::unistd::chdir("/")?)
}

/// One line of `/proc/PID/mountinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountEntry {
    /// The mount's number.
    pub id: u32,
    /// The number of the mount it is in.
    pub parent: u32,
    /// Device number (major, minor) of the files in it.
    pub device: (u32, u32),
    /// What of the file system is mounted: `/`, or a directory or file of a bind mount.
    pub root: PathBuf,
    /// Where, seen from the process's root.
    pub mount_point: PathBuf,
    /// Options of the mount (`rw,nosuid`).
    pub options: String,
    /// Type, with the subtype after a dot (`fuse.sshfs`).
    pub fs_type: String,
    /// What was said to be mounted.
    pub source: PathBuf,
    /// Options of the file system.
    pub super_options: String,
}

/// Reads the text of a `mountinfo` file; lines that are not of its form are left out.
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountEntry> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// What is mounted in the mount namespace of a process: `self` or a pid. Not read through what
/// may cover /proc: it is the way to find out that the cover is dead.
pub fn mountinfo(process: &str) -> io::Result<Vec<MountEntry>> {
    let mut text = Vec::new();
    let path = format!("{process}/mountinfo");
    procfs::own()?.root().read(path, &mut text, MOUNTINFO_BYTES_MAX)?;
    Ok(parse_mountinfo(&text))
}

/// Tells when something is mounted or unmounted in this mount namespace (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// From now on.
    pub fn new() -> io::Result<Changes> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(Changes(openat(procfs::own()?.root().0, "self/mountinfo", flags, Mode::empty())?))
    }

    /// Waits for the next change; `false` if there was none in this time.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLPRI)], limit) {
            Ok(n) => Ok(n > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// What is mounted exactly at a path of this process's mount namespace: of several the uppermost,
/// which is listed last.
pub fn top_at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mountinfo("self")?.into_iter().rev().find(|m| m.mount_point == path))
}

/// File systems that hold a machine's files on a disk or another machine.
const DISK_TYPES: [&str; 24] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "overlay", "virtiofs",
    "9p", "nfs", "nfs4", "erofs", "squashfs", "vfat", "exfat", "ntfs3", "iso9660", "udf", "jfs",
    "nilfs2", "hfsplus", "gfs2",
];

/// Does a file system of this type hold files, rather than show what the kernel or a program
/// thinks up?
pub fn is_disk_type(fs_type: &str) -> bool {
    DISK_TYPES.contains(&fs_type)
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = text(fields.next()?);
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = path(fields.next()?);
    let mount_point = path(fields.next()?);
    let options = text(fields.next()?);
    // Then any number of optional fields, ended by a lone dash.
    fields.by_ref().find(|f| *f == b"-")?;
    Some(MountEntry {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        fs_type: text(fields.next()?),
        source: path(fields.next()?),
        super_options: text(fields.next()?),
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// The kernel writes blanks and backslashes as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn octal(tail: &[u8]) -> Option<u8> {
    let digits = tail.get(..3)?;
    digits.iter().try_fold(0u8, |byte, d| {
        (b'0'..=b'7').contains(d).then_some(())?;
        byte.checked_mul(8)?.checked_add(d - b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_and_without_optional_fields() {
        let text =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,x\n\
            21 1 0:4 / /proc rw - fuse.a\\040b a\\134b rw\n\nbroken line\n1 2 3 / / rw - x y z\n";
        let all = parse_mountinfo(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].mount_point, Path::new("/mnt 2"));
        assert_eq!((all[0].id, all[0].parent, all[0].device), (36, 35, (98, 0)));
        assert_eq!(all[0].root, Path::new("/mnt1"));
        assert_eq!((all[0].fs_type.as_str(), all[0].super_options.as_str()), ("ext3", "rw,x"));
        assert_eq!((all[1].fs_type.as_str(), all[1].options.as_str()), ("fuse.a b", "rw"));
        assert_eq!(all[1].source, Path::new("a\\b"));
    }

    #[test]
    fn only_full_octal_bytes_are_unescaped() {
        assert_eq!(unescape(b"a\\040b\\12"), b"a b\\12");
        assert_eq!(unescape(b"\\777\\089\\"), b"\\777\\089\\");
        assert_eq!(unescape(b"\\377"), [0xff]);
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(mountinfo("self").unwrap().iter().any(|m| m.mount_point == Path::new("/")));
    }
}
