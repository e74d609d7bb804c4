//! What one mount is: its client, what the kernel knows of, what is open.

use super::inodes::Inodes;
use super::opens::{OpenFile, Opens};
use bytes::Bytes;
use fuser::{Errno, INodeNo, Request};
use krg_faf::client::{Ask, Client, Events};
use krg_faf::op::{Answer, Caller, Entry, Handle, Notice, Op, OpenId};
use krg_sys::caller::Asker;
use krg_sys::procfs::Procfs;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// No request takes longer.
pub const DEADLINE: Duration = Duration::from_secs(5);
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
    procfs: &'static Procfs,
}

/// Who has locked something of which file: the kernel tells of every descriptor that is closed,
/// and only few of them matter.
#[derive(Default)]
pub struct LockOwners(Mutex<HashSet<(u64, u64)>>);

impl LockOwners {
    fn set(&self) -> MutexGuard<'_, HashSet<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub fn add(&self, ino: INodeNo, owner: u64) {
        self.set().insert((ino.0, owner));
    }

    /// No more; whether it was.
    pub fn remove(&self, ino: INodeNo, owner: u64) -> bool {
        self.set().remove(&(ino.0, owner))
    }
}

/// What came of a request: the answer and the bytes that came with it.
pub type Result<T = (Answer, Bytes)> = std::result::Result<T, Errno>;

impl Core {
    /// Of a mount whose client is yet to come.
    pub fn new(procfs: &'static Procfs) -> Core {
        let (inodes, opens) = (Inodes::new(), Opens::default());
        let lock_owners = LockOwners::default();
        Core { client: OnceLock::new(), inodes, opens, lock_owners, procfs }
    }

    /// It is here.
    pub fn set_client(&self, client: Arc<Client>) {
        let _ = self.client.set(client);
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
        let (asker, procfs) = (who.asker, self.procfs);
        let caller = match who.named {
            true => self.caller(asker),
            false => Caller::default(),
        };
        let interrupted = Some(Box::new(move || asker.is_interrupted(procfs)) as _);
        let ask = Ask { caller, op, timeout, interrupted };
        let done = |reply: krg_faf::client::Reply| done(reply.map_err(Errno::from_i32));
        client.ask(ask, data, Box::new(done));
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
        let op = Op::Reopen {
            file: (*file.handle).clone(),
            flags: file.flags,
            proof: file.proof.clone(),
        };
        let (core, file) = (self.clone(), file.clone());
        self.ask(who, op, &[], move |reply| {
            let open = match reply {
                Ok((Answer::Opened(opened), _)) => {
                    file.reopened(life, opened.open);
                    if file.has_lost() { Err(Errno::EIO) } else { Ok(opened.open) }
                }
                other => Err(unexpected(other)),
            };
            work(&core, open);
        });
    }
}

/// Who has made a FUSE request, and whether it matters: what is done to an open file, its opener
/// was allowed to do.
#[derive(Clone, Copy)]
pub struct Who {
    asker: Asker,
    named: bool,
}

impl Who {
    /// The server has to know.
    pub fn of(req: &Request) -> Who {
        let asker = Asker { uid: req.uid(), gid: req.gid(), tid: req.pid() };
        Who { asker, named: true }
    }

    /// It need not.
    pub fn anybody(req: &Request) -> Who {
        Who { named: false, ..Who::of(req) }
    }

    /// Has it been told to end?
    pub fn is_interrupted(&self, core: &Core) -> bool {
        self.asker.is_interrupted(core.procfs)
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
pub struct Feed(pub std::sync::Weak<Core>);

impl Events for Feed {
    fn notice(&self, notice: Notice) {
        let Some(core) = self.0.upgrade() else { return };
        if let Notice::Changed { file } = notice
            && let Some(ino) = core.inodes.number(&file)
        {
            core.inodes.changed(ino);
        }
    }

    fn connected(&self, _resumed: bool, root: Entry) {
        if let Some(core) = self.0.upgrade() {
            core.inodes.name_root(root.handle);
        }
    }

    fn lost(&self) {}
}
