//! The skin between the kernel's FUSE requests and the directory.
//!
//! Everything is answered from memory, but for those who want to walk into a node's tree that is
//! not mounted. mount(2) needs the lock of the directory that it mounts on, so whoever holds that
//! lock is never made to wait:
//!
//! - A look-up (or the making of a name) in the entry of a node holds it. The mount is begun, and
//!   the answer is ESTALE: the kernel walks once more and looks the entry itself up, which holds
//!   no lock of it. There he waits. Nobody else who looks the entry up does, so that `ls -l`
//!   mounts nothing, and the process that makes the mount gets to it.
//! - mkdir(2) and its like do not walk again when it is the look-up before the making that fails
//!   (fs/namei.c, do_mkdirat). Who waits in one of them waits at the entry the first time.
//! - Opening the entry, chdir(2), access(2) and statfs(2) hold no lock: they wait at once. ESTALE
//!   then makes the kernel walk once more, and into the mount.

mod reply;

use super::mounted::Mounted;
use super::mounter::{Mounter, Outcome};
use super::names::{Item, Kind, Link, NodeList};
use super::nodes::Nodes;
use super::selection::Selections;
use super::told::{Told, Word};
use fuser::{Config, Errno, INodeNo, Session, SessionACL};
use krg_rpc::answer::{Limit, answer};
use krg_sys::caller::{self, Asker};
use krg_sys::clock::wall_ns;
use krg_sys::fuse_device::{self, FuseError, Looks};
use krg_sys::mount::{MsFlags, make_shared, umount_detach};
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::NodeId;
use krg_types::limits::{NODE_ID_MAX, SELECTIONS_MAX, TOLD_MAX};
use krg_types::mfs::{Patience, ROOT_SOURCE, ROOT_TYPE};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// Nobody waits longer for a mount.
const LIMIT: Limit = Limit { after: Duration::from_secs(4), errno: libc::EIO };
/// Two threads: nothing waits in them.
const THREADS: usize = 2;

/// The directory as fuser wants it.
#[derive(Clone)]
pub struct Root(Arc<Inner>);

struct Inner {
    nodes: Nodes,
    patience: Patience,
    mounter: Mounter,
    runtime: Handle,
    procfs: Procfs,
    told: Mutex<Told>,
    selections: Mutex<Selections>,
    /// By node: how often the kernel was given its entry and has not forgotten it.
    known: Vec<AtomicU64>,
    mounted: Mounted,
    begun: Instant,
    since_ns: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mounts the directory on `at`; `socket` is krgd's. Serving begins with `Session::spawn`; the
/// mount stays when the session ends, and is for the caller to take away.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(
    at: &Path,
    nodes: Nodes,
    runtime: Handle,
    socket: PathBuf,
    patience: Patience,
) -> Result<Session<Root>, FuseError> {
    let failed = || FuseError::at(at);
    let root = Root::new(at, nodes, runtime, socket, patience).map_err(failed())?;
    let looks = Looks {
        source: ROOT_SOURCE,
        fs_type: ROOT_TYPE,
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        // No default_permissions: with them the kernel would not ask before chdir(2).
        options: "",
    };
    let device = fuse_device::mount(at, &looks)?;
    let serve = || {
        // What is mounted in it later is to appear in the namespaces of sessions too.
        make_shared(at)?;
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let keeper = root.clone();
        let session = Session::from_fd(root, device, SessionACL::All, config)?;
        keeper.0.runtime.spawn(make_known(keeper.clone(), at.to_owned()));
        Ok(session)
    };
    serve().map_err(|e| {
        // Nobody would ever serve it.
        let _ = umount_detach(at);
        failed()(e)
    })
}

/// Has the kernel know the entry of each member before anybody walks through it: only at an entry
/// that it knows can somebody wait.
async fn make_known(root: Root, at: PathBuf) {
    let mut nodes = root.0.nodes.clone();
    loop {
        let (root, at) = (root.clone(), at.clone());
        let look = move || {
            let list = root.list();
            let unknown = |n: &&NodeId| root.known(**n).load(Ordering::Relaxed) == 0;
            for node in list.nodes.keys().filter(unknown) {
                let _ = at.join(node.to_string()).symlink_metadata();
            }
        };
        if spawn_blocking(look).await.is_err() || !nodes.changed().await {
            return;
        }
    }
}

impl Root {
    fn new(
        at: &Path,
        nodes: Nodes,
        runtime: Handle,
        socket: PathBuf,
        patience: Patience,
    ) -> io::Result<Root> {
        Ok(Root(Arc::new(Inner {
            nodes,
            patience,
            mounter: Mounter::new(runtime.clone(), socket, at.to_owned()),
            runtime,
            procfs: Procfs::open(HidePid::default())?,
            told: Mutex::new(Told::new(TOLD_MAX)),
            selections: Mutex::new(Selections::new(SELECTIONS_MAX)),
            known: (0..=NODE_ID_MAX).map(|_| AtomicU64::new(0)).collect(),
            mounted: Mounted::follow(at)?,
            begun: Instant::now(),
            since_ns: wall_ns(),
        })))
    }

