//! Does what clients ask, as the caller they ask for. No permission is decided here: the thread
//! takes on the caller's ids, and this node's kernel says yes or no.

mod attr;
mod cancelled;
mod dir;
mod file;
mod leases;
mod lock;
mod marks;
mod names;
mod promises;
mod replies;
mod session;
mod watch;

pub use promises::Ear;
pub use session::{Open, Session, Sessions};

use crate::bytes::Name;
use crate::export::{Child, Export, Rules, Tree};
use crate::handle::MountKey;
use crate::op::{
    Answer, Attr, Caller, Entry, Handle, Key, LockKind, Moment, Notice, Op, Request,
};
use krg_sys::cred::{self, ActingAs};
use krg_sys::statx::{Stat, Time, statx};
use krg_sys::{ns, procfs};
use krg_types::MemberId;
use krg_types::limits::FRAME_DATA_BYTES_MAX;
use leases::Leases;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use watch::Watch;

/// The bytes of a file that go with an answer; kept by a thread and used again.
#[derive(Default)]
pub struct Out {
    buf: Vec<u8>,
    len: usize,
}

impl Out {
    /// Room for so many.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let bytes = bytes.min(FRAME_DATA_BYTES_MAX);
        if self.buf.len() < bytes {
            self.buf.resize(bytes, 0);
        }
        &mut self.buf[..bytes]
    }

    /// What there is.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// Answers for one export.
pub struct Server {
    export: Export,
    sessions: Arc<Sessions>,
    watch: Arc<Watch>,
    leases: Leases,
}

/// What one request is done with.
struct Turn<'a> {
    server: &'a Server,
    tree: Arc<Tree>,
    session: &'a Session,
    caller: cred::Caller,
}

/// An error with this number.
fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// Readies a thread to answer requests: it gets a umask of its own, and a procfs as its working
/// directory, relative to which files that are open have names.
///
/// # Errors
/// When there is no procfs.
pub fn enter_thread() -> io::Result<()> {
    ns::unshare_fs_of_thread()?;
    nix::unistd::fchdir(procfs::own()?.root().0)?;
    krg_sys::umask::set_thread_umask(0);
    Ok(())
}

