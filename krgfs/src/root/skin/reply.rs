//! What fuser hands over, and the replies to it.

use super::Root;
use crate::root::names::{Attr, Item, Kind, Link};
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use krg_sys::caller::Asker;
use krg_sys::clock::wall_ns;
use krg_sys::feature::Feature;
use krg_types::limits::SELECTION_BYTES_MAX;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The kernel may use an answer about a link, or how something looks, for so long.
const TTL: Duration = Duration::from_secs(1);
/// Requests the kernel may have waiting in the background.
const MAX_BACKGROUND: u16 = 64;
/// Listing goes on behind an inode number plus this; the numbers below are for `.` and `..`.
const PLACE: u64 = 8;

fn asker(req: &Request) -> Asker {
    Asker { uid: req.uid(), gid: req.gid(), tid: req.pid() }
}

fn item(ino: INodeNo) -> Result<Item, Errno> {
    Item::from_ino(ino.0).ok_or(Errno::ESTALE)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

fn file_attr(attr: &Attr, since_ns: u64) -> FileAttr {
    let ns = attr.time_ns.unwrap_or(since_ns);
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(ns);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 1024,
        flags: 0,
    }
}

/// The entry of a node whose tree is mounted: nobody gets any further than that. Should the tree
/// go meanwhile, who walks into the entry is sent back here by ESTALE; only mkdir(2) and its like
/// are not, so it is not long.
const MOUNTED_TTL: Duration = Duration::from_millis(100);

impl Root {
    /// A node's entry is asked for at every walk until its tree is mounted.
    fn entry_ttl(&self, item: Item) -> Duration {
        match item {
            Item::Node(node) if self.0.mounted.is(node) => MOUNTED_TTL,
            Item::Node(_) => Duration::ZERO,
            _ => TTL,
        }
    }

    fn attr(&self, item: Item) -> Result<FileAttr, Errno> {
        let attr = self.list().attr(item, wall_ns()).ok_or(Errno::ENOENT)?;
        Ok(file_attr(&attr, self.0.since_ns))
    }

    fn reply_entry(&self, item: Item, reply: ReplyEntry) {
        match self.attr(item) {
            Ok(attr) => {
                self.remember(item);
                reply.entry_with_ttls(&TTL, &self.entry_ttl(item), &attr, Generation(0));
            }
            Err(e) => reply.error(e),
        }
    }

    /// A name in the directory itself.
    fn lookup_here(&self, asker: Asker, name: &OsStr, reply: ReplyEntry) {
        let found = name.to_str().and_then(|name| self.list().lookup(name));
        let Some(item) = found else { return reply.error(Errno::ENOENT) };
        let Item::Node(node) = item else { return self.reply_entry(item, reply) };
        match self.is_awaited(asker, node) {
            Ok(false) => self.reply_entry(item, reply),
            Ok(true) => self.wait(asker, node, move |root, outcome| {
                match root.was_told(asker, node, outcome) {
                    Ok(()) => root.reply_entry(item, reply),
                    Err(errno) => reply.error(Errno::from_i32(errno)),
                }
            }),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    /// What there is to list behind `place`: the place after it, inode number, kind and name.
    fn listed(&self, place: u64) -> Vec<(u64, Item, String)> {
        let dots = [(1, Item::Root, ".".to_owned()), (2, Item::Root, "..".to_owned())];
        let names = self.list().names();
        let names = names.into_iter().map(|(name, item)| (item.ino() + PLACE, item, name));
        dots.into_iter().chain(names).filter(|(next, ..)| *next > place).collect()
    }
}

impl Filesystem for Root {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Look-ups side by side: one that waits must not hold up the others.
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS;
        if !Feature::FuseReaddirplus.masked() {
            wanted |= InitFlags::FUSE_DO_READDIRPLUS;
        }
        // What a kernel does not offer is done without.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_max_write(1 << 12);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match item(parent) {
            Ok(Item::Root) => self.lookup_here(asker(req), name, reply),
            Ok(Item::Node(node)) => {
                reply.error(Errno::from_i32(self.walk_again(asker(req), node)));
            }
            Ok(_) => reply.error(Errno::ENOTDIR),
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        Root::forget(self, ino, count);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match item(ino).and_then(|item| self.attr(item)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let owned = mode.is_some() || uid.is_some() || gid.is_some();
        let result = match item(ino) {
            // A shell's `>` makes it empty first.
            Ok(Item::Select) if !owned => self.attr(Item::Select),
            Ok(Item::Node(node)) => Err(Errno::from_i32(self.walk_again(asker(req), node))),
            _ => Err(Errno::EPERM),
        };
        match result {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        match item(ino) {
            Ok(Item::Link(link)) => {
                reply.data(self.target(asker(req), link).to_string().as_bytes());
            }
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match item(ino) {
            // What is read depends on who reads.
            Ok(Item::Select) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Ok(Item::Node(node)) => {
                self.enter(asker(req), node, |errno| reply.error(Errno::from_i32(errno)));
            }
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let text = format!("{}\n", self.target(asker(req), Link::Selected));
        let rest = usize::try_from(offset).ok().and_then(|at| text.as_bytes().get(at..));
        let rest = rest.unwrap_or_default();
        reply.data(&rest[..rest.len().min(size as usize)]);
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let short = data.len() <= SELECTION_BYTES_MAX;
        let done = if short { self.select(asker(req), data) } else { Err(Errno::EINVAL) };
        match done {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(e) => reply.error(e),
        }
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match item(ino) {
            Ok(Item::Root) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Ok(Item::Node(node)) => {
                self.enter(asker(req), node, |errno| reply.error(Errno::from_i32(errno)));
            }
            _ => reply.error(Errno::ENOTDIR),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        place: u64,
        mut reply: ReplyDirectory,
    ) {
        for (next, item, name) in self.listed(place) {
            let kind = self.attr(item).map_or(FileType::Directory, |attr| attr.kind);
            if reply.add(INodeNo(item.ino()), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        place: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        for (next, item, name) in self.listed(place) {
            let Ok(attr) = self.attr(item) else { continue };
            let ttl = self.entry_ttl(item);
            if reply.add(attr.ino, next, &name, &ttl, &attr, Generation(0)) {
                break;
            }
            self.remember(item);
        }
        reply.ok();
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match item(ino) {
            Ok(Item::Node(node)) => {
                self.enter(asker(req), node, |errno| reply.error(Errno::from_i32(errno)));
            }
            // As procfs: no blocks, names of 255 bytes.
            _ => reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096),
        }
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        match item(ino) {
            Ok(Item::Node(node)) => {
                self.enter(asker(req), node, |errno| reply.error(Errno::from_i32(errno)));
            }
            Ok(Item::Root) if mask.contains(AccessFlags::W_OK) => reply.error(Errno::EROFS),
            Ok(_) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // The kernel then asks no more: there is nothing to flush.
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // The same.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(asker(req), parent));
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(asker(req), parent));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse(asker(req), parent));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse(asker(req), parent));
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(asker(req), parent));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let into_node = matches!(item(new_parent), Ok(Item::Node(_)));
        let parent = if into_node { new_parent } else { parent };
        reply.error(self.refuse(asker(req), parent));
    }

    fn link(
        &self,
        req: &Request,
        _ino: INodeNo,
        new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(asker(req), new_parent));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(self.refuse(asker(req), parent));
    }
}
