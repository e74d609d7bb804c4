//! Making a tree, on a thread that leaves for a mount namespace of its own.

use super::denied::Denied;
use super::{Mount, Tree, digest, spread};
use crate::bytes::Name;
use crate::export::Rules;
use crate::handle::MountKey;
use crate::op::Key;
use krg_sys::fanotify;
use krg_sys::file_handle;
use krg_sys::mount::{self, MountEntry};
use krg_sys::ns::{self, Namespaces};
use krg_sys::procfs;
use krg_sys::statx::{Stat, statx};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mounts of one tree. What is mounted beyond that is not seen.
const MOUNTS_MAX: usize = 4096;

pub(super) fn build(rules: Arc<Rules>) -> io::Result<Tree> {
    ns::unshare(Namespaces::MOUNT)?;
    mount::make_private_recursive(Path::new("/"))?;
    strip(&rules)?;
    let denied = Denied::cover(&rules.deny);
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
        let taken = take(entry, &root_stat, id == root_id, &tree.rules);
        let Ok((key, mut mount)) = taken else { continue };
        if id != root_id {
            // What it is mounted in is listed before it.
            mount.place = tree.place(&entry.mount_point);
        }
        tree.by_id.insert(id, key);
        tree.mounts.insert(key, mount);
    }
    tree.root.0 = tree.key(root_id)?;
    Ok(tree)
}

impl Tree {
    fn place(&self, mount_point: &Path) -> Option<(Key, Name)> {
        let name = Name::new(mount_point.file_name()?.as_bytes()).ok()?;
        let parent = open_in_tree(mount_point.parent()?).ok()?;
        let parent = self.identify(parent).ok()?;
        Some((self.change_key(parent.mount, &parent.handle), name))
    }
}

/// What a tree of these rules depends on of a mount table, as one number.
pub fn mounts_seen(rules: &Rules, table: &[MountEntry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let seen = table.iter().filter(|m| holds_files(m) || m.mount_point == rules.root);
    for m in seen.filter(|m| rules.concerns(&m.mount_point)) {
        (m.id, m.parent, m.device, &m.root, &m.mount_point, &m.options).hash(&mut hasher);
    }
    hasher.finish()
}

/// Which files the paths of rules lead to now, as one number: a tree holds on to those that were
/// there when it was made.
pub fn places_seen(rules: &Rules) -> u64 {
    let mut hasher = DefaultHasher::new();
    let parents = rules.deny.iter().filter_map(|path| path.parent());
    let paths = rules.deny.iter().map(PathBuf::as_path).chain(parents);
    for path in paths.chain([rules.root.as_path()]) {
        let found = std::fs::metadata(path).ok();
        found.map(|m| (m.dev(), m.ino())).hash(&mut hasher);
    }
    hasher.finish()
}

/// Does it hold files, or only show what looks like some?
fn holds_files(entry: &MountEntry) -> bool {
    mount::is_disk_type(&entry.fs_type) || entry.fs_type == "tmpfs"
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
        if holds_files(entry)
            || entry.mount_point == Path::new("/")
            || entry.mount_point == rules.root
        {
            continue;
        }
        // Gone with the one it was in, or hidden below another.
        if let Err(e) = mount::umount_detach(&entry.mount_point) {
            tracing::debug!(path = %entry.mount_point.display(), error = %e, "stays mounted");
        }
    }
    Ok(())
}

pub(super) fn open_in_tree(path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// One line of the mount table, if it is what one sees at its place.
fn take(
    entry: &MountEntry,
    root: &Stat,
    is_root: bool,
    rules: &Rules,
) -> io::Result<(MountKey, Mount)> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY);
    let fd: OwnedFd = options.open(&entry.mount_point)?.into();
    let stat = statx(fd.as_fd(), c"")?;
    if stat.mount_id != u64::from(entry.id) || !(holds_files(entry) || is_root) {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    let id = nix::sys::statfs::fstatfs(&fd)?.filesystem_id();
    let id = format!("{id:?}");
    let (point, root_of, view) = (&entry.mount_point, &entry.root, rules.view());
    let place = format!("{id} {} {} {view}", point.display(), root_of.display());
    let ino_offset = if stat.dev == root.dev { 0 } else { spread(&id) };
    let fsid = fanotify::fsid(fd.as_fd()).ok();
    let mount = Mount { fd, ino_offset, device: stat.dev, fsid, place: None };
    Ok((MountKey(digest(&place)), mount))
}
