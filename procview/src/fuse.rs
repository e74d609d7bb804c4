//! The skin between the kernel's FUSE requests and `fs`. Translates, decides nothing.
//!
//! A request that memory can answer is answered on the thread that took it. One that must wait
//! goes on as a task, so that a slow node never holds a thread. A panic ends its own request
//! with EIO and nothing else.

mod handle;
mod mount;
mod notify;

pub use mount::{FS_TYPE_LIVE, mount};
pub use notify::keep_in_step;

use crate::error::ViewError;
use crate::fs::brief::{Told, is_brief};
use crate::fs::{Attr, Fs, Kind, Named};
use crate::inode::{Item, Who};
use crate::news::News;
use crate::numbers::home_of;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use handle::{Handles, OpenDir, OpenFile};
use krg_rpc::answer::{Limit, answer};
use krg_sys::caller::Asker;
use krg_sys::feature::Feature;
use krg_types::file::PidFileKind;
use krg_types::{GlobalPid, PidFile};
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// The kernel may use an answer about a name for so long; whoever opens it is told if it ended.
const TTL: Duration = Duration::from_millis(500);
/// A name that cannot appear: which names a process's directory has is fixed. And one that always
/// is what it is, or of which the kernel is told when it no longer is.
const NEVER_TTL: Duration = Duration::from_secs(3_600);
/// A process's directory where its texts are held. Every list of them renews it; who looks at one
/// of them alone asks as often, and so is known to look.
const PROCESS_TTL: Duration = Duration::from_secs(1);
/// No request behind a view takes longer.
const LIMIT: Limit = Limit { after: Duration::from_millis(950), errno: libc::EHOSTDOWN };
/// Who sends a job elsewhere waits until it is there.
const ORDER_LIMIT: Limit = Limit { after: Duration::from_secs(130), errno: libc::ETIMEDOUT };
/// Requests the kernel may have waiting in the background (RELEASE is one).
const MAX_BACKGROUND: u16 = 256;

/// The file system as fuser wants it.
pub struct View {
    fs: Arc<Fs>,
    handles: Arc<Handles>,
    runtime: Handle,
    /// Does the kernel open files without asking, and keep what it has read?
    held: bool,
}

impl View {
    /// A skin over `fs`; what waits, waits on `runtime`.
    pub fn new(fs: Arc<Fs>, runtime: Handle) -> View {
        View { fs, handles: Arc::default(), runtime, held: false }
    }

    /// The same where the kernel opens files without asking and keeps what it has read, for a tree
    /// with a mount of its own for what must be live.
    pub fn held(fs: Arc<Fs>, runtime: Handle) -> View {
        View { held: true, ..View::new(fs, runtime) }
    }

    fn answer<T, F, R>(&self, asker: Asker, work: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ViewError>> + Send + 'static,
        R: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        self.answer_within(LIMIT, asker, work, reply);
    }

    fn answer_within<T, F, R>(&self, limit: Limit, asker: Asker, work: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ViewError>> + Send + 'static,
        R: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        let fs = self.fs.clone();
        let interrupted = move || fs.is_interrupted(&asker);
        let work = async { work.await.map_err(|e| e.errno()) };
        let reply = |result: Result<T, i32>| reply(result.map_err(Errno::from_i32));
        answer(&self.runtime, limit, work, interrupted, reply);
    }

    fn file_attr(&self, attr: &Attr) -> FileAttr {
        file_attr(attr, self.fs.since_ns())
    }

    /// As this mount has it.
    fn shown(&self, attr: Attr) -> Attr {
        if self.held { self.fs.held(attr) } else { attr }
    }

    /// What the kernel is told of a name of a directory that it reads.
    fn told(&self, named: &Named) -> Told {
        let attr = self.shown(named.attr);
        let known = match attr.item {
            Item::Brief(place, version) => self.fs.brief_told(place, version),
            _ => None,
        };
        let ttl = name_ttl(&named.name, &attr, self.held);
        known.unwrap_or(Told { attr, ttl, since_ns: self.fs.since_ns() })
    }

