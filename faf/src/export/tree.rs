//! One making of the exported tree.

mod build;
mod denied;

pub use build::{mounts_seen, places_seen};

use super::Rules;
use crate::bytes::Name;
use crate::handle::MountKey;
use crate::op::Key;
use denied::Denied;
use krg_sys::file_handle::{self, FileHandle};
use krg_sys::statx::{Stat, statx};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The tree, and what is mounted in it.
pub struct Tree {
    rules: Arc<Rules>,
    mounts: HashMap<MountKey, Mount>,
    by_id: HashMap<i32, MountKey>,
    denied: Denied,
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
    /// In which directory of the tree it is mounted, and under which name; the root is in none.
    place: Option<(Key, Name)>,
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
        let built =
            std::thread::Builder::new().name("export".into()).spawn(|| build::build(rules))?;
        built.join().map_err(|_| io::Error::other("the export's thread panicked"))?
    }

    /// What holds for it.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Names that lead into a mount in this tree and not in the other, or the reverse.
    pub fn moved(&self, other: &Tree) -> HashSet<(Key, Name)> {
        let only = |one: &Tree, two: &Tree| {
            let gone = one.mounts.iter().filter(|(key, _)| !two.mounts.contains_key(key));
            gone.filter_map(|(_, m)| m.place.clone()).collect::<Vec<_>>()
        };
        only(self, other).into_iter().chain(only(other, self)).collect()
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
        let fd = openat2(dir, name, how)?;
        if self.denies(dir, name)? && !self.denied.is_cover(&statx(fd.as_fd(), c"")?) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        Ok(fd)
    }

    /// Must nobody see what has this name in a directory, whatever that is?
    ///
    /// # Errors
    /// The kernel's.
    pub fn denies(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        self.denied.has_name(dir, name)
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
        self.denied.has(stat)
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
