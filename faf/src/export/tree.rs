//! One making of the exported tree.

use super::Rules;
use crate::handle::MountKey;
use crate::op::Key;
use krg_sys::fanotify;
use krg_sys::file_handle::{self, FileHandle};
use krg_sys::mount::{self, MountEntry, MsFlags};
use krg_sys::ns::{self, Namespaces};
use krg_sys::procfs;
use krg_sys::statx::{Stat, statx};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Mounts of one tree. What is mounted beyond that is not seen.
const MOUNTS_MAX: usize = 4096;

/// The tree, and what is mounted in it.
pub struct Tree {
    rules: Arc<Rules>,
    mounts: HashMap<MountKey, Mount>,
    by_id: HashMap<i32, MountKey>,
    /// Directories nobody may see, wherever else they are mounted: device and number.
    denied: HashSet<(u64, u64)>,
    root: (MountKey, FileHandle),
    /// Keeps the mounts where they are.
    _namespace: OwnedFd,
}

struct Mount {
    /// Not `O_PATH`: open_by_handle_at(2) does not take that.
    fd: OwnedFd,
    /// What is added to the numbers of its files, so that no two files of the tree have the same.
    ino_offset: u64,
    device: u64,
    /// As fanotify tells of it; none if it cannot be watched.
    fsid: Option<u64>,
}

/// A file that was found by its name.
pub struct Child {
    /// It, opened with `O_PATH`.
    pub fd: OwnedFd,
    /// Its mount.
    pub mount: MountKey,
    /// What names it there.
    pub handle: FileHandle,
}

impl Tree {
    /// Makes the tree of the mount namespace that this process is in.
    ///
    /// # Errors
    /// EPERM without root; ENOENT when the exported directory is not there.
    pub fn build(rules: Arc<Rules>) -> io::Result<Tree> {
        // A thread can leave for another namespace, and nobody else of the process goes with it.
        let built = std::thread::Builder::new().name("export".into()).spawn(|| build(rules))?;
        built.join().map_err(|_| io::Error::other("the export's thread panicked"))?
    }

    /// What holds for it.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A descriptor in a mount, if it is there.
    pub fn mount(&self, key: MountKey) -> Option<BorrowedFd<'_>> {
        self.mounts.get(&key).map(|m| m.fd.as_fd())
    }

    /// The root of the export.
    pub fn root(&self) -> &(MountKey, FileHandle) {
        &self.root
    }

    /// What `name` is in a directory: one name, not followed, at most into a mount of this tree.
    ///
    /// # Errors
    /// The kernel's; EACCES for a denied directory, ENOENT for a mount that is not of the tree.
    pub fn child(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_SYMLINKS,
        );
        Ok(openat2(dir, name, how)?)
    }

    /// Which mount of the tree a file is in, and what names it there.
    ///
    /// # Errors
    /// ENOENT if it is in none.
    pub fn identify(&self, fd: OwnedFd) -> io::Result<Child> {
        let (handle, id) = file_handle::of(fd.as_fd())?;
        let mount = self.key(id)?;
        Ok(Child { fd, mount, handle })
    }

    /// The mount with the kernel's number `id`.
    ///
    /// # Errors
    /// ENOENT if it is not of the tree.
    pub fn key(&self, id: i32) -> io::Result<MountKey> {
        let key = self.by_id.get(&id);
        key.copied().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// What a file is called when it changes.
    pub fn change_key(&self, mount: MountKey, file: &FileHandle) -> Key {
        let fsid = self.mounts.get(&mount).and_then(|m| m.fsid);
        change_key(fsid.unwrap_or(mount.0), file)
    }

    /// The mounts, for who watches them.
    pub fn mounts(&self) -> impl Iterator<Item = (MountKey, BorrowedFd<'_>)> {
        self.mounts.iter().map(|(key, m)| (*key, m.fd.as_fd()))
    }

    /// Must nobody see this?
    pub fn is_denied(&self, stat: &Stat) -> bool {
        self.denied.contains(&(stat.dev, stat.ino))
    }

    /// The number that clients know a file by.
    pub fn ino(&self, key: MountKey, stat: &Stat) -> u64 {
        let offset = self.mounts.get(&key).map_or(0, |m| {
            // A file system may have more than one device (btrfs has one a subvolume).
            let other = if m.device == stat.dev { 0 } else { spread(&stat.dev.to_string()) };
            m.ino_offset.wrapping_add(other)
        });
        // 1 is the root's for FUSE, and 0 nobody's.
        match stat.ino.wrapping_add(offset) {
            ino @ (0 | 1) => ino.wrapping_add(1 << 62),
            ino => ino,
        }
    }
}