    fn list(&self) -> Arc<NodeList> {
        self.0.nodes.now()
    }

    fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.0.told)
    }

    /// Waits until the tree of this node is mounted or cannot be, or the asker has to end.
    fn wait(
        &self,
        asker: Asker,
        node: NodeId,
        reply: impl FnOnce(&Root, Outcome) + Send + 'static,
    ) {
        let mounter = self.0.mounter.clone();
        let (looking, replying) = (self.clone(), self.clone());
        let work = async move { mounter.mount(node).await };
        let interrupted = move || asker.is_interrupted(&looking.0.procfs);
        let reply = move |outcome| reply(&replying, outcome);
        answer(&self.0.runtime, LIMIT, work, interrupted, reply);
    }

    /// Somebody looks the entry of a node up: is he to wait for its mount? An errno if he is to be
    /// refused.
    fn is_awaited(&self, asker: Asker, node: NodeId) -> Result<bool, i32> {
        let word = self.told().word(asker.tid, node, self.now());
        // While the kernel does not have the entry, its look-up keeps off everybody else's, also
        // that of the process which is to mount on it.
        let has_entry = self.known(node).load(Ordering::Relaxed) > 0;
        match word {
            Some(Word::Refused(errno)) => Err(errno),
            Some(Word::Again) => Ok(has_entry),
            None if !has_entry || !self.list().is_up(node) => Ok(false),
            // Of another pid namespace: he may have been told.
            None if asker.tid == 0 => Ok(true),
            None => Ok(!self.0.mounted.is(node) && asker.makes_a_name(&self.0.procfs)),
        }
    }

    /// What came of waiting, for one who was told.
    fn was_told(&self, asker: Asker, node: NodeId, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) => self.told().forget(asker.tid, node),
            Err(errno) => {
                self.told().tell(asker.tid, node, Word::Refused(errno), self.now());
            }
        }
        outcome
    }

    /// Somebody walks into the entry of a node, and holds its lock.
    fn walk_again(&self, asker: Asker, node: NodeId) -> i32 {
        match self.may_enter(node) {
            Ok(()) => {
                self.0.mounter.start(node);
                self.told().tell(asker.tid, node, Word::Again, self.now());
                libc::ESTALE
            }
            Err(errno) => errno,
        }
    }

    /// Somebody uses the entry of a node without its lock: he may wait, and then walks again.
    fn enter(&self, asker: Asker, node: NodeId, reply: impl FnOnce(i32) + Send + 'static) {
        if let Err(errno) = self.may_enter(node) {
            return reply(errno);
        }
        self.wait(asker, node, |_, outcome| reply(outcome.err().unwrap_or(libc::ESTALE)));
    }

    /// A node that does not answer costs nobody a wait, but where he asked for it.
    fn may_enter(&self, node: NodeId) -> Result<(), i32> {
        match self.list().nodes.get(&node) {
            Some(seen) if seen.up || self.0.patience.is_hard() => Ok(()),
            Some(_) => Err(libc::EHOSTDOWN),
            None => Err(libc::ENOENT),
        }
    }

    fn known(&self, node: NodeId) -> &AtomicU64 {
        &self.0.known[node.get() as usize]
    }

    fn remember(&self, item: Item) {
        if let Item::Node(node) = item {
            self.known(node).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&self, ino: INodeNo, count: u64) {
        if let Some(Item::Node(node)) = Item::from_ino(ino.0) {
            let less = |n: u64| Some(n.saturating_sub(count));
            let _ = self.known(node).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn selected(&self, asker: Asker) -> Option<NodeId> {
        let procfs = &self.0.procfs;
        let pid = asker.tgid(procfs)?;
        lock(&self.0.selections).of(pid, |pid| caller::stat(procfs, pid))
    }

    fn target(&self, asker: Asker, link: Link) -> NodeId {
        let selected = if link == Link::Selected { self.selected(asker) } else { None };
        self.list().target(link, selected)
    }

    /// A process writes the number of a node.
    fn select(&self, asker: Asker, text: &[u8]) -> Result<(), Errno> {
        let digits = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let node = self.list().member(digits.trim()).ok_or(Errno::EINVAL)?;
        let procfs = &self.0.procfs;
        // Of another pid namespace: he could not be told from others later.
        let pid = asker.tgid(procfs).ok_or(Errno::EOPNOTSUPP)?;
        let look = |pid| caller::stat(procfs, pid);
        lock(&self.0.selections).select(pid, node, look).map_err(|_| Errno::ENOSPC)
    }

    /// Nothing can be made or removed here; in the entry of a node it is tried again in its tree.
    fn refuse(&self, asker: Asker, parent: INodeNo) -> Errno {
        match Item::from_ino(parent.0) {
            Some(Item::Node(node)) => Errno::from_i32(self.walk_again(asker, node)),
            Some(item) if item.kind() == Kind::Dir => Errno::EROFS,
            _ => Errno::ENOTDIR,
        }
    }
}
