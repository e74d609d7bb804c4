//! What one mount is: its client, what the kernel knows of, what is open.

use super::after::After;
use super::backing::Backings;
use super::behind::Behind;
use super::convert::file_attr;
use super::inodes::Inodes;
use super::known::{self, Known};
use super::listings::Listings;
use super::lock_owners::LockOwners;
use super::news::News;
use super::opens::{Asked, OpenFile, Opens};
use super::stale::Stale;
use super::touched::{self, Touched};
use bytes::Bytes;
use fuser::{Errno, FileAttr, FileHandle, INodeNo, Notifier, Request};
use krg_faf::client::{Ask, Client, Events};
use krg_faf::op::{Answer, Attr, Caller, Entry, Handle, Key, Notice, Op, OpenId};
use krg_faf::server::Open;
use krg_sys::caller::Asker;
use krg_sys::procfs::Procfs;
use krg_types::limits::FILE_FORGETS_MAX;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// No request takes longer.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The kernel may use a name for so long: it is told when the name changes, unless its server
/// cannot be reached, and then not for longer than that takes to be noticed.
pub const NAME_TTL: Duration = Duration::from_secs(5);
/// That there is no such name, the same.
pub const ABSENT_TTL: Duration = NAME_TTL;
/// And attributes: truncate(2) and times that are set one by one are not told of.
pub const ATTR_TTL: Duration = Duration::from_secs(1);
/// Forgotten files are told of so many at a time.
const FORGETS: usize = 512;
/// What `ls -l /mfs` asks of a root has to be said soon, by whatever is known: of ten nodes that
/// have just died, within a second.
pub const ROOT_PATIENCE: Duration = Duration::from_millis(40);
/// But what has to wait for a disk may.
pub const DISK_DEADLINE: Duration = Duration::from_secs(30);

/// One mount.
pub struct Core {
    client: OnceLock<Arc<Client>>,
    /// What the kernel knows by number.
    pub inodes: Inodes,
    /// What is open.
    pub opens: Opens,
    /// Who has locked what.
    pub lock_owners: LockOwners,
    /// Writes that are under way.
    pub behind: Behind,
    /// Directories that were just read.
    pub listings: Listings,
    /// What was changed here of late.
    pub touched: Touched,
    /// What names directories do not have.
    pub known: Known,
    /// What directories are like that were changed here.
    pub after: After,
    /// What the kernel reads and writes by itself.
    pub backings: Backings,
    procfs: &'static Procfs,
    /// The root's attributes, as last heard.
    root: Mutex<Option<Attr>>,
    /// A question about the root was not answered soon, and none since.
    silent: AtomicBool,
    /// A question about it is under way that nobody waits for.
    asking: AtomicBool,
    /// What the server has told of.
    news: News,
    /// It tells of what the node's own processes change.
    watched: AtomicBool,
    stale: Sender<Stale>,
    kernel: OnceLock<Notifier>,
    /// Held while a caller's memory is looked at.
    looking: Mutex<()>,
    /// Of what was sent there, so much the kernel has not been told yet.
    untold: Arc<AtomicUsize>,
}

/// What came of a request: the answer and the bytes that came with it.
pub type Result<T = (Answer, Bytes)> = std::result::Result<T, Errno>;

impl Core {
    /// Of a mount whose client is yet to come.
    pub fn new(procfs: &'static Procfs, stale: Sender<Stale>) -> Core {
        let (inodes, opens) = (Inodes::new(), Opens::default());
        let lock_owners = LockOwners::default();
        let (client, news) = (OnceLock::new(), News::default());
        let backings = Backings::default();
        let watched = AtomicBool::new(false);
        Core {
            client,
            inodes,
            opens,
            lock_owners,
            behind: Behind::default(),
            listings: Listings::default(),
            touched: Touched::default(),
            known: Known::default(),
            after: After::default(),
            backings,
            procfs,
            root: Mutex::default(),
            silent: AtomicBool::new(false),
            asking: AtomicBool::new(false),
            news,
            watched,
            stale,
            kernel: OnceLock::new(),
            looking: Mutex::default(),
            untold: Arc::default(),
        }
    }

    /// It is here.
    pub fn set_client(&self, client: Arc<Client>) {
        let _ = self.client.set(client);
    }

    /// Is its server in this process?
    pub fn is_local(&self) -> bool {
        self.client.get().is_some_and(|c| c.is_local())
    }

    /// What a file that is open here is read from: its server is in this process.
    pub fn backing_file(&self, fh: FileHandle) -> Option<Arc<Open>> {
        let open = self.opens.file(fh.0)?.remote(self.life())?;
        self.client.get()?.local_file(open)
    }

    /// Changes when what was open on the server is not any more.
    pub fn life(&self) -> u64 {
        self.client.get().map_or(0, |c| c.life())
    }

