//! The names in a directory.

use super::lookup::{AT_ROOT, cluster_files, entry_item, system_file};
use super::{Attr, Fs, LIST_MAX_AGE, Named, cpu, hidden, names, needs, process, shape};
use crate::error::ViewError;
use crate::gather::Standing;
use crate::inode::{Fixed, Item, NodeFile, Who, start_bits};
use crate::merge::mosix;
use crate::numbers::Numbers;
use crate::store::NodeView;
use krg_rpc::peers::Peer;
use krg_sys::caller::Asker;
use krg_types::{GlobalPid, NodeId, PidFile, SystemFile};
use std::collections::BTreeSet;
use std::sync::Arc;

fn plain(name: impl Into<String>, item: Item) -> Named {
    let (kind, perm) = shape(item);
    Named { name: name.into(), attr: Attr { item, kind, perm, uid: 0, gid: 0, size: 0 } }
}

impl Fs {
    /// Everything in a directory, in the order it is shown in.
    ///
    /// # Errors
    /// EINVAL for what is no directory, ESRCH for a process that has ended.
    pub async fn list(&self, dir: Item, asker: &Asker) -> Result<Vec<Named>, ViewError> {
        Ok(match dir {
            Item::Fixed(Fixed::Root) => self.root().await,
            Item::Fixed(f) => self.fixed(f),
            Item::NodeDir(node) => {
                NodeFile::all().map(|f| plain(f.name(), Item::NodeFile(node, f))).collect()
            }
            Item::MosixDir(node) => numbered(&mosix::FILES, |f| Item::MosixFile(node, f)),
            Item::CpuDir(n) => vec![plain("topology", Item::CpuTopology(n))],
            Item::CpuTopology(n) => numbered(&cpu::TOPOLOGY, |f| Item::CpuFile(n, f)),
            Item::Process(who) => {
                self.attr(dir)?;
                let files = PidFile::ALL.iter().filter(|f| who != Who::Root || in_root(**f));
                self.with_attrs(files.map(|f| (f.name(), Item::PidFile(who, *f))))
            }
            Item::Task(pid, tid) => {
                let files = PidFile::ALL.iter().filter(|f| f.in_task());
                self.with_attrs(files.map(|f| (f.name(), Item::TaskFile(pid, tid, *f))))
            }
            Item::PidFile(Who::Root, _) => Vec::new(),
            Item::PidFile(who @ Who::Process(pid, _), file) => {
                self.attr(Item::Process(who))?;
                match file {
                    PidFile::Task => self.threads(pid, asker).await?,
                    dir => self.entry_names(pid, dir, asker).await?,
                }
            }
            Item::TaskFile(pid, tid, file) => {
                let thread = GlobalPid::new(pid.node(), tid).ok_or(ViewError::NoEntry)?;
                self.entry_names(thread, file, asker).await?
            }
            _ => return Err(ViewError::WrongKind),
        })
    }

    /// As in the kernel: names first, then the processes, lowest number first.
    async fn root(&self) -> Vec<Named> {
        // What is told of the files among the names comes with the list.
        let files = needs(Item::System(SystemFile::Loadavg));
        self.gather.refresh_told(None, true, files, LIST_MAX_AGE).await;
        let mut all: Vec<Named> =
            AT_ROOT.iter().map(|(name, f)| plain(*name, Item::Fixed(*f))).collect();
        for name in names::list(&self.procfs, Fixed::Root) {
            let known = AT_ROOT.iter().any(|(n, _)| *n == name);
            let item = match system_file(Fixed::Root, &name) {
                Some(file) => Some(Item::System(file)),
                None => self.names.number(&self.procfs, Fixed::Root, &name).map(Item::LocalName),
            };
            if let Some(item) = item.filter(|_| !known) {
                all.push(plain(name, item));
            }
        }
        all.push(plain("1", Item::Process(Who::Root)));
        let shown = self.gather.shown();
        all.extend(self.numbered_all(&shown));
        for (peer, view) in shown {
            for (local, process) in view.procs.iter().filter(|(_, p)| p.number == 0) {
                let Some(pid) = GlobalPid::new(peer.id, *local) else { continue };
                let who = Who::Process(pid, start_bits(process.start_ticks));
                let mut named = plain(pid.to_string(), Item::Process(who));
                named.attr.uid = process.uid;
                (named.attr.perm, named.attr.gid) = hidden(&view, process.gid);
                all.push(named);
            }
        }
        all
    }

    /// Those of jobs, each once, wherever it was seen last.
    fn numbered_all(&self, shown: &[(Peer, Arc<NodeView>)]) -> Vec<Named> {
        let numbers = shown.iter().flat_map(|(_, view)| view.numbers.all());
        let numbers: BTreeSet<u32> = numbers.collect();
        let named = numbers.into_iter().filter_map(|number| {
            let item = self.with_number(number)?;
            Some(Named { name: number.to_string(), attr: self.attr(item).ok()? })
        });
        named.collect()
    }

