//! From a name in a directory to what it is.

use super::{Attr, Fs, LIST_MAX_AGE, cpu, names};
use crate::error::ViewError;
use crate::inode::{Fixed, Item, NAMESPACES, NodeFile, Who, start_bits};
use crate::numbers::home_of;
use krg_sys::caller::Asker;
use krg_types::{GlobalPid, NodeId, PidFile, SystemFile};
use std::time::Duration;

/// A process's directory is found by a sample at most this old: whoever looks up many does not
/// cost a sample each.
const LOOKUP_MAX_AGE: Duration = Duration::from_millis(300);
/// One that keeps its number when it goes to another node is looked for in younger ones.
const NUMBERED_MAX_AGE: Duration = Duration::from_millis(50);
/// Descriptor numbers above this have no inode number (Linux's NR_OPEN ceiling is 2^30, its
/// default 2^20).
const FD_MAX: u32 = (1 << 24) - 1;

/// The directories and links at the root that are there whatever runs.
pub(super) const AT_ROOT: [(&str, Fixed); 10] = [
    ("self", Fixed::SelfLink),
    ("thread-self", Fixed::ThreadSelf),
    (".local", Fixed::Local),
    (".sys", Fixed::DotSys),
    (".live", Fixed::Live),
    ("net", Fixed::Net),
    ("pressure", Fixed::Pressure),
    ("nodes", Fixed::Nodes),
    ("mosix", Fixed::Mosix),
    ("sys", Fixed::Sys),
];

/// A number as a name of /proc writes it: no sign, no leading zero.
fn digits(name: &str) -> Option<u32> {
    let plain =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    plain.then(|| name.parse().ok()).flatten()
}

/// The merged file with this name in this directory.
pub(super) fn system_file(dir: Fixed, name: &str) -> Option<SystemFile> {
    let path = match dir {
        Fixed::Root => name.to_owned(),
        Fixed::Net => format!("net/{name}"),
        Fixed::Pressure => format!("pressure/{name}"),
        _ => return None,
    };
    SystemFile::ALL.into_iter().find(|f| f.path() == path)
}

impl Fs {
    /// What `name` is in the directory `parent`.
    ///
    /// # Errors
    /// ENOENT where there is no such name.
    pub async fn lookup(
        &self,
        parent: Item,
        name: &str,
        asker: &Asker,
    ) -> Result<Attr, ViewError> {
        let item = match parent {
            Item::Fixed(Fixed::Root) if digits(name).is_some() => self.number(name).await,
            Item::Fixed(dir) => self.in_fixed(dir, name),
            Item::NodeDir(node) => {
                let file = NodeFile::all().find(|f| f.name() == name);
                file.map(|f| Item::NodeFile(node, f))
            }
            Item::MosixDir(node) => names::mosix_place(name).map(|f| Item::MosixFile(node, f)),
            Item::CpuDir(n) if name == "topology" => Some(Item::CpuTopology(n)),
            Item::CpuTopology(n) => place(&cpu::TOPOLOGY, name).map(|f| Item::CpuFile(n, f)),
            Item::Process(who) => PidFile::from_name(name).map(|f| Item::PidFile(who, f)),
            Item::PidFile(Who::Process(pid, _), PidFile::Task) if self.has_number(pid) => {
                let threads = self.threads(pid, asker).await?;
                let shown = threads.into_iter().find(|t| t.name == name).map(|t| t.attr.item);
                shown.or_else(|| digits(name).and_then(|tid| in_task(pid, tid)))
            }
            Item::PidFile(Who::Process(pid, _), PidFile::Task) => {
                digits(name).filter(|tid| *tid > 0).and_then(|tid| in_task(pid, tid))
            }
            Item::Task(pid, tid) => PidFile::from_name(name)
                .filter(|f| f.in_task())
                .map(|f| Item::TaskFile(pid, tid, f)),
            Item::PidFile(Who::Process(pid, _), dir) => {
                return self.entry(pid, dir, name, asker).await;
            }
            Item::TaskFile(pid, tid, dir) => {
                let thread = GlobalPid::new(pid.node(), tid).ok_or(ViewError::NoEntry)?;
                return self.entry(thread, dir, name, asker).await;
            }
            _ => None,
        };
        self.attr(item.ok_or(ViewError::NoEntry)?)
    }

    /// A process by its cluster pid, or a link to one of this node by its own.
    async fn number(&self, name: &str) -> Option<Item> {
        let raw = digits(name)?;
        if raw == 1 {
            return Some(Item::Process(Who::Root));
        }
        if let Some(item) = self.numbered(raw).await {
            return Some(item);
        }
        let Some(pid) = GlobalPid::from_raw(raw) else {
            let there = self.procfs.root().lstat(name).is_ok();
            return there.then_some(Item::LocalPid(raw));
        };
        let known = || {
            let process = self.process_now(pid).ok()?;
            self.is_shown(pid.node()).then_some(start_bits(process.start_ticks))
        };
        // It may have ended since the last sample, and who waits for its end may ask for nothing
        // but its directory; or it may be younger than the sample.
        self.gather.refresh(Some(pid.node()), true, 0, LOOKUP_MAX_AGE).await;
        let start = match known() {
            Some(start) => start,
            None => {
                self.gather.refresh(Some(pid.node()), true, 0, LIST_MAX_AGE).await;
                known()?
            }
        };
        Some(Item::Process(Who::Process(pid, start)))
    }