    /// What the server calls a file.
    ///
    /// # Errors
    /// ESTALE for what the kernel should have forgotten.
    pub fn handle(&self, ino: INodeNo) -> Result<Arc<Handle>> {
        self.inodes.handle(ino).ok_or(Errno::ESTALE)
    }

    /// Asks for whoever has made a FUSE request.
    pub fn ask(
        self: &Arc<Self>,
        who: &Who,
        op: Op,
        data: &[&[u8]],
        done: impl FnOnce(Result) + Send + 'static,
    ) {
        self.ask_for(who, op, data, DEADLINE, done);
    }

    /// The same, with another deadline.
    pub fn ask_for(
        self: &Arc<Self>,
        who: &Who,
        op: Op,
        data: &[&[u8]],
        timeout: Duration,
        done: impl FnOnce(Result) + Send + 'static,
    ) {
        let Some(client) = self.client.get() else { return done(Err(Errno::EHOSTDOWN)) };
        let edits = op.changes();
        let (subjects, brought) = (touched::subjects(&op), known::brought(&op));
        if edits {
            self.listings.edited();
        }
        let change = self.after.begin(&op, || self.asked());
        let (asker, procfs) = (who.asker, self.procfs);
        let caller = match who.named {
            true => self.caller(asker),
            false => Caller::default(),
        };
        let waits = who.waits;
        let interrupted = waits.then(|| Box::new(move || asker.is_interrupted(procfs)) as _);
        let ask = Ask { caller, op, timeout, interrupted };
        let core = self.clone();
        let done = move |reply: krg_faf::client::Reply| {
            if edits {
                core.listings.edited();
            }
            if !subjects.is_empty() {
                core.touched.add(&subjects);
            }
            if !matches!(reply, Err(libc::EHOSTDOWN | libc::EINTR)) {
                core.silent.store(false, Ordering::Relaxed);
            }
            // Also if it has failed: it may still be done.
            for (dir, name) in brought {
                core.known.came(core.inodes.key_of(&dir), name.as_slice());
            }
            core.after.end(change, reply.as_ref().ok().map(|(_, bytes)| &bytes[..]));
            done(reply.map_err(Errno::from_i32));
        };
        client.ask(ask, data, Box::new(done));
    }

    /// Has `ended` called if somebody is told to end before `let_go`.
    pub fn hold(&self, who: &Who, ended: impl FnOnce(Errno) + Send + 'static) -> Option<u64> {
        let (asker, procfs) = (who.asker, self.procfs);
        let interrupted = Box::new(move || asker.is_interrupted(procfs));
        let ended = move |reply: krg_faf::client::Reply| {
            ended(reply.err().map_or(Errno::EINTR, Errno::from_i32));
        };
        self.client.get().map(|client| client.hold(interrupted, Box::new(ended)))
    }

    /// He need not wait any more.
    pub fn let_go(&self, held: Option<u64>) {
        if let (Some(client), Some(held)) = (self.client.get(), held) {
            client.let_go(held);
        }
    }

    /// Does who uses the files of a server that does not answer wait for it?
    pub fn waits(&self) -> bool {
        self.client.get().is_some_and(|c| c.waits())
    }

    /// Is the server connected, as far as is known?
    pub fn is_connected(&self) -> bool {
        self.client.get().is_some_and(|c| c.is_connected())
    }

    /// The root's attributes, as last heard.
    pub fn root(&self) -> MutexGuard<'_, Option<Attr>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Was it too long ago that the server has said something about the root?
    pub fn is_silent(&self, ino: INodeNo) -> bool {
        ino == INodeNo::ROOT && self.silent.load(Ordering::Relaxed)
    }

    /// True for who is the first to ask about the root without waiting.
    pub fn begins_to_ask_of_root(&self) -> bool {
        !self.asking.swap(true, Ordering::AcqRel)
    }

    /// He has his answer.
    pub fn has_asked_of_root(&self) {
        self.asking.store(false, Ordering::Release);
    }

    /// A question about the root was not answered soon.
    pub fn set_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Does the server answer, as far as is known?
    pub fn is_up(&self) -> bool {
        self.client.get().is_some_and(|c| c.is_up())
    }

    /// How long somebody may wait for what else there is to say of a file.
    pub fn patience(ino: INodeNo) -> Duration {
        if ino == INodeNo::ROOT { ROOT_PATIENCE } else { DEADLINE }
    }

    /// Tells the server something that nobody waits for.
    pub fn tell(&self, op: Op) {
        if let Some(client) = self.client.get() {
            client.tell(op);
        }
    }

