//! Files that are open: reading, writing, locking, letting go.

use super::core::{Core, DEADLINE, DISK_DEADLINE, Result, Who, unexpected};
use super::opens::{Moment, OpenFile};
use super::stale::Stale;
use bytes::Bytes;
use fuser::{Errno, FileHandle, FopenFlags, INodeNo};
use krg_faf::op::{Answer, Caller, Handle, Lock, LockKind, Op, OpenId, Opened};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, sleep_until};

/// A file of up to so many bytes comes with the answer that it is open.
const FIRST_BYTES: u32 = 64 << 10;
/// Between attempts to get a lock that somebody has: at first, and at most.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(100);

/// What is known before a file is opened.
pub struct Opening {
    flags: u32,
    opener: Caller,
    /// A lease that is granted counts if there have not been more.
    recalls: u64,
}

/// Where a write goes that the kernel says a place for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// To the end, if the file was opened so; else there.
    OfFile,
    /// There: it was written to a mapping.
    OfMapping,
}

/// A question about an open file, which may have to be asked again.
struct AskFile {
    who: Who,
    file: Arc<OpenFile>,
    op: Arc<dyn Fn(OpenId) -> Op + Send + Sync>,
    data: Bytes,
    timeout: Duration,
}

impl Core {
    /// Opens a file; the kernel may go on using what it has of it if the flags say so.
    pub fn open(
        self: &Arc<Self>,
        who: &Who,
        ino: INodeNo,
        flags: i32,
        done: impl FnOnce(Result<(FileHandle, FopenFlags)>) + Send + 'static,
    ) {
        let handle = match self.handle(ino) {
            Ok(handle) => handle,
            Err(e) => return done(Err(e)),
        };
        let reads = flags & libc::O_ACCMODE == libc::O_RDONLY;
        let small = self.inodes.size(ino).is_some_and(|n| n > 0 && n < FIRST_BYTES.into());
        let want = if reads && small { FIRST_BYTES } else { 0 };
        let op = Op::Open { file: (*handle).clone(), flags: flags as u32, want };
        let who = *who;
        self.behind.barrier_for(self, &who, ino, move |core, clear| {
            if let Err(e) = clear {
                return done(Err(e));
            }
            let opening = core.opening(&who, flags);
            let moment = core.moment(ino);
            let opener = core.clone();
            core.ask(&who, op, &[], move |reply| match reply {
                Ok((Answer::Opened(opened), bytes)) => {
                    // What could not be read is not an end.
                    let whole = bytes.len() as u64 == opened.attr.size.min(want.into());
                    let first = (want > 0 && whole).then_some((bytes, want));
                    let size = opener.inodes.size(ino);
                    let result = opener.opened(ino, handle, opening, moment, &opened, first);
                    if opener.is_local() {
                        return done(result);
                    }
                    // Else the kernel would not read beyond the end that it knows.
                    let stale = (size != Some(opened.attr.size)).then_some(Stale::Attr(ino));
                    opener.once_told(stale, move || done(result));
                }
                other => done(Err(unexpected(other))),
            });
        });
    }

    /// What is known before a file is opened.
    pub fn opening(&self, who: &Who, flags: i32) -> Opening {
        let recalls = self.behind.recalls();
        Opening { flags: flags as u32, opener: self.opener(who), recalls }
    }

    /// What has been told and done of a file until now.
    fn moment(&self, ino: INodeNo) -> Moment {
        Moment { changes: self.inodes.changes(ino), edits: self.listings.edits() }
    }

    fn opened(
        &self,
        ino: INodeNo,
        handle: Arc<Handle>,
        opening: Opening,
        moment: Moment,
        opened: &Opened,
        first: Option<(Bytes, u32)>,
    ) -> Result<(FileHandle, FopenFlags)> {
        let Opening { flags, opener, recalls } = opening;
        let file = OpenFile::new(ino, handle, flags, opener, opened);
        let mut how = FopenFlags::empty();
        if self.inodes.keeps_cache(ino, &opened.attr, moment.changes) {
            how |= FopenFlags::FOPEN_KEEP_CACHE;
        } else if let Some((bytes, asked)) = first {
            file.set_first(bytes, asked, moment);
        }
        if flags as i32 & (libc::O_ACCMODE | libc::O_APPEND) == libc::O_WRONLY | libc::O_APPEND {
            // Where it goes is known when it is written: nothing to be kept here.
            how |= FopenFlags::FOPEN_DIRECT_IO;
        }
        if self.inodes.is_apart(ino) && !self.is_local() {
            how = FopenFlags::FOPEN_DIRECT_IO;
        }
        let fh = self.opens.add_file(file).map(FileHandle).ok_or(Errno::ENFILE);
        match fh {
            Ok(_) => self.behind.opened(ino, opened.lease, recalls),
            Err(_) => self.tell(Op::Close { open: opened.open, owner: None }),
        }
        Ok((fh?, how))
    }