/// What a file of the file system with this number is called when it changes.
pub fn change_key(fsid: u64, file: &FileHandle) -> Key {
    let mut hasher = DefaultHasher::new();
    (fsid, file.kind, file.bytes()).hash(&mut hasher);
    hasher.finish()
}

/// The same number for the same text, today and after an upgrade.
fn digest(text: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    u64::from_le_bytes(*digest.as_ref().first_chunk().unwrap_or(&[0; 8]))
}

/// A number in the upper bits, where small inode numbers have none.
fn spread(text: &str) -> u64 {
    digest(text) & !0xffff_ffff
}

fn build(rules: Arc<Rules>) -> io::Result<Tree> {
    ns::unshare(Namespaces::MOUNT)?;
    mount::make_private_recursive(Path::new("/"))?;
    strip(&rules)?;
    let denied = cover(&rules);
    let namespace = File::open("/proc/thread-self/ns/mnt").or_else(|_| own_namespace())?;
    let root = open_in_tree(&rules.root)?;
    let root_stat = statx(root.as_fd(), c"")?;
    let (root_handle, root_id) = file_handle::of(root.as_fd())?;
    let mut tree = Tree {
        rules,
        mounts: HashMap::new(),
        by_id: HashMap::new(),
        denied,
        root: (MountKey(0), root_handle),
        _namespace: namespace.into(),
    };
    for entry in mount::mountinfo("thread-self")?.iter().take(MOUNTS_MAX) {
        let nested = tree.rules.nested && entry.mount_point.starts_with(&tree.rules.root);
        let id = entry.id as i32;
        if !nested && id != root_id {
            continue;
        }
        let Ok((key, mount)) = take(entry, &root_stat, id == root_id) else { continue };
        tree.by_id.insert(id, key);
        tree.mounts.insert(key, mount);
    }
    tree.root.0 = tree.key(root_id)?;
    Ok(tree)
}

/// /proc may be covered by a view, or not be there.
fn own_namespace() -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let proc = procfs::own()?.root();
    let mode = nix::sys::stat::Mode::empty();
    Ok(nix::fcntl::openat(proc.0, "thread-self/ns/mnt", flags, mode)?.into())
}

/// Takes out of the tree what shows no files.
fn strip(rules: &Rules) -> io::Result<()> {
    for entry in mount::mountinfo("thread-self")?.iter().rev() {
        let files = mount::is_disk_type(&entry.fs_type) || entry.fs_type == "tmpfs";
        if files || entry.mount_point == Path::new("/") || entry.mount_point == rules.root {
            continue;
        }
        // Gone with the one it was in, or hidden below another.
        if let Err(e) = mount::umount_detach(&entry.mount_point) {
            tracing::debug!(path = %entry.mount_point.display(), error = %e, "stays mounted");
        }
    }
    Ok(())
}

/// Covers what nobody may see; which directories those are.
fn cover(rules: &Rules) -> HashSet<(u64, u64)> {
    let mut denied = HashSet::new();
    for path in &rules.deny {
        let Ok(dir) = open_in_tree(path) else { continue };
        if let Ok(stat) = statx(dir.as_fd(), c"") {
            denied.insert((stat.dev, stat.ino));
        }
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if let Err(e) = mount::mount_fs("none", path, "tmpfs", flags, "mode=0,size=4k") {
            tracing::debug!(path = %path.display(), error = %e, "not covered");
        }
    }
    denied
}

fn open_in_tree(path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// One line of the mount table, if it is what one sees at its place.
fn take(entry: &MountEntry, root: &Stat, is_root: bool) -> io::Result<(MountKey, Mount)> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY);
    let fd: OwnedFd = options.open(&entry.mount_point)?.into();
    let stat = statx(fd.as_fd(), c"")?;
    let files = mount::is_disk_type(&entry.fs_type) || entry.fs_type == "tmpfs";
    if stat.mount_id != u64::from(entry.id) || !(files || is_root) {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    let id = nix::sys::statfs::fstatfs(&fd)?.filesystem_id();
    let id = format!("{id:?}");
    let place = format!("{id} {} {}", entry.mount_point.display(), entry.root.display());
    let ino_offset = if stat.dev == root.dev { 0 } else { spread(&id) };
    let fsid = fanotify::fsid(fd.as_fd()).ok();
    let mount = Mount { fd, ino_offset, device: stat.dev, fsid };
    Ok((MountKey(digest(&place)), mount))
}