    /// The ids to act with. Root may do everything, in whatever groups it is.
    fn caller(&self, asker: Asker) -> Caller {
        match asker.uid {
            0 => Caller { uid: 0, gid: asker.gid, groups: Vec::new() },
            _ => {
                let caller = asker.caller(self.procfs);
                Caller { uid: caller.uid, gid: caller.gid, groups: caller.groups }
            }
        }
    }

    /// Does something with an open file by its number on the server; after the server was
    /// restarted it is opened again first.
    pub fn with_open(
        self: &Arc<Self>,
        who: &Who,
        file: &Arc<OpenFile>,
        work: impl FnOnce(&Arc<Core>, Result<OpenId>) + Send + 'static,
    ) {
        if file.has_lost() {
            return work(self, Err(Errno::EIO));
        }
        let life = self.life();
        if let Some(open) = file.remote(life) {
            return work(self, Ok(open));
        }
        let Some(client) = self.client.get() else { return work(self, Err(Errno::EHOSTDOWN)) };
        let op = Op::Reopen {
            file: (*file.handle).clone(),
            flags: file.flags,
            proof: file.proof.clone(),
        };
        let (core, file) = (self.clone(), file.clone());
        let (asker, procfs) = (who.asker, self.procfs);
        // As who has opened it: what is written is written as that user.
        let ask = Ask {
            caller: file.opener.clone(),
            op,
            timeout: DEADLINE,
            interrupted: who.waits.then(|| Box::new(move || asker.is_interrupted(procfs)) as _),
        };
        let done = move |reply: krg_faf::client::Reply| {
            let open = match reply.map_err(Errno::from_i32) {
                Ok((Answer::Opened(opened), _)) => {
                    if !file.reopened(opened.life, opened.open) {
                        core.tell(Op::Close { open: opened.open, owner: None });
                    }
                    let open = file.remote(opened.life).unwrap_or(opened.open);
                    if file.has_lost() { Err(Errno::EIO) } else { Ok(open) }
                }
                other => Err(unexpected(other)),
            };
            work(&core, open);
        };
        client.ask(ask, &[], Box::new(done));
    }

    /// Who makes a request, for when what it opens is opened again.
    pub fn opener(&self, who: &Who) -> Caller {
        self.caller(who.asker)
    }

    /// A write that nobody waited for is not known to have been done, nor that it will not be
    /// done yet: what is open is opened again, so that it is not.
    pub fn start_over(&self) {
        if let Some(client) = self.client.get() {
            client.start_over();
        }
    }
}

/// Who has made a FUSE request, and whether it matters: what is done to an open file, its opener
/// was allowed to do.
#[derive(Clone, Copy)]
pub struct Who {
    asker: Asker,
    named: bool,
    waits: bool,
}

impl Who {
    /// The server has to know.
    pub fn of(req: &Request) -> Who {
        let asker = Asker { uid: req.uid(), gid: req.gid(), tid: req.pid() };
        Who { asker, named: true, waits: true }
    }

    /// It does not wait for the answer: what becomes of it does not matter.
    pub fn gone_on(self) -> Who {
        Who { waits: false, ..self }
    }

    /// It need not.
    pub fn anybody(req: &Request) -> Who {
        Who { named: false, ..Who::of(req) }
    }

    /// Is it about to make this name, whatever a look-up finds?
    pub fn makes(&self, core: &Core, name: &[u8]) -> bool {
        // One at a time: its path may be in a file of this mount, which another thread has to read.
        let Ok(_one) = core.looking.try_lock() else { return false };
        self.asker.makes(core.procfs, name)
    }

    /// Is it to stop waiting for something that may never come?
    pub fn is_signalled(&self, core: &Core) -> bool {
        self.asker.is_signalled(core.procfs)
    }
}

/// The errno of an answer that is none to the question.
pub fn unexpected(reply: Result) -> Errno {
    match reply {
        Err(e) => e,
        Ok(_) => Errno::EPROTO,
    }
}

/// What a client tells of its server.
pub struct Feed(pub Weak<Core>);

impl Events for Feed {
    fn notice(&self, notice: Notice) {
        let Some(core) = self.0.upgrade() else { return };
        core.news.note(&notice);
        match notice {
            Notice::Changed { file } => {
                core.known.forget(file);
                for ino in core.inodes.changed(file) {
                    core.tell_kernel(Stale::Inode(ino));
                }
            }
            Notice::Name { dir, name } => {
                core.known.came(dir, name.as_slice());
                for dir in core.inodes.changed(dir) {
                    core.tell_kernel(Stale::Name(dir, name.clone()));
                }
            }
            Notice::Everything => core.everything_changed(),
            Notice::Recall { file } => core.recalled(file),
            Notice::Root { key, watched } => {
                core.inodes.call_root(key);
                core.known.clear();
                core.watched.store(watched, Ordering::Release);
                // What may be done is another thing now: who writes is to hear of it at once.
                core.behind.all_recalled();
            }
        }
    }

