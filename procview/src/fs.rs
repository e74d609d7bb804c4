//! The view as a tree of names, without FUSE: what there is, what it says, who may see it.
//!
//! Everything that memory can answer is answered without waiting; what needs another node waits
//! for it, with a deadline.

pub mod brief;
pub mod cpu;
mod held;
mod list;
mod live;
mod lookup;
mod moving;
mod names;
mod placed;
mod process;
mod snapshot;
mod text;

use crate::error::ViewError;
use crate::gather::Gather;
use crate::inode::{Fixed, Item, NodeFile, Who};
use crate::merge;
use crate::store::NodeView;
use brief::Briefs;
use krg_sys::caller::Asker;
use krg_sys::clock::{boot_ns, wall_ns};
use krg_sys::procfs::Procfs;
use krg_types::file::PidFileKind;
use krg_types::{PidFile, SystemFile};
use live::Recent;
use names::Names;
use placed::{Cluster, Placed};
pub use snapshot::Snapshot;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A list of processes is taken after it was asked for: whoever starts one and then looks sees it.
const LIST_MAX_AGE: Duration = Duration::ZERO;
/// A whole-system file is at most this old: tools that read the same one again and again, or
/// several that must agree, do not cost every node a question each.
const SYSTEM_MAX_AGE: Duration = Duration::from_millis(50);
/// One process's texts are: a tool that lists first reads what the list came with.
const PID_MAX_AGE: Duration = Duration::from_millis(1_000);

/// The tree.
pub struct Fs {
    gather: Arc<Gather>,
    procfs: Arc<Procfs>,
    names: Names,
    recent: Recent,
    briefs: Briefs,
    placed: Placed,
    local: PathBuf,
    /// The root of the mount that is asked each time; where `fs` is only that, there is none.
    live: Option<PathBuf>,
    /// Where this node's daemon takes orders, if there is one.
    daemon: Option<PathBuf>,
    sight: Option<Arc<dyn Sight>>,
    /// Shown as the time of everything.
    since_ns: u64,
    begun: Instant,
}

/// Whole-system files that some processes see as their own node has them.
const OWN: [SystemFile; 5] = [
    SystemFile::Stat,
    SystemFile::Meminfo,
    SystemFile::Cpuinfo,
    SystemFile::Loadavg,
    SystemFile::Uptime,
];

/// Who sees what.
pub trait Sight: Send + Sync + 'static {
    /// May this node's own numbers be shown to some process? Asked before anything is told that
    /// is the same for all.
    fn has_any(&self) -> bool;

    /// Are this node's own numbers shown to this process in place of the cluster's?
    fn is_local(&self, asker: &Asker) -> bool;
}

/// What kind of thing a name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A text.
    File,
    /// A symbolic link.
    Link,
}

/// What stat(2) says of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// What it is.
    pub item: Item,
    /// Its kind.
    pub kind: Kind,
    /// Permission bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a text that is held; of all else as in procfs, where the size of a text is known
    /// when it is read.
    pub size: u64,
}

impl Attr {
    /// A link in its place.
    pub fn as_link(self) -> Attr {
        Attr { kind: Kind::Link, perm: 0o777, ..self }
    }
}

/// One name of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The name.
    pub name: String,
    /// What it is.
    pub attr: Attr,
}

impl Fs {
    /// A tree over these values. `procfs` is this node's own /proc, and mounted at `local` for
    /// the links that lead to it.
    pub fn new(gather: Arc<Gather>, procfs: Arc<Procfs>, local: &Path) -> Fs {
        let names = Names::default();
        let since_ns = wall_ns();
        let (recent, briefs, placed) = (Recent::default(), Briefs::default(), Placed::default());
        let local = local.to_owned();
        let (live, daemon, sight) = (None, None, None);
        let begun = Instant::now();
        Fs {
            gather,
            procfs,
            names,
            recent,
            briefs,
            placed,
            local,
            live,
            daemon,
            sight,
            since_ns,
            begun,
        }
    }

    /// With a mount of its own for what must be live, at `at`.
    pub fn with_live(self, at: PathBuf) -> Fs {
        Fs { live: Some(at), ..self }
    }

    /// Where that is.
    pub fn live_root(&self) -> Option<&Path> {
        self.live.as_deref()
    }

    /// Since this tree was made, ms.
    pub fn now_ms(&self) -> u32 {
        (self.begun.elapsed().as_millis() & u128::from(u32::MAX)) as u32
    }

    /// What the nodes are doing.
    pub fn gather(&self) -> &Arc<Gather> {
        &self.gather
    }

    /// With a daemon that knows of jobs, and moves them.
    pub fn with_daemon(self, socket: PathBuf) -> Fs {
        Fs { daemon: Some(socket), ..self }
    }

    /// With somebody who knows who sees only this node's numbers.
    pub fn with_sight(self, sight: Arc<dyn Sight>) -> Fs {
        Fs { sight: Some(sight), ..self }
    }

    /// Does the asker no longer want an answer?
    pub fn is_interrupted(&self, asker: &Asker) -> bool {
        asker.is_interrupted(&self.procfs)
    }

