//! The skin between the kernel's FUSE requests and `fs`. Translates, decides nothing.
//!
//! A request that memory can answer is answered on the thread that took it. One that must wait
//! goes on as a task, so that a slow node never holds a thread. A panic ends its own request
//! with EIO and nothing else.

mod handle;
mod mount;

pub use mount::mount;

use crate::error::ViewError;
use crate::fs::{Attr, Fs, Kind};
use crate::inode::Item;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use handle::{Handles, OpenDir, OpenFile};
use krg_rpc::answer::{Limit, answer};
use krg_sys::caller::Asker;
use krg_sys::feature::Feature;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// The kernel may use an answer about a name for so long; whoever opens it is told if it ended.
const TTL: Duration = Duration::from_millis(500);
/// A name that cannot appear: which names a process's directory has is fixed.
const NEVER_TTL: Duration = Duration::from_secs(3_600);
/// No request behind a view takes longer.
const LIMIT: Limit = Limit { after: Duration::from_millis(950), errno: libc::EHOSTDOWN };
/// Requests the kernel may have waiting in the background (RELEASE is one).
const MAX_BACKGROUND: u16 = 256;

/// The file system as fuser wants it.
pub struct View {
    fs: Arc<Fs>,
    handles: Arc<Handles>,
    runtime: Handle,
}

impl View {
    /// A skin over `fs`; what waits, waits on `runtime`.
    pub fn new(fs: Arc<Fs>, runtime: Handle) -> View {
        View { fs, handles: Arc::default(), runtime }
    }

    fn answer<T, F, R>(&self, asker: Asker, work: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ViewError>> + Send + 'static,
        R: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        let fs = self.fs.clone();
        let interrupted = move || fs.is_interrupted(&asker);
        let work = async { work.await.map_err(|e| e.errno()) };
        let reply = |result: Result<T, i32>| reply(result.map_err(Errno::from_i32));
        answer(&self.runtime, LIMIT, work, interrupted, reply);
    }

    fn file_attr(&self, attr: &Attr) -> FileAttr {
        file_attr(attr, self.fs.since_ns())
    }
}

fn file_attr(attr: &Attr, since_ns: u64) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(since_ns);
    FileAttr {
        ino: INodeNo(attr.item.ino()),
        // As in procfs: the size of a text is known when it is read.
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: if attr.kind == Kind::Dir { 2 } else { 1 },
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 1024,
        flags: 0,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

fn asker(req: &Request) -> Asker {
    Asker { uid: req.uid(), gid: req.gid(), tid: req.pid() }
}

fn item(ino: INodeNo) -> Result<Item, ViewError> {
    Item::from_ino(ino.0).ok_or(ViewError::NoEntry)
}

/// Which names this directory has can never change.
fn names_are_fixed(dir: Item) -> bool {
    matches!(dir, Item::Process(_) | Item::Task(..) | Item::NodeDir(_) | Item::MosixDir(_))
}

impl Filesystem for View {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_ASYNC_READ;
        if !Feature::FuseReaddirplus.masked() {
            wanted |= InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_PARALLEL_DIROPS;
        }
        // What a kernel does not offer is done without.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_max_write(1 << 17);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, asker) = (self.fs.clone(), asker(req));
        let (since, name) = (self.fs.since_ns(), name.to_owned());
        let fixed = Item::from_ino(parent.0).is_some_and(names_are_fixed);
        let work = async move {
            let name = name.to_str().ok_or(ViewError::NoEntry)?;
            fs.lookup(item(parent)?, name, &asker).await
        };
        self.answer(asker, work, move |result| match result {
            Ok(attr) => reply.entry(&TTL, &file_attr(&attr, since), Generation(0)),
            // Inode 0 tells the kernel to remember that there is no such name.
            Err(e) if i32::from(e) == libc::ENOENT && fixed => {
                reply.entry(&NEVER_TTL, &nothing(), Generation(0));
            }
            Err(e) => reply.error(e),
        });
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let attr = catch_unwind(AssertUnwindSafe(|| item(ino).and_then(|i| self.fs.attr(i))));
        match attr {
            Ok(Ok(attr)) => reply.attr(&TTL, &self.file_attr(&attr)),
            Ok(Err(e)) => reply.error(Errno::from_i32(e.errno())),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (fs, asker) = (self.fs.clone(), asker(req));
        let work = async move { fs.link(item(ino)?, &asker).await };
        self.answer(asker, work, move |result| match result {
            Ok(link) => reply.data(&link),
            Err(e) => reply.error(e),
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, handles, asker) = (self.fs.clone(), self.handles.clone(), asker(req));
        let writes = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        let work = async move {
            if writes {
                return Err(ViewError::ReadOnly);
            }
            let item = item(ino)?;
            let text = fs.text(item, &asker).await?;
            handles.add_file(OpenFile::new(item, text))
        };
        // The size is not known before a read, so the page cache is of no use.
        let flags = FopenFlags::FOPEN_DIRECT_IO;
        self.answer(asker, work, move |result| match result {
            Ok(fh) => reply.opened(FileHandle(fh), flags),
            Err(e) => reply.error(e),
        });
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.handles.file(fh.0) else {
            return reply.error(Errno::EBADF);
        };
        if let Some(text) = file.text_at(offset) {
            return reply.data(text.from(offset, size));
        }
        let (fs, asker) = (self.fs.clone(), asker(req));
        let work = async move {
            let text = fs.text(file.item(), &asker).await?;
            Ok(file.renew(text))
        };
        self.answer(asker, work, move |result| match result {
            Ok(text) => reply.data(text.from(offset, size)),
            Err(e) => reply.error(e),
        });
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.handles.remove(fh.0);
        reply.ok();
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

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (fs, handles, asker) = (self.fs.clone(), self.handles.clone(), asker(req));
        let work = async move {
            let names = fs.list(item(ino)?, &asker).await?;
            handles.add_dir(OpenDir::new(names))
        };
        self.answer(asker, work, move |result| match result {
            Ok(fh) => reply.opened(FileHandle(fh), FopenFlags::empty()),
            Err(e) => reply.error(e),
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(dir) = self.handles.dir(fh.0) else {
            return reply.error(Errno::EBADF);
        };
        for (next, name) in dir.from(offset) {
            let (number, kind, text) = match name {
                Ok(named) => (named.attr.item.ino(), named.attr.kind, named.name.as_str()),
                Err(dots) => (ino.0, Kind::Dir, dots),
            };
            if reply.add(INodeNo(number), next, file_type(kind), text) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(dir) = self.handles.dir(fh.0) else {
            return reply.error(Errno::EBADF);
        };
        for (next, name) in dir.from(offset) {
            let full = match name {
                Ok(named) => {
                    let attr = self.file_attr(&named.attr);
                    reply.add(attr.ino, next, &named.name, &TTL, &attr, Generation(0))
                }
                Err(dots) => {
                    let mut attr = nothing();
                    attr.ino = ino;
                    reply.add(ino, next, dots, &Duration::ZERO, &attr, Generation(0))
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.handles.remove(fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // As procfs: no blocks, names of 255 bytes.
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // The kernel then asks no more (ls -l asks for every name).
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }
}

/// The attributes of a name that is not there.
fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0o555,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 1024,
        flags: 0,
    }
}
