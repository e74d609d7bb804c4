//! One node's file tree. It shows only whose tree it is: a directory with the file `node`.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
    Session, SessionACL,
};
use krg_sys::fuse_device::{self, FuseError, Looks};
use krg_sys::mount::{MsFlags, umount_detach};
use krg_types::NodeId;
use krg_types::mfs::NODE_TYPE;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

const TTL: Duration = Duration::from_secs(1);
const FILE: INodeNo = INodeNo(2);

/// The tree as fuser wants it.
pub struct Tree(String);

/// Mounts the tree of `node` on `at`. Serving begins with `Session::spawn`; the mount stays when
/// the session ends, and is for the caller to take away.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(at: &Path, node: NodeId, threads: usize) -> Result<Session<Tree>, FuseError> {
    let looks = Looks {
        source: &format!("node{node}:/"),
        fs_type: NODE_TYPE,
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        options: "default_permissions",
    };
    let device = fuse_device::mount(at, &looks)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.max(2));
    config.clone_fd = true;
    let tree = Tree(format!("{node}\n"));
    Session::from_fd(tree, device, SessionACL::All, config).map_err(|e| {
        // Nobody would ever serve it.
        let _ = umount_detach(at);
        FuseError::at(at)(e)
    })
}

impl Tree {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let time = SystemTime::UNIX_EPOCH;
        let is_file = ino == FILE;
        FileAttr {
            ino,
            size: if is_file { self.0.len() as u64 } else { 0 },
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o444 } else { 0o555 },
            nlink: if is_file { 1 } else { 2 },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Tree {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "node" {
            true => reply.entry(&TTL, &self.attr(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        _size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        reply.data(self.0.as_bytes().get(at..).unwrap_or_default());
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = [(".", INodeNo(1)), ("..", INodeNo(1)), ("node", FILE)];
        for (next, (name, ino)) in (1..).zip(names).filter(|(next, _)| *next > offset) {
            if reply.add(ino, next, self.attr(ino).kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