    /// A job's process by the number that it has for life.
    async fn numbered(&self, number: u32) -> Option<Item> {
        let home = home_of(number)?;
        let known = self.with_number(number);
        self.known(home.get())?;
        let (first, max_age) = match known {
            Some(Item::Process(Who::Process(pid, _))) => (pid.node(), NUMBERED_MAX_AGE),
            _ => (home, LIST_MAX_AGE),
        };
        self.gather.refresh(Some(first), true, 0, max_age).await;
        if self.with_number(number).is_none() {
            self.gather.refresh(None, true, 0, LIST_MAX_AGE).await;
        }
        self.with_number(number)
    }

    /// As the views are now. It moves between two looks at two nodes: the later one is right.
    pub(super) fn with_number(&self, number: u32) -> Option<Item> {
        let here = self.gather.shown().into_iter().filter_map(|(peer, view)| {
            let local = view.numbers.local(number)?;
            let process = view.procs.get(&local)?;
            let who =
                Who::Process(GlobalPid::new(peer.id, local)?, start_bits(process.start_ticks));
            let age_ns = self.gather.age_ns(&peer, view.procs_stamp_ns).unwrap_or(u64::MAX);
            Some((age_ns, Item::Process(who)))
        });
        here.min_by_key(|(age_ns, _)| *age_ns).map(|(_, item)| item)
    }

    /// Is it a job's?
    pub(super) fn has_number(&self, pid: GlobalPid) -> bool {
        let view = self.gather.view(pid.node());
        view.is_some_and(|view| view.numbers.shown(pid.local()).is_some())
    }

    fn in_fixed(&self, dir: Fixed, name: &str) -> Option<Item> {
        let fixed = |f: Fixed| Some(Item::Fixed(f));
        match (dir, name) {
            (Fixed::Root | Fixed::Net | Fixed::Pressure, name) => {
                if let (Fixed::Root, Some((_, f))) =
                    (dir, AT_ROOT.iter().find(|(n, _)| *n == name))
                {
                    return fixed(*f);
                }
                let real = || names_number(self, dir, name);
                match system_file(dir, name) {
                    // A pressure file that this kernel lacks is not offered.
                    Some(_) if dir == Fixed::Pressure => {
                        real()?;
                        system_file(dir, name).map(Item::System)
                    }
                    Some(file) => Some(Item::System(file)),
                    None => real(),
                }
            }
            (Fixed::Sys, "kernel") => fixed(Fixed::SysKernel),
            (Fixed::SysKernel, "pid_max") => fixed(Fixed::PidMax),
            (Fixed::Sys | Fixed::SysKernel, name) => names_number(self, dir, name),
            (Fixed::Nodes, "cluster") => fixed(Fixed::NodesCluster),
            (Fixed::Nodes, "self") => fixed(Fixed::NodesSelf),
            (Fixed::Nodes, "nrnodes") => fixed(Fixed::Nrnodes),
            (Fixed::Nodes, name) => {
                let number = name.strip_prefix("node")?;
                self.known(digits(number)?).map(Item::NodeDir)
            }
            (Fixed::NodesCluster, name) => {
                cluster_files().find(|f| f.name() == name).map(Item::ClusterFile)
            }
            (Fixed::Mosix, "nodes") => fixed(Fixed::MosixNodes),
            (Fixed::MosixNodes, name) => self.known(digits(name)?).map(Item::MosixDir),
            (Fixed::DotSys, "cpu") => fixed(Fixed::Cpu),
            (Fixed::DotSys, "server") => fixed(Fixed::Server),
            (Fixed::DotSys, "settled") => fixed(Fixed::Settled),
            (Fixed::Cpu, name) => match name.strip_prefix("cpu").and_then(digits) {
                Some(n) if n < self.cluster().cpus() => u16::try_from(n).ok().map(Item::CpuDir),
                _ => place(&cpu::LISTS, name).map(Item::CpuList),
            },
            _ => None,
        }
    }

    fn known(&self, number: u32) -> Option<NodeId> {
        let node = NodeId::new(number)?;
        self.gather.view(node).is_some().then_some(node)
    }

    /// An entry of fd/, fdinfo/ or ns/.
    async fn entry(
        &self,
        pid: GlobalPid,
        dir: PidFile,
        name: &str,
        asker: &Asker,
    ) -> Result<Attr, ViewError> {
        let item = entry_item(pid, dir, name).ok_or(ViewError::NoEntry)?;
        let start = self.process_now(pid).map_or(0, |p| p.start_ticks);
        let entries = self.entries(pid, start, dir, asker).await?;
        if !entries.iter().any(|e| e.name == name) {
            return Err(ViewError::NoEntry);
        }
        self.attr(item)
    }
}

fn names_number(fs: &Fs, dir: Fixed, name: &str) -> Option<Item> {
    fs.names.number(&fs.procfs, dir, name).map(Item::LocalName)
}

/// The files of `nodes/cluster`.
pub(super) fn cluster_files() -> impl Iterator<Item = NodeFile> {
    NodeFile::all()
        .filter(|f| matches!(f, NodeFile::Session | NodeFile::Age | NodeFile::System(_)))
}

/// A thread, named as a cluster pid.
fn in_task(pid: GlobalPid, tid: u32) -> Option<Item> {
    let thread = GlobalPid::from_raw(tid).filter(|t| t.node() == pid.node())?;
    Some(Item::Task(pid, thread.local()))
}

/// The item for a name in fd/, fdinfo/ or ns/.
pub(super) fn entry_item(pid: GlobalPid, dir: PidFile, name: &str) -> Option<Item> {
    let number = match dir {
        PidFile::Ns => u32::from(place(&NAMESPACES, name)?),
        PidFile::Fd | PidFile::Fdinfo => digits(name).filter(|n| *n <= FD_MAX)?,
        _ => return None,
    };
    Some(Item::Entry(pid, dir, number))
}

fn place(names: &[&str], name: &str) -> Option<u8> {
    u8::try_from(names.iter().position(|n| *n == name)?).ok()
}