    fn connected(&self, resumed: bool, root: Entry) {
        let Some(core) = self.0.upgrade() else { return };
        core.inodes.name_root(&root);
        core.known.clear();
        core.watched.store(root.watched, Ordering::Release);
        // At first there is nothing to be old; and a word about the root would make the kernel drop
        // its attributes that are on their way: it would take the root for nobody's.
        if core.life() > 1 || resumed {
            // Nobody has told meanwhile what changed.
            core.news.note(&Notice::Everything);
            core.everything_changed();
        }
        if !resumed {
            core.behind.all_recalled();
        }
    }
}

impl Core {
    /// Another client opens a file: it sees what was written here before.
    fn recalled(self: &Arc<Self>, file: Key) {
        let known = self.inodes.changed(file);
        self.behind.recalled(&known);
        self.give_back(known, file);
    }

    /// The lease on a file, whatever its numbers are here, when nothing is under way to it.
    fn give_back(self: &Arc<Self>, mut of: Vec<INodeNo>, file: Key) {
        let Some(ino) = of.pop() else { return self.tell(Op::Returned { file }) };
        self.behind.barrier(self, ino, move |core| {
            core.behind.resized(ino);
            core.give_back(of, file);
        });
    }

    fn everything_changed(&self) {
        self.known.clear();
        for ino in self.inodes.all_changed() {
            self.tell_kernel(Stale::Inode(ino));
        }
    }

    /// Goes on when the kernel knows that this is old, and what it was to be told before.
    pub fn once_told(&self, stale: Option<Stale>, work: impl FnOnce() + Send + 'static) {
        if stale.is_none() && self.has_told() {
            return work();
        }
        stale.into_iter().for_each(|stale| self.tell_kernel(stale));
        self.tell_kernel(Stale::Then(Box::new(work)));
    }

    /// What the kernel has is old: it is told from a thread that has nothing else to do.
    pub fn tell_kernel(&self, stale: Stale) {
        self.untold.fetch_add(1, Ordering::AcqRel);
        let _ = self.stale.send(stale);
    }

    /// Has the kernel been told all that it is to be told? Who is let into a file waits for that:
    /// the kernel lets attributes go that are on their way to it when it is told something, and
    /// reads a file to the end that it knew before.
    pub fn has_told(&self) -> bool {
        self.untold.load(Ordering::Acquire) == 0
    }

    /// The kernel asks for a file's attributes before it uses them: told at once.
    pub fn tell_length(&self, ino: INodeNo) {
        if let Some(kernel) = self.kernel.get() {
            let _ = kernel.inval_inode(ino, -1, 0);
        }
    }

    /// The way to the kernel.
    pub fn set_kernel(&self, kernel: Notifier) {
        let _ = self.kernel.set(kernel);
    }

    /// For `tell_kernel` of a thread.
    pub fn untold(&self) -> Arc<AtomicUsize> {
        self.untold.clone()
    }

    /// How long the kernel may use a name, and the attributes of its file, that were asked for
    /// then.
    pub fn ttls(&self, entry: &Entry, asked: Asked) -> (Duration, Duration) {
        if !self.is_news(asked, entry.key) {
            return (Duration::ZERO, Duration::ZERO);
        }
        let is_dir = entry.attr.mode & libc::S_IFMT == libc::S_IFDIR;
        match (entry.watched, is_dir) {
            (true, true) => (NAME_TTL, NAME_TTL),
            (true, false) => (NAME_TTL, ATTR_TTL),
            (false, _) => (ATTR_TTL, ATTR_TTL),
        }
    }

    /// Does the server tell of what the node's own processes change?
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// For what is asked now.
    pub fn asked(&self) -> Asked {
        let (notices, writes) = (self.news.count(), self.behind.now());
        Asked { notices, writes, touched: self.touched.count() }
    }

    /// Has nothing been told of this file or directory since?
    pub fn is_news(&self, asked: Asked, key: Key) -> bool {
        !self.news.since(asked.notices, key)
    }

    /// What the kernel is told of a file that was asked for then.
    pub fn attr_of(&self, ino: INodeNo, attr: &Attr, asked: Asked) -> FileAttr {
        file_attr(ino, &self.behind.corrected(ino, attr, asked.writes))
    }

    /// The kernel has forgotten a file.
    pub fn forget(&self, ino: INodeNo, times: u64) {
        if let Some(key) = self.inodes.forget(ino, times) {
            // The server says nothing more of it.
            self.known.forget(key);
        }
        let keys = self.inodes.take_forgotten(FORGETS);
        if !keys.is_empty() {
            for keys in keys.chunks(FILE_FORGETS_MAX) {
                self.tell(Op::Forget { keys: keys.to_vec() });
            }
        }
    }
}
