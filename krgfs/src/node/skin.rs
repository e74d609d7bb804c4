//! The skin between the kernel's FUSE requests and a node's file server. Translates, decides
//! nothing, and never waits: the answer goes to the kernel from the thread that receives it.

mod answer;

use super::capabilities;
use super::convert::{device_in, file_attr, nobody, set_time};
use super::core::{ATTR_TTL, Core, DEADLINE, DISK_DEADLINE, Who, unexpected};
use super::files::Place;
use super::generation;
use super::inodes::is_apart;
use answer::{CAPABILITY, absent, empty, is_closed, lock, lock_type, name};
use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use krg_faf::bytes::Bounded;
use krg_faf::op::{Answer, Op, SetAttr};
use krg_types::mfs;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle as Runtime;

/// One node's tree, as fuser wants it.
pub struct Tree {
    /// What it is.
    pub(super) core: Arc<Core>,
    /// For what waits.
    pub(super) runtime: Runtime,
}

/// Goes on with the value, or answers with the errno.
macro_rules! or_reply {
    ($value:expr, $reply:ident) => {
        match $value {
            Ok(value) => value,
            Err(e) => return $reply.error(e),
        }
    };
}

impl Filesystem for Tree {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        capabilities(config, self.core.is_local());
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEntry) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let (core, who) = (self.core.clone(), Who::of(req));
        if core.lacks(parent, file.as_bytes()) && who.makes(&core, file.as_bytes()) {
            return absent(reply, Duration::ZERO);
        }
        let done = self.entry(parent, file, reply);
        self.core.ask(&who, Op::Lookup { dir, name }, &[], move |result| {
            let missed = matches!(result, Ok((Answer::Absent { watched: true }, _)));
            done(result);
            if missed && parent != INodeNo::ROOT {
                core.missed(&who, parent);
            }
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.core.forget(ino, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.core.attr(&Who::anybody(req), ino, fh, move |result| match result {
            Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(ino, &attr)),
            // `ls -l` shows a node that is down, or lets nobody in, as a directory like that.
            Err(e) if ino == INodeNo::ROOT && is_closed(e) => {
                reply.attr(&Duration::ZERO, &nobody());
            }
            Err(e) => reply.error(e),
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime };
        let life = self.core.life();
        let open = fh.and_then(|fh| self.core.opens.file(fh.0)).and_then(|f| f.remote(life));
        let op = Op::SetAttr { file, open, set };
        let who = Who::of(req);
        // What is written before is longer than the file is to be, or sets another time.
        self.core.behind.barrier_for(&self.core, &who, ino, move |core, clear| {
            or_reply!(clear, reply);
            if size.is_some() {
                core.behind.resized(ino);
            }
            core.ask(&who, op, &[], move |result| match result {
                Ok((Answer::Attr(attr), _)) => reply.attr(&ATTR_TTL, &file_attr(ino, &attr)),
                other => reply.error(unexpected(other)),
            });
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let op = Op::ReadLink { file };
        self.core.ask(&Who::anybody(req), op, &[], move |result| match result {
            Ok((Answer::Data, target)) => reply.data(&target),
            other => reply.error(unexpected(other)),
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        file: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let op = Op::MakeNode { dir, name, mode, umask, rdev: device_in(rdev) };
        self.core.ask(&Who::of(req), op, &[], self.entry(parent, file, reply));
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        file: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let op = Op::MakeDir { dir, name, mode, umask };
        self.core.ask(&Who::of(req), op, &[], self.entry(parent, file, reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEmpty) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        self.core.ask(&Who::of(req), Op::Unlink { dir, name }, &[], empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEmpty) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        self.core.ask(&Who::of(req), Op::RemoveDir { dir, name }, &[], empty(reply));
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let name = or_reply!(name(link_name), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let target = Bounded::new(target.as_os_str().as_bytes());
        let target = or_reply!(target.ok_or(Errno::ENAMETOOLONG), reply);
        let op = Op::MakeLink { dir, name, target };
        self.core.ask(&Who::of(req), op, &[], self.entry(parent, link_name, reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        file: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, to_name) = (or_reply!(name(file), reply), or_reply!(name(newname), reply));
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let to_dir = (*or_reply!(self.core.handle(newparent), reply)).clone();
        let op = Op::Rename { dir, name, to_dir, to_name, flags: flags.bits() };
        self.core.ask(&Who::of(req), op, &[], empty(reply));
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let name = or_reply!(name(newname), reply);
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let dir = (*or_reply!(self.core.handle(newparent), reply)).clone();
        let done = self.entry(newparent, newname, reply);
        self.core.ask(&Who::of(req), Op::Link { file, dir, name }, &[], done);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let core = self.core.clone();
        self.core.open(&Who::of(req), ino, flags.0, move |result| {
            let (fh, how) = or_reply!(result, reply);
            let file = core.backing_file(fh).filter(|f| f.may_be_backing());
            let backed =
                file.and_then(|f| core.backings.opened(ino, || reply.open_backing(&f.fd)));
            match backed {
                Some(backing) => reply.opened_passthrough(fh, FopenFlags::empty(), &backing),
                None => reply.opened(fh, how),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        file: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let name = or_reply!(name(file), reply);
        let dir = (*or_reply!(self.core.handle(parent), reply)).clone();
        let op = Op::Create { dir, name, mode, umask, flags: flags as u32 };
        let (core, asked, who) = (self.core.clone(), self.core.asked(), Who::of(req));
        let (opening, dir) = (core.opening(&who, flags), core.inodes.key(parent));
        let apart = is_apart(file.as_bytes());
        self.core.ask(&who, op, &[], move |result| match result {
            Ok((Answer::Created { entry, opened }, _)) => {
                let number = core.inodes.told(&entry, apart);
                let fresh = flags & libc::O_EXCL != 0 && entry.watched;
                core.inodes.set_plain(number, fresh, core.inodes.changes(number));
                let news = core.is_news(asked, entry.key);
                match core.created(number, entry.handle.clone(), opening, &opened, news) {
                    Ok((fh, how)) => {
                        let (_, ttl) = core.ttls(&entry, asked);
                        let ttl = if core.is_news(asked, dir) { ttl } else { Duration::ZERO };
                        let attr = file_attr(number, &entry.attr);
                        let of = generation(&entry.handle);
                        let file = core.backing_file(fh).filter(|f| f.may_be_backing());
                        let backed = file.and_then(|f| {
                            core.backings.opened(number, || reply.open_backing(&f.fd))
                        });
                        let plain = FopenFlags::empty();
                        match backed {
                            Some(b) => {
                                reply.created_passthrough(&ttl, &attr, of, fh, plain, &b);
                            }
                            None => reply.created(&ttl, &attr, of, fh, how),
                        }
                    }
                    Err(e) => reply.error(e),
                }
            }
            other => reply.error(unexpected(other)),
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
        self.core.read(&Who::anybody(req), fh, offset, size, move |result| match result {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e),
        });
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let at = (offset, if mapped { Place::OfMapping } else { Place::OfFile });
        self.core.write(&Who::anybody(req), fh, at, data, move |result| match result {
            Ok(bytes) => reply.written(bytes),
            Err(e) => reply.error(e),
        });
    }

    fn flush(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.core.flush(&Who::anybody(req), fh, owner.0, move |result| match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        });
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.core.release(fh, owner.map(|owner| owner.0));
        reply.ok();
    }

    fn fsync(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.core.sync(&Who::anybody(req), fh, data_only, move |result| match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.core.open_dir(&Who::of(req), ino, move |result| match result {
            Ok((fh, how)) => reply.opened(fh, how),
            Err(e) => reply.error(e),
        });
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.core.read_dir(&Who::of(req), ino, fh, offset, move |result| match result {
            Ok(part) => Core::fill(&part, offset, ino, reply),
            Err(e) => reply.error(e),
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let core = self.core.clone();
        self.core.read_dir(&Who::of(req), ino, fh, offset, move |result| match result {
            Ok(part) => core.fill_plus(&part, offset, ino, reply),
            Err(e) => reply.error(e),
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.core.close_dir(fh);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let dir = or_reply!(self.core.opens.dir(fh.0).ok_or(Errno::EBADF), reply);
        let op = Op::SyncDir { dir: (*dir.handle).clone() };
        self.core.ask_for(&Who::of(req), op, &[], DISK_DEADLINE, empty(reply));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let op = Op::StatFs { file };
        self.core.ask(&Who::anybody(req), op, &[], move |result| match result {
            Ok((Answer::StatFs(s), _)) => reply.statfs(
                s.blocks,
                s.free,
                s.available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.fragment_size,
            ),
            other => reply.error(unexpected(other)),
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let name = or_reply!(Bounded::new(name.as_bytes()).ok_or(Errno::ERANGE), reply);
        self.core.inodes.set_plain(ino, false, 0);
        let op = Op::SetXattr { file, name, flags: flags as u32 };
        self.core.ask(&Who::of(req), op, &[value], empty(reply));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        if ino == INodeNo::ROOT && name.as_bytes() == mfs::LOCKS.to_bytes() {
            let count = Bytes::from(self.core.lock_owners.count().to_string());
            return Tree::xattr(size, reply)(Ok((Answer::Data, count)));
        }
        let name = or_reply!(Bounded::new(name.as_bytes()).ok_or(Errno::ERANGE), reply);
        let capability = name.as_slice() == CAPABILITY;
        let plain = capability && self.core.inodes.is_plain(ino);
        if plain || self.core.is_silent(ino) {
            return reply.error(Errno::NO_XATTR);
        }
        let op = Op::GetXattr { file, name };
        let (core, changes) = (self.core.clone(), self.core.inodes.changes(ino));
        self.core.ask_for(&Who::of(req), op, &[], Core::patience(ino), move |result| {
            let result = Tree::of_root(ino, result, Err(Errno::NO_XATTR));
            if capability && result.as_ref().is_err_and(|e| *e == Errno::NO_XATTR) {
                core.inodes.set_plain(ino, core.is_watched(), changes);
            }
            Tree::xattr(size, reply)(result);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let (op, patience) = (Op::ListXattr { file }, Core::patience(ino));
        let none = Ok((Answer::Data, Bytes::new()));
        if self.core.is_silent(ino) {
            return Tree::xattr(size, reply)(none);
        }
        self.core.ask_for(&Who::of(req), op, &[], patience, move |result| {
            Tree::xattr(size, reply)(Tree::of_root(ino, result, none));
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let file = (*or_reply!(self.core.handle(ino), reply)).clone();
        let name = or_reply!(Bounded::new(name.as_bytes()).ok_or(Errno::ERANGE), reply);
        self.core.ask(&Who::of(req), Op::RemoveXattr { file, name }, &[], empty(reply));
    }

    fn getlk(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let asked = lock(owner, start, end, typ);
        self.core.test_lock(&Who::anybody(req), fh, asked, move |result| match result {
            Ok(Some(found)) => {
                reply.locked(found.start, found.end, lock_type(found.kind), 0);
            }
            Ok(None) => reply.locked(start, end, libc::F_UNLCK, 0),
            Err(e) => reply.error(e),
        });
    }

    fn setlk(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        _pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let lock = lock(owner, start, end, typ);
        let waits = sleep.then(|| self.runtime.clone());
        self.core.lock(&Who::anybody(req), fh, lock, waits, move |result| match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = mode as u32;
        let op = move |open| Op::Allocate { open, offset, len: length, mode };
        let done = empty(reply);
        self.core.ask_open(&Who::anybody(req), fh, op, Bytes::new(), DISK_DEADLINE, done);
    }

    fn lseek(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let op = move |open| Op::Seek { open, offset, whence: whence as u32 };
        self.core.ask_open(&Who::anybody(req), fh, op, Bytes::new(), DEADLINE, |result| {
            match result {
                Ok((Answer::Offset(at), _)) => reply.offset(at as i64),
                other => reply.error(unexpected(other)),
            }
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        from_offset: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((fh_in, from_offset), (fh_out, to_offset));
        self.core.copy(&Who::anybody(req), from, to, len, move |result| match result {
            Ok((Answer::Written { bytes, .. }, _)) => reply.written(bytes),
            other => reply.error(unexpected(other)),
        });
    }
}