    /// A file that was made and opened in one go; whether nothing was told of it meanwhile.
    pub fn created(
        &self,
        ino: INodeNo,
        handle: Handle,
        opening: Opening,
        opened: &Opened,
        news: bool,
    ) -> Result<(FileHandle, FopenFlags)> {
        self.behind.resized(ino);
        let mut moment = self.moment(ino);
        if !news {
            // What the kernel has of it is not to be kept.
            moment.changes = u64::MAX;
        }
        self.opened(ino, Arc::new(handle), opening, moment, opened, None)
    }

    fn file(&self, fh: FileHandle) -> Result<Arc<OpenFile>> {
        self.opens.file(fh.0).ok_or(Errno::EBADF)
    }

    /// Asks something about an open file.
    pub fn ask_open(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        op: impl Fn(OpenId) -> Op + Send + Sync + 'static,
        data: Bytes,
        timeout: Duration,
        done: impl FnOnce(Result) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        let ask = AskFile { who: *who, file, op: Arc::new(op), data, timeout };
        self.behind.barrier_for(self, who, ask.file.ino, move |core, clear| match clear {
            Ok(()) => core.ask_file(ask, Box::new(done)),
            Err(e) => done(Err(e)),
        });
    }

    /// The same, whatever is under way. After a restart of the server the file is opened again.
    fn ask_file(self: &Arc<Self>, ask: AskFile, done: Box<dyn FnOnce(Result) + Send>) {
        let (life, file) = (self.life(), ask.file.clone());
        self.with_open(&ask.who.clone(), &file, move |core, open| {
            let op = match open {
                Ok(open) => (ask.op)(open),
                Err(e) => return done(Err(e)),
            };
            let (asker, data) = (core.clone(), ask.data.clone());
            core.ask_for(&ask.who.clone(), op, &[&data], ask.timeout, move |reply| {
                let unknown = matches!(&reply, Err(e) if *e == Errno::EBADF);
                match unknown && asker.life() != life {
                    // It was restarted between the question and its sending.
                    true => asker.ask_file(ask, done),
                    false => done(reply),
                }
            });
        });
    }

    /// Reads.
    pub fn read(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        offset: u64,
        size: u32,
        done: impl FnOnce(Result<Bytes>) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        if let Some(bytes) = file.take_first(offset, size, self.moment(file.ino)) {
            return done(Ok(bytes));
        }
        let op = move |open| Op::Read { open, offset, size };
        let (core, ino) = (self.clone(), file.ino);
        let changes = self.inodes.changes(ino);
        let timeout = DEADLINE;
        self.ask_open(who, fh, op, Bytes::new(), timeout, move |reply| match reply {
            Ok((Answer::Data, bytes)) => {
                done(Ok(bytes));
                if core.inodes.changes(ino) != changes {
                    // It may have been read before it was changed, and have come after.
                    core.tell_kernel(Stale::Inode(ino));
                }
            }
            other => done(Err(unexpected(other))),
        });
    }