    fn fixed(&self, dir: Fixed) -> Vec<Named> {
        let fixed = |name: &str, f: Fixed| plain(name, Item::Fixed(f));
        match dir {
            Fixed::Nodes => {
                let mut all = vec![
                    fixed("nrnodes", Fixed::Nrnodes),
                    fixed("self", Fixed::NodesSelf),
                    fixed("cluster", Fixed::NodesCluster),
                ];
                let node = |n: NodeId| plain(format!("node{n}"), Item::NodeDir(n));
                all.extend(self.gather.nodes().into_iter().map(node));
                all
            }
            Fixed::NodesCluster => {
                cluster_files().map(|f| plain(f.name(), Item::ClusterFile(f))).collect()
            }
            Fixed::Mosix => vec![fixed("nodes", Fixed::MosixNodes)],
            Fixed::MosixNodes => {
                let nodes = self.gather.nodes().into_iter();
                nodes.map(|n| plain(n.to_string(), Item::MosixDir(n))).collect()
            }
            Fixed::DotSys => vec![
                fixed("cpu", Fixed::Cpu),
                fixed("server", Fixed::Server),
                fixed("settled", Fixed::Settled),
            ],
            Fixed::Cpu => {
                let mut all = numbered(&cpu::LISTS, Item::CpuList);
                let cpus = (0..self.cluster().cpus()).filter_map(|n| u16::try_from(n).ok());
                all.extend(cpus.map(|n| plain(format!("cpu{n}"), Item::CpuDir(n))));
                all
            }
            Fixed::Net | Fixed::Pressure | Fixed::Sys | Fixed::SysKernel => self.passed_on(dir),
            _ => Vec::new(),
        }
    }

    /// A directory of the real /proc of which only some names are the cluster's.
    fn passed_on(&self, dir: Fixed) -> Vec<Named> {
        let names = names::list(&self.procfs, dir).into_iter();
        let named = names.filter_map(|name| {
            let item = match (dir, name.as_str()) {
                (Fixed::Sys, "kernel") => Item::Fixed(Fixed::SysKernel),
                (Fixed::SysKernel, "pid_max") => Item::Fixed(Fixed::PidMax),
                _ => match system_file(dir, &name) {
                    Some(file) => Item::System(file),
                    None => Item::LocalName(self.names.number(&self.procfs, dir, &name)?),
                },
            };
            Some(plain(name, item))
        });
        named.collect()
    }

    /// Entries with their owners; a process that has ended meanwhile has none.
    fn with_attrs<'a>(&self, items: impl Iterator<Item = (&'a str, Item)>) -> Vec<Named> {
        let named = items.filter_map(|(name, item)| {
            Some(Named { name: name.to_owned(), attr: self.attr(item).ok()? })
        });
        named.collect()
    }

    /// Lowest first.
    pub(super) async fn threads(
        &self,
        pid: GlobalPid,
        asker: &Asker,
    ) -> Result<Vec<Named>, ViewError> {
        let (tids, numbers) = self.thread_ids(pid, asker).await?;
        let items = tids.into_iter().filter_map(|tid| {
            let plain = GlobalPid::new(pid.node(), tid)?.raw();
            let name = numbers.shown(tid).unwrap_or(plain).to_string();
            let attr = self.attr(Item::Task(pid, tid)).ok()?;
            Some(Named { name, attr })
        });
        Ok(items.collect())
    }

    /// The node's own thread ids, and how they are shown. A node that does not answer: the main
    /// thread, which is the last that is known.
    async fn thread_ids(
        &self,
        pid: GlobalPid,
        asker: &Asker,
    ) -> Result<(Vec<u32>, Numbers), ViewError> {
        let view = self.gather.view(pid.node()).ok_or(ViewError::NoEntry)?;
        let process = self.process_now(pid)?;
        let only = || (vec![pid.local()], view.numbers.as_ref().clone());
        let silent = self.gather.standing(pid.node()) != Standing::Online;
        if silent || process::is_single(&process) {
            return Ok(only());
        }
        let entries = self.entries(pid, process.start_ticks, PidFile::Task, asker).await;
        let entries = match entries {
            Err(ViewError::Unreachable(_)) => return Ok(only()),
            other => other?,
        };
        let mut tids: Vec<u32> = entries.iter().filter_map(|e| e.name.parse().ok()).collect();
        tids.sort_unstable();
        let numbers = process::numbers(&view, pid, &entries);
        Ok((tids, numbers))
    }

    async fn entry_names(
        &self,
        pid: GlobalPid,
        dir: PidFile,
        asker: &Asker,
    ) -> Result<Vec<Named>, ViewError> {
        let start = self.process_now(pid).map_or(0, |p| p.start_ticks);
        let entries = self.entries(pid, start, dir, asker).await?;
        let named = entries.iter().filter_map(|entry| {
            let attr = self.attr(entry_item(pid, dir, &entry.name)?).ok()?;
            Some(Named { name: entry.name.clone(), attr })
        });
        Ok(named.collect())
    }
}

/// What the synthetic process 1 has of a process's directory.
fn in_root(file: PidFile) -> bool {
    let root = crate::render::root::Root { cluster: "", nodes: 0 };
    root.text(file).is_some() || file == PidFile::Task
}

fn numbered(names: &[&str], item: impl Fn(u8) -> Item) -> Vec<Named> {
    let named = names
        .iter()
        .enumerate()
        .filter_map(|(i, name)| Some(plain(*name, item(u8::try_from(i).ok()?))));
    named.collect()
}