/// The name of an open file, relative to the working directory of `enter_thread`.
fn path_of(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Opens a file again that is open with `O_PATH`, now for use: permissions are checked.
fn reopen(fd: BorrowedFd<'_>, flags: i32) -> io::Result<OwnedFd> {
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Ok(nix::fcntl::openat(nix::fcntl::AT_FDCWD, path_of(fd).as_c_str(), flags, Mode::empty())?)
}

impl Server {
    /// For this export.
    pub fn new(export: Export) -> Server {
        let (sessions, watch) = (Arc::default(), Arc::default());
        Server { export, sessions, watch, leases: Leases::default() }
    }

    /// A connection of a client begins.
    pub fn join(&self, member: MemberId, number: u128) -> Arc<Session> {
        let joined = self.sessions.join(member, number);
        self.watch.start(&self.export.tree(), &self.sessions);
        joined
    }

    /// A connection has ended; if it was the client's last, how often that has happened.
    pub fn leave(&self, member: MemberId, number: u128) -> Option<u64> {
        self.sessions.leave(member, number)
    }

    /// What a client had open is closed, if it has not come back since it left for the time `left`.
    pub fn forget(&self, member: MemberId, number: u128, left: u64) {
        if let Some(session) = self.sessions.forget(member, number, left) {
            session.all().iter().for_each(|open| self.closed(&session, open));
        }
        if self.sessions.is_empty() {
            self.watch.stop();
        }
    }

    fn closed(&self, session: &Session, open: &Open) {
        self.unwatch(open);
        if let Some(key) = open.key {
            self.leases.closed(key, session.serial);
        }
    }

    fn unwatch(&self, open: &Open) {
        if let Some(key) = open.key.filter(|_| open.watched) {
            self.watch.closed(key, &open.fd);
        }
    }

    /// Makes the tree anew, and tells the clients what is another one now. What they have open
    /// stays open.
    ///
    /// # Errors
    /// As `Export::open`; everything then stays as it was.
    pub fn rebuild(&self, rules: Arc<Rules>) -> io::Result<()> {
        let before = self.export.tree();
        self.export.rebuild(rules)?;
        if self.sessions.is_empty() {
            return Ok(());
        }
        let now = self.export.tree();
        self.watch.start(&now, &self.sessions);
        if before.rules() == now.rules() && before.root() == now.root() {
            // Something was mounted or unmounted: whatever else they know is right still.
            for (dir, name) in now.moved(&before) {
                self.sessions.name(None, dir, name);
            }
            return Ok(());
        }
        let (mount, file) = now.root();
        let (key, watched) = (now.change_key(*mount, file), self.watch.covers(*mount));
        self.sessions.everything(Some(&Notice::Root { key, watched }));
        Ok(())
    }

    /// The export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Does what is asked, on a thread that has gone through `enter_thread`. `data` came with the
    /// request; what goes with the answer is put into `out`.
    pub fn perform(
        &self,
        session: &Session,
        request: Request,
        data: &[u8],
        out: &mut Out,
    ) -> Answer {
        out.len = 0;
        let Request { caller, op, once: _ } = request;
        let tree = self.export.tree();
        let caller = squashed(caller, tree.rules().root_squash);
        let turn = Turn { server: self, tree, session, caller };
        let lets_in = lets_in(&op);
        let perform = AssertUnwindSafe(|| {
            let done = turn.perform(op, data, out)?;
            if lets_in {
                self.watch.catch_up(&self.sessions);
            }
            Ok(done)
        });
        let done = catch_unwind(perform).unwrap_or_else(|_| {
            tracing::error!("a request has panicked");
            Err(errno(libc::EIO))
        });
        done.unwrap_or_else(|e| {
            out.len = 0;
            Answer::Failed(e.raw_os_error().unwrap_or(libc::EIO))
        })
    }

    /// The same, of a question with a number: it may be asked again, or not be waited for any more.
    pub fn answer(
        &self,
        session: &Session,
        (id, request): (u64, Request),
        data: &[u8],
        out: &mut Out,
    ) -> Answer {
        if session.cancelled.take(id) && !request.op.lets_go() {
            out.len = 0;
            return Answer::Failed(libc::EINTR);
        }
        if !request.once {
            return self.perform(session, request, data, out);
        }
        let want = match &request.op {
            Op::Open { want, .. } => *want as usize,
            _ => 0,
        };
        let (answer, now) =
            session.replies.once(id, || self.perform(session, request, data, out));
        if !now {
            // The bytes that went with it are not kept.
            out.len = match &answer {
                Answer::Opened(opened) => file::beginning(session, opened.open, want, out),
                _ => 0,
            };
        }
        answer
    }

    /// The root of the export.
    ///
    /// # Errors
    /// When it is gone.
    pub fn root(&self) -> io::Result<Entry> {
        let tree = self.export.tree();
        let (key, file) = tree.root();
        // It has no other name: so it is the root's also when that is another directory one day.
        let handle = Handle::default();
        let root = self.export.find(&handle)?;
        let attr = attr_of(&tree, root.mount, &statx(root.fd.as_fd(), c"")?);
        let (key, watched) = (tree.change_key(*key, file), self.watch.covers(*key));
        Ok(Entry { handle, attr, key, watched })
    }
}

/// The ids to act with: root's are somebody else's where the export says so.
fn squashed(caller: Caller, squash: Option<(u32, u32)>) -> cred::Caller {
    match squash {
        Some((uid, gid)) if caller.uid == 0 => cred::Caller { uid, gid, groups: Vec::new() },
        Some((_, gid)) => {
            let mut caller = cred::Caller::from(caller);
            caller.groups.retain(|g| *g != 0);
            caller.gid = if caller.gid == 0 { gid } else { caller.gid };
            caller
        }
        None => caller.into(),
    }
}

impl Turn<'_> {
    fn perform(&self, op: Op, data: &[u8], out: &mut Out) -> io::Result<Answer> {
        let rules = self.tree.rules();
        // That is for what is asked of files; whether the server is there may be asked.
        if rules.off && !op.lets_go() && op != Op::Ping {
            return Err(errno(libc::EACCES));
        }
        if rules.read_only && op.changes() {
            return Err(errno(libc::EROFS));
        }
        match op {
            Op::Hello(_) => Err(errno(libc::EPROTO)),
            Op::Ping => Ok(Answer::Attr(self.server.root()?.attr)),
            Op::Lookup { dir, name } => self.lookup(&dir, &name),
            Op::GetAttr { file, open } => self.get_attr(&file, open),
            Op::SetAttr { file, open, set } => self.set_attr(&file, open, &set),
            Op::ReadLink { file } => self.read_link(&file, out),
            Op::MakeNode { dir, name, mode, umask, rdev } => {
                self.make_node(&dir, &name, mode, umask, rdev, out)
            }
            Op::MakeDir { dir, name, mode, umask } => {
                self.make_dir(&dir, &name, mode, umask, out)
            }
            Op::MakeLink { dir, name, target } => self.make_link(&dir, &name, &target, out),
            Op::Link { file, dir, name } => self.link(&file, &dir, &name, out),
            Op::Unlink { dir, name } => self.unlink(&dir, &name, false, out),
            Op::RemoveDir { dir, name } => self.unlink(&dir, &name, true, out),
            Op::Rename { dir, name, to_dir, to_name, flags } => {
                self.rename((&dir, &name), (&to_dir, &to_name), flags)
            }
            Op::Open { file, flags, want } => self.open(&file, flags, want, out),
            Op::Reopen { file, flags, proof } => self.open_again(&file, flags, &proof),
            Op::Create { dir, name, mode, umask, flags } => {
                self.create(&dir, &name, (mode, umask), flags, out)
            }
            Op::Read { open, offset, size } => self.read(open, offset, size, out),
            Op::Write { open, offset } => self.write(open, offset, data),
            Op::WriteAt { open, offset } => self.write_at(open, offset, data),
            Op::Close { open, owner } => self.close(open, owner),
            Op::Sync { open, data_only } => self.sync(open, data_only),
            Op::OpenDir { dir, bytes } => self.open_dir(&dir, bytes, out),
            Op::ReadDir { open, offset, bytes } => self.read_dir(open, offset, bytes, out),
            Op::SyncDir { dir } => self.sync_dir(&dir),
            Op::StatFs { file } => self.stat_fs(&file),
            Op::GetXattr { file, name } => self.get_xattr(&file, &name, out),
            Op::SetXattr { file, name, flags } => self.set_xattr(&file, &name, data, flags),
            Op::ListXattr { file } => self.list_xattr(&file, out),
            Op::RemoveXattr { file, name } => self.remove_xattr(&file, &name),
            Op::Allocate { open, offset, len, mode } => self.allocate(open, offset, len, mode),
            Op::Seek { open, offset, whence } => self.seek(open, offset, whence),
            Op::Copy { from, from_offset, to, to_offset, len } => {
                self.copy((from, from_offset), (to, to_offset), len)
            }
            Op::TestLock { open, lock } => self.test_lock(open, lock),
            Op::SetLock { open, lock } => self.set_lock(open, lock),
            Op::Unlock { open, owner } => self.unlock(open, owner),
            Op::Returned { file } => {
                self.server.leases.returned(file, self.session.serial);
                Ok(Answer::Done)
            }
            Op::Forget { keys } => {
                self.session.promises.drop(&keys);
                Ok(Answer::Done)
            }
            Op::Cancel { question } => {
                self.session.cancelled.add(question);
                Ok(Answer::Done)
            }
        }
    }

    /// A handle's file.
    fn find(&self, handle: &Handle) -> io::Result<Child> {
        self.server.export.find(handle)
    }

    /// What a file is called when it changes.
    fn key(&self, child: &Child) -> Key {
        self.tree.change_key(child.mount, &child.handle)
    }

    /// The client is told from now on when this file changes.
    fn promise(&self, child: &Child) -> Key {
        let key = self.key(child);
        self.session.promises.make(key);
        key
    }

    /// Tells the other clients that a file has changed.
    fn changed(&self, child: &Child) {
        self.server.sessions.changed(Some(self.session), self.key(child), false);
    }

    /// Tells them that a name has.
    fn renamed(&self, dir: &Child, name: &Name) {
        self.server.sessions.name(Some(self.session), self.key(dir), name.clone());
    }

    /// Does something as the caller.
    fn acting<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _as = ActingAs::enter(&self.caller)?;
        work()
    }

    /// What a file that was found is told as.
    fn entry(&self, fd: OwnedFd) -> io::Result<Entry> {
        let child = self.tree.identify(fd)?;
        // First: what changes after it was looked at is told.
        self.promise(&child);
        let stat = statx(child.fd.as_fd(), c"")?;
        self.entry_of(&child, &stat)
    }

    fn entry_of(&self, child: &Child, stat: &Stat) -> io::Result<Entry> {
        if self.tree.is_denied(stat) {
            return Err(errno(libc::EACCES));
        }
        let handle = self.server.export.sealer().seal(child.mount, &child.handle);
        let (key, watched) = (self.key(child), self.server.watch.covers(child.mount));
        Ok(Entry { handle, attr: attr_of(&self.tree, child.mount, stat), key, watched })
    }
}

/// Is what others have done to a file before to be seen after it, without a doubt?
fn lets_in(op: &Op) -> bool {
    match op {
        Op::Open { .. } | Op::Reopen { .. } => true,
        // What is made by it has not been changed before.
        Op::Create { flags, .. } => *flags as i32 & libc::O_EXCL == 0,
        Op::SetLock { lock, .. } => lock.kind != LockKind::Unlock,
        _ => false,
    }
}

/// What clients are told of a file.
fn attr_of(tree: &Tree, mount: MountKey, stat: &Stat) -> Attr {
    let moment = |t: Time| Moment { s: t.s, ns: t.ns };
    Attr {
        ino: tree.ino(mount, stat),
        mode: stat.mode,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        size: stat.size,
        blocks: stat.blocks,
        blksize: stat.blksize,
        atime: moment(stat.atime),
        mtime: moment(stat.mtime),
        ctime: moment(stat.ctime),
    }
}