    /// Writes; how many bytes. With a lease, the writer goes on before that is known.
    pub fn write(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        (offset, place): (u64, Place),
        data: &[u8],
        done: impl FnOnce(Result<u32>) + Send + 'static,
    ) {
        let op = move |open| match place {
            Place::OfFile => Op::Write { open, offset },
            Place::OfMapping => Op::WriteAt { open, offset },
        };
        let file = match self.file(fh).and_then(|file| file.failure.take().map(|()| file)) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        let life = self.life();
        let open = file.remote(life).filter(|_| !file.has_lost() && self.is_connected());
        let bytes = data.len();
        match open {
            Some(open) if file.may_lag() && self.behind.begin(file.ino, offset, bytes) => {
                let who = who.gone_on();
                // Who waits for as long as it takes may have it written by another server.
                let data_kept = self.waits().then(|| Bytes::copy_from_slice(data));
                let core = self.clone();
                self.ask(&who, op(open), &[data], move |reply| match (data_kept, &reply) {
                    (Some(data), Err(e)) if *e == Errno::EBADF && core.life() != life => {
                        let (file, timeout) = (file.clone(), DEADLINE);
                        let (again, op) = (core.clone(), Arc::new(op));
                        let ask = AskFile { who, file: file.clone(), op, data, timeout };
                        let done = move |reply| again.lagged(&file, offset, bytes, reply);
                        core.ask_file(ask, Box::new(done));
                    }
                    _ => core.lagged(&file, offset, bytes, reply),
                });
                done(Ok(bytes as u32));
            }
            // What is there is sent from where it is; to wait for others, or for a connection, it
            // is kept.
            Some(open) if self.behind.is_clear(file.ino) && !self.waits() => {
                let core = self.clone();
                let done = self.written(file.ino, offset, done);
                self.ask(who, op(open), &[data], move |reply| match reply {
                    // The server was restarted just now: it has written nothing.
                    Err(e) if e == Errno::EBADF && core.life() != life => {
                        done(Err(Errno::EHOSTDOWN));
                    }
                    reply => done(reply),
                });
            }
            _ => {
                let data = Bytes::copy_from_slice(data);
                let done = self.written(file.ino, offset, done);
                self.ask_open(who, fh, op, data, DEADLINE, done);
            }
        }
    }

    /// What came of a write whose writer has gone on.
    fn lagged(self: &Arc<Self>, file: &OpenFile, offset: u64, bytes: usize, reply: Result) {
        match reply {
            Ok((Answer::Written { bytes: n, .. }, _)) if n as usize == bytes => {}
            // The next write tells why, if that is how the disk is.
            Ok(_) => file.failure.set(Errno::EIO),
            Err(e) => {
                file.failure.set(e);
                if e == Errno::EHOSTDOWN {
                    self.start_over();
                }
            }
        }
        self.behind.done(self, file.ino, offset, bytes);
    }