    /// What this asker is shown when it reads something.
    fn seen(&self, item: Item, asker: &Asker) -> Item {
        match (item, &self.sight) {
            (Item::System(file), Some(sight)) if OWN.contains(&file) && sight.is_local(asker) => {
                Item::NodeFile(self.gather.own(), NodeFile::System(file))
            }
            _ => item,
        }
    }

    /// The wall-clock time shown as the time of everything, ns since 1970.
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.placed.cluster(&self.gather)
    }

    fn cluster_facts(&self, cluster: &Cluster) -> merge::Facts {
        let (boot, wall) = (i128::from(boot_ns()), i128::from(wall_ns()));
        let uptime = boot + i128::from(cluster.first_boot_ns);
        let number = |n: i128| u64::try_from(n).unwrap_or(0);
        merge::Facts { btime: number((wall - uptime) / 1_000_000_000), uptime_ns: number(uptime) }
    }

    /// What stat(2) says.
    ///
    /// # Errors
    /// ENOENT or ESRCH for what is no longer there.
    pub fn attr(&self, item: Item) -> Result<Attr, ViewError> {
        let (kind, perm) = shape(item);
        let mut attr = Attr { item, kind, perm, uid: 0, gid: 0, size: 0 };
        let (node, who) = match item {
            Item::Process(who) | Item::PidFile(who, _) => match who {
                Who::Root => return Ok(attr),
                Who::Process(pid, _) => (pid.node(), who),
            },
            Item::Entry(pid, ..) | Item::Task(pid, _) | Item::TaskFile(pid, ..) => {
                // A thread that is not its group's leader has no row of its own.
                let (uid, gid) = self.owner_of(pid).unwrap_or((0, 0));
                return Ok(Attr { uid, gid, ..attr });
            }
            Item::Held(pid, start, place, version) => {
                return self.held_attr((pid, start, place, version)).map(|(attr, _)| attr);
            }
            _ => return Ok(attr),
        };
        let view = self.gather.view(node).ok_or(ViewError::NoEntry)?;
        let process = process::find(&view, who)?;
        (attr.uid, attr.gid) = (process.uid, process.gid);
        if matches!(item, Item::Process(_)) {
            (attr.perm, attr.gid) = hidden(&view, attr.gid);
        }
        Ok(attr)
    }
}

/// Mode and group of a process's directory: what hidepid hides on its owner is closed here.
fn hidden(view: &NodeView, gid: u32) -> (u16, u32) {
    match (view.facts.hidepid, view.facts.hidepid_gid) {
        (0, _) => (0o555, gid),
        (_, Some(exempt)) => (0o550, exempt),
        (_, None) => (0o500, gid),
    }
}

fn shape(item: Item) -> (Kind, u16) {
    let of_file = |file: PidFile| match file.kind() {
        PidFileKind::Text => (Kind::File, file.mode()),
        PidFileKind::Link => (Kind::Link, 0o777),
        PidFileKind::LinkDir | PidFileKind::TextDir | PidFileKind::TaskDir => {
            (Kind::Dir, file.mode())
        }
    };
    match item {
        Item::Fixed(f) => match f {
            Fixed::SelfLink
            | Fixed::ThreadSelf
            | Fixed::NodesSelf
            | Fixed::Local
            | Fixed::Live => (Kind::Link, 0o777),
            Fixed::Nrnodes | Fixed::PidMax | Fixed::Server | Fixed::Settled => {
                (Kind::File, 0o444)
            }
            _ => (Kind::Dir, 0o555),
        },
        Item::System(_)
        | Item::NodeFile(..)
        | Item::ClusterFile(_)
        | Item::MosixFile(..)
        | Item::CpuList(_)
        | Item::CpuFile(..)
        | Item::Held(..)
        | Item::Brief(..) => (Kind::File, 0o444),
        Item::NodeDir(_)
        | Item::MosixDir(_)
        | Item::CpuDir(_)
        | Item::CpuTopology(_)
        | Item::Process(_)
        | Item::Task(..) => (Kind::Dir, 0o555),
        Item::LocalPid(_) | Item::LocalName(_) => (Kind::Link, 0o777),
        Item::PidFile(_, file) | Item::TaskFile(_, _, file) => of_file(file),
        Item::Entry(_, PidFile::Fdinfo, _) => (Kind::File, 0o444),
        Item::Entry(..) => (Kind::Link, 0o777),
    }
}

/// Which files a fixed item needs from the nodes.
fn needs(item: Item) -> u64 {
    match item {
        Item::System(f)
        | Item::NodeFile(_, NodeFile::System(f))
        | Item::ClusterFile(NodeFile::System(f)) => f.bit(),
        // Its age is that of the load, which every node has.
        Item::NodeFile(_, NodeFile::Age | NodeFile::State | NodeFile::Passes) => {
            SystemFile::Loadavg.bit()
        }
        Item::MosixFile(..) => {
            [SystemFile::Stat, SystemFile::Meminfo, SystemFile::Cpuinfo, SystemFile::Loadavg]
                .iter()
                .fold(0, |bits, f| bits | f.bit())
        }
        _ => 0,
    }
}

/// The rights a live read is made with, and whether memory may answer in its stead.
pub(crate) fn may_trace_all(asker: &Asker) -> bool {
    asker.uid == 0
}