    /// A page that the kernel will keep.
    fn read_held(
        &self,
        asker: Asker,
        ino: INodeNo,
        (offset, size): (u64, u32),
        reply: ReplyData,
    ) {
        let fs = self.fs.clone();
        let work = async move {
            match item(ino)? {
                Item::Brief(place, version) => Ok(fs.brief_text(place, version).await?.to_vec()),
                Item::Held(pid, start, place, version) => {
                    fs.fresh(pid).await;
                    let (text, former) = fs.held_text((pid, start, place, version))?;
                    if former && let Some(teller) = fs.gather().teller() {
                        teller.tell(News::Former(ino.0));
                    }
                    Ok(text)
                }
                _ => Err(ViewError::WrongKind),
            }
        };
        self.answer(asker, work, move |result| match result {
            Ok(text) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let end = start.saturating_add(size as usize).min(text.len());
                reply.data(&text[start..end]);
            }
            Err(e) => reply.error(e),
        });
    }
}

fn file_attr(attr: &Attr, since_ns: u64) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(since_ns);
    FileAttr {
        ino: INodeNo(attr.item.ino()),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
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

/// How long a name stands for what it was found to stand for.
fn name_ttl(name: &str, attr: &Attr, held: bool) -> Duration {
    match attr.item {
        // A number that a process keeps when it goes to another node names something else then.
        Item::Process(_) => {
            let moves = name.parse().is_ok_and(|number| home_of(number).is_some());
            if moves {
                Duration::ZERO
            } else if held {
                PROCESS_TTL
            } else {
                TTL
            }
        }
        Item::Brief(..) => Duration::ZERO,
        // Somebody sees something else.
        item if held && is_brief(item) => TTL,
        Item::Held(..) | Item::System(_) | Item::NodeFile(..) | Item::MosixFile(..) => NEVER_TTL,
        // A link in a process's directory to its like in the mount that is asked each time.
        Item::PidFile(_, file) if held && file.kind() == PidFileKind::Text => NEVER_TTL,
        _ => TTL,
    }
}

/// The directory's process, if its texts are held.
fn process_of(dir: Item) -> Option<GlobalPid> {
    match dir {
        Item::Process(Who::Process(pid, _)) => Some(pid),
        _ => None,
    }
}

/// Which names this directory has can never change.
fn names_are_fixed(dir: Item) -> bool {
    match dir {
        Item::Process(_) | Item::Task(..) | Item::NodeDir(_) | Item::MosixDir(_) => true,
        // What stat(2) follows a namespace's link to is looked for there.
        Item::PidFile(_, file) | Item::TaskFile(_, _, file) => file == PidFile::Ns,
        _ => false,
    }
}

impl Filesystem for View {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Who reads on in a file whose time has run out reads it anew.
        let mut wanted = InitFlags::FUSE_ASYNC_READ | InitFlags::FUSE_AUTO_INVAL_DATA;
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
        let (since_ns, name) = (self.fs.since_ns(), name.to_owned());
        let fixed = Item::from_ino(parent.0).is_some_and(names_are_fixed);
        let held = self.held;
        let work = async move {
            let (name, parent) = (name.to_str().ok_or(ViewError::NoEntry)?, item(parent)?);
            let ttl = |attr: &Attr| match (parent, attr.item) {
                // What each says is asked each time; that it is there does not change.
                (Item::PidFile(..), Item::Entry(_, PidFile::Ns, _)) if held => NEVER_TTL,
                _ => name_ttl(name, attr, held),
            };
            let told = |attr: Attr| Told { attr, since_ns, ttl: ttl(&attr) };
            if !held {
                return Ok(told(fs.lookup(parent, name, &asker).await?));
            }
            if let Some(pid) = process_of(parent) {
                fs.fresh(pid).await;
            }
            let found = fs.lookup(parent, name, &asker).await?;
            match fs.brief(found.item).await {
                Some(brief) => Ok(brief),
                None => Ok(told(fs.held(found))),
            }
        };
        self.answer(asker, work, move |result| match result {
            Ok(Told { attr, ttl, since_ns }) => {
                reply.entry(&ttl, &file_attr(&attr, since_ns), Generation(0));
            }
            // Inode 0 tells the kernel to remember that there is no such name.
            Err(e) if i32::from(e) == libc::ENOENT && fixed => {
                reply.entry(&NEVER_TTL, &nothing(), Generation(0));
            }
            Err(e) => reply.error(e),
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(Item::Brief(place, version)) = Item::from_ino(ino.0) {
            let fs = self.fs.clone();
            let work = async move { fs.brief_attr(place, version).await };
            return self.answer(asker(req), work, move |result| match result {
                Ok(told) => reply.attr(&told.ttl, &file_attr(&told.attr, told.since_ns)),
                Err(e) => reply.error(e),
            });
        }
        let attr = catch_unwind(AssertUnwindSafe(|| {
            let item = item(ino)?;
            if let Item::Held(pid, start, place, version) = item {
                let (attr, former) = self.fs.held_attr((pid, start, place, version))?;
                // Of the last one's end the kernel is told.
                return Ok((attr, if former { TTL } else { NEVER_TTL }));
            }
            let attr = self.fs.attr(item)?;
            // What is not held was shown as a link, and stays one under this number.
            let is_link = self.held && attr.kind == Kind::File;
            Ok::<_, ViewError>((if is_link { attr.as_link() } else { attr }, TTL))
        }));
        match attr {
            Ok(Ok((attr, ttl))) => reply.attr(&ttl, &self.file_attr(&attr)),
            Ok(Err(e)) => reply.error(Errno::from_i32(e.errno())),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (fs, asker) = (self.fs.clone(), asker(req));
        let held = self.held;
        let work = async move {
            let item = item(ino)?;
            if held && let Some(path) = fs.live_path(item) {
                return Ok(path);
            }
            fs.link(item, &asker).await
        };
        self.answer(asker, work, move |result| match result {
            Ok(link) => reply.data(&link),
            Err(e) => reply.error(e),
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.held {
            // From now on the kernel opens files of this mount without asking.
            return reply.error(Errno::ENOSYS);
        }
        let (fs, handles, asker) = (self.fs.clone(), self.handles.clone(), asker(req));
        let writes = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        let work = async move {
            let item = item(ino)?;
            if writes {
                let is_order = matches!(item, Item::PidFile(_, PidFile::Goto));
                let error = || Err(ViewError::ReadOnly);
                return if is_order {
                    handles.add_file(OpenFile::new(item, vec![]))
                } else {
                    error()
                };
            }
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
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if self.held {
            return self.read_held(asker(req), ino, (offset, size), reply);
        }
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

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fs, asker, data) = (self.fs.clone(), asker(req), data.to_vec());
        let written = u32::try_from(data.len()).unwrap_or(0);
        let work = async move { fs.write(item(ino)?, &data, &asker).await };
        self.answer_within(ORDER_LIMIT, asker, work, move |result| match result {
            Ok(()) => reply.written(written),
            Err(e) => reply.error(e),
        });
    }

    /// A shell that writes to a file makes it empty first.
    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
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
        let order = item(ino).ok().filter(|i| matches!(i, Item::PidFile(_, PidFile::Goto)));
        match order.filter(|_| size == Some(0)).map(|item| self.fs.attr(item)) {
            Some(Ok(attr)) => reply.attr(&TTL, &self.file_attr(&attr)),
            Some(Err(e)) => reply.error(Errno::from_i32(e.errno())),
            None => reply.error(Errno::EPERM),
        }
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
        let held = self.held;
        let work = async move {
            let names = fs.list(item(ino)?, &asker).await?;
            let names = if held { fs.with_briefs(names).await } else { names };
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
                Ok(named) => {
                    let attr = self.shown(named.attr);
                    (attr.item.ino(), attr.kind, named.name.as_str())
                }
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
                    let Told { attr, ttl, since_ns } = self.told(named);
                    let attr = file_attr(&attr, since_ns);
                    reply.add(attr.ino, next, &named.name, &ttl, &attr, Generation(0))
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