    fn written(
        self: &Arc<Self>,
        ino: INodeNo,
        offset: u64,
        done: impl FnOnce(Result<u32>) + Send + 'static,
    ) -> impl FnOnce(Result) + Send + 'static {
        let core = self.clone();
        move |reply| match reply {
            Ok((Answer::Written { bytes, end }, _)) => {
                if end.is_none_or(|end| end == offset + u64::from(bytes)) {
                    return done(Ok(bytes));
                }
                // Somebody else has appended too: it went elsewhere than the kernel thinks. That
                // is told first: told later, it would make the kernel drop the attributes that the
                // next read asks for, and use the length it knows. Pages it drops by itself then,
                // by the time of the write. And it is told at once: what waits to be told may wait
                // for a page that this write holds.
                core.tell_length(ino);
                done(Ok(bytes));
            }
            other => done(Err(unexpected(other))),
        }
    }

    /// Closes a file for one of those that have it open: its locks are given up, and what was
    /// written is where others see it.
    pub fn flush(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        owner: u64,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        let who = *who;
        self.behind.barrier_for(self, &who, file.ino, move |core, clear| {
            let written = clear.and_then(|()| file.failure.take());
            if !core.unlocks(&file, owner) {
                return done(written);
            }
            if clear.is_err() {
                core.tell_unlocked(&file, owner);
                return done(written);
            }
            let op = move |open| Op::Unlock { open, owner };
            let teller = core.clone();
            core.ask_open(&who, fh, op, Bytes::new(), DEADLINE, move |reply| {
                if reply.is_err() {
                    teller.tell_unlocked(&file, owner);
                }
                done(written.and(reply.map(drop)));
            });
        });
    }

    /// Who is ended while he closes a file waits for nothing, and keeps no lock either.
    fn tell_unlocked(&self, file: &OpenFile, owner: u64) {
        if let Some(open) = file.remote(self.life()) {
            self.tell(Op::Unlock { open, owner });
        }
    }

    /// A process that closes any of its descriptors of a file loses all its locks on it.
    fn unlocks(&self, file: &Arc<OpenFile>, owner: u64) -> bool {
        self.lock_owners.remove(file.ino, owner) | file.unlocked(owner)
    }

    /// Lets a file go.
    pub fn release(&self, fh: FileHandle, owner: Option<u64>) {
        let Ok(file) = self.file(fh) else { return };
        self.behind.closed(file.ino);
        if self.backing_file(fh).is_some_and(|f| f.may_be_backing()) {
            self.backings.closed(file.ino);
        }
        self.opens.remove(fh.0);
        if let Some(open) = file.remote(self.life()) {
            // The kernel says nothing of locks that the open file itself had (F_OFD_SETLK): they
            // are what is left now.
            let owner = owner.or_else(|| file.owner_left());
            let owner = owner.filter(|owner| self.unlocks(&file, *owner));
            self.tell(Op::Close { open, owner });
        }
    }

    /// Puts it on the disk.
    pub fn sync(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        data_only: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        let op = move |open| Op::Sync { open, data_only };
        self.ask_open(who, fh, op, Bytes::new(), DISK_DEADLINE, move |reply| {
            done(file.failure.take().and(reply.map(drop)));
        });
    }

    /// Copies within the server.
    pub fn copy(
        self: &Arc<Self>,
        who: &Who,
        (from, from_offset): (FileHandle, u64),
        (to, to_offset): (FileHandle, u64),
        len: u64,
        done: impl FnOnce(Result) + Send + 'static,
    ) {
        let source = match self.file(from) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        let who = *who;
        // What has been written to the source is there when it is copied.
        self.behind.barrier_for(self, &who, source.ino, move |core, clear| {
            if let Err(e) = clear {
                return done(Err(e));
            }
            core.with_open(&who, &source, move |core, from| match from {
                Ok(from) => {
                    let op = move |to| Op::Copy { from, from_offset, to, to_offset, len };
                    core.ask_open(&who, to, op, Bytes::new(), DISK_DEADLINE, done);
                }
                Err(e) => done(Err(e)),
            });
        });
    }

    /// Gets or gives up a lock; waits for it if it is to.
    pub fn lock(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        lock: Lock,
        waits: Option<Runtime>,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(e) => return done(Err(e)),
        };
        if lock.kind != LockKind::Unlock {
            // Before it is asked for: who dies meanwhile gives up what it may have got.
            file.locked(lock.owner);
        }
        self.lock_owners.ask(file.ino, &lock);
        // What others have written under the lock before is to be seen under it.
        file.forget_first();
        let (core, ino) = (self.clone(), file.ino);
        let done = move |result: Result<()>| {
            // After another error it may have been done all the same.
            let no = |e: &Errno| [Errno::EAGAIN, Errno::EINTR].contains(e);
            let refused = result.as_ref().is_err_and(no);
            let holds = if lock.kind == LockKind::Unlock { result.is_ok() } else { !refused };
            core.lock_owners.answer(ino, &lock, holds);
            match result {
                Ok(()) if lock.kind != LockKind::Unlock && !core.is_local() => {
                    core.once_told(Some(Stale::Inode(ino)), move || done(result));
                }
                result => done(result),
            }
        };
        match waits {
            None => self.try_lock(who, fh, lock, done),
            Some(runtime) => {
                let (core, who) = (self.clone(), *who);
                runtime.spawn(async move { done(core.wait_for_lock(&who, fh, lock).await) });
            }
        }
    }

    fn try_lock(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        lock: Lock,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let op = move |open| Op::SetLock { open, lock };
        self.ask_open(who, fh, op, Bytes::new(), DEADLINE, |reply| {
            done(reply.map(drop));
        });
    }

    async fn wait_for_lock(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        lock: Lock,
    ) -> Result<()> {
        let mut pause = LOCK_PAUSE;
        loop {
            let (tx, rx) = tokio::sync::oneshot::channel();
            self.try_lock(who, fh, lock, |result| {
                let _ = tx.send(result);
            });
            match rx.await.unwrap_or(Err(Errno::EIO)) {
                Err(e) if e == Errno::EAGAIN => {}
                other => return other,
            }
            // Nobody tells when a process of the other node gives its lock up.
            sleep_until(Instant::now() + pause).await;
            if who.is_signalled(self) {
                return Err(Errno::EINTR);
            }
            pause = (pause * 2).min(LOCK_PAUSE_MAX);
        }
    }

    /// Whose lock is in the way of one.
    pub fn test_lock(
        self: &Arc<Self>,
        who: &Who,
        fh: FileHandle,
        lock: Lock,
        done: impl FnOnce(Result<Option<Lock>>) + Send + 'static,
    ) {
        let op = move |open| Op::TestLock { open, lock };
        let timeout = DEADLINE;
        self.ask_open(who, fh, op, Bytes::new(), timeout, |reply| match reply {
            Ok((Answer::Blocker(found), _)) => done(Ok(found)),
            other => done(Err(unexpected(other))),
        });
    }
}
