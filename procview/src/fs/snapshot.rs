//! The cluster at once, for the commands of this machine: what a look at all names and texts of
//! the tree would tell the same caller, without the tree.

use super::placed::{Cluster, Node};
use super::{Fs, LIST_MAX_AGE, SYSTEM_MAX_AGE};
use crate::gather::Standing;
use crate::render::root;
use crate::snapshot::{self, Known, Wants};
use crate::store::Process;
use krg_rpc::proto::view::{SnapshotPart, SnapshotRequest, ViewCluster, ViewNode, ViewProcess};
use krg_sys::caller::Asker;
use krg_sys::clock::boot_ns;
use krg_sys::cred::Caller;
use krg_types::limits::{VIEW_PART_BYTES_TARGET, VIEW_TEXT_BYTES_MAX};
use krg_types::{GlobalPid, NodeId, PidFile};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a process is taken to have on the wire beside its texts, bytes.
const NUMBERS_BYTES: usize = 160;
/// Texts that are too long to be held are asked of their nodes so many at once.
const LIVE_AT_ONCE: usize = 16;

/// A look at the cluster; it is told part by part.
pub struct Snapshot {
    fs: Arc<Fs>,
    asked: SnapshotRequest,
    asker: Asker,
    caller: Caller,
    cluster: Arc<Cluster>,
    /// Processes of jobs: each by its number, with the node it was seen on last.
    numbered: BTreeMap<u32, (usize, u32)>,
    next: Next,
}

/// What is to be told next.
#[derive(Clone, Copy)]
enum Next {
    Nodes,
    /// From this number on.
    Numbered(u32),
    /// Those of the node in this place, after this process.
    Plain(usize, u32),
    Nothing,
}

/// A process that is told, and what of it is too long to be held.
struct Told {
    process: ViewProcess,
    missing: u64,
}

impl Fs {
    /// Sees to it that what is held is as young as asked for, where the nodes answer in time, and
    /// takes hold of it.
    pub async fn snapshot(self: Arc<Fs>, asked: SnapshotRequest, asker: Asker) -> Snapshot {
        let max_age = Duration::from_millis(asked.max_age_ms.into());
        let files_max_age = max_age.max(SYSTEM_MAX_AGE);
        let list_max_age = max_age.max(LIST_MAX_AGE);
        let files = self.gather.refresh(None, false, snapshot::files(), files_max_age);
        let all = asked.processes || asked.count_states;
        let list = self.gather.refresh(None, all, 0, list_max_age);
        tokio::join!(files, list);
        let cluster = self.cluster();
        let numbered = if asked.processes { numbered(&self, &cluster) } else { BTreeMap::new() };
        let caller = asker.caller(&self.procfs);
        Snapshot { fs: self, asked, asker, caller, cluster, numbered, next: Next::Nodes }
    }

    /// Of every member, lowest number first.
    fn nodes_now(&self, cluster: &Cluster, asked: &SnapshotRequest) -> Vec<ViewNode> {
        let processes = asked.processes || asked.count_states;
        let shown = |id: NodeId| cluster.nodes.iter().find(|node| node.peer.id == id);
        let of = |id: NodeId| {
            let node = shown(id);
            let view = node.map(|node| node.view.clone()).or_else(|| self.gather.view(id))?;
            let loads = view.files[krg_types::SystemFile::Loadavg.id() as usize].stamp_ns;
            let stamp_ns = if processes { view.procs_stamp_ns } else { loads };
            let uptime = |node: &Node| i128::from(boot_ns()) + i128::from(node.offset_ns());
            let known = Known {
                standing: node.map_or(Standing::Down, |_| self.gather.standing(id)),
                age_ns: self.gather.age_of(id, stamp_ns),
                uptime_ns: node.map_or(0, |node| u64::try_from(uptime(node)).unwrap_or(0)),
                start_shift_ticks: node.map_or(0, Node::start_shift_ticks),
                here: id == self.gather.own(),
            };
            let mut told = snapshot::node(&view, &known);
            if asked.count_states && node.is_some() {
                told.states = snapshot::states(&view);
            }
            Some(told)
        };
        self.gather.nodes().into_iter().filter_map(of).collect()
    }

    fn cluster_now(&self, cluster: &Cluster) -> ViewCluster {
        let facts = self.cluster_facts(cluster);
        ViewCluster {
            name: self.gather.cluster().to_string(),
            boot_time_s: facts.btime,
            uptime_ms: facts.uptime_ns / 1_000_000,
            pid_max: self.pid_max(),
        }
    }
}

/// It moves between two looks at two nodes: the later one is right.
fn numbered(fs: &Fs, cluster: &Cluster) -> BTreeMap<u32, (usize, u32)> {
    let mut seen: BTreeMap<u32, (u64, usize, u32)> = BTreeMap::new();
    for (place, node) in cluster.nodes.iter().enumerate() {
        let age_ns = fs.gather.age_ns(&node.peer, node.view.procs_stamp_ns).unwrap_or(u64::MAX);
        for number in node.view.numbers.all() {
            let Some(local) = node.view.numbers.local(number) else { continue };
            let here = (age_ns, place, local);
            let slot = seen.entry(number).or_insert(here);
            if here.0 < slot.0 {
                *slot = here;
            }
        }
    }
    seen.into_iter().map(|(number, (_, place, local))| (number, (place, local))).collect()
}

impl Snapshot {
    /// The next part of it: first the nodes, then the processes in the order of the tree.
    pub async fn part(&mut self) -> Option<SnapshotPart> {
        if let Next::Nodes = self.next {
            self.next = match self.asked.processes {
                true => Next::Numbered(0),
                false => Next::Nothing,
            };
            return Some(SnapshotPart {
                nodes: self.fs.nodes_now(&self.cluster, &self.asked),
                cluster: Some(self.fs.cluster_now(&self.cluster)),
                ..SnapshotPart::default()
            });
        }
        let (mut told, mut bytes) = (Vec::new(), 0);
        while bytes < VIEW_PART_BYTES_TARGET
            && let Some((node, local)) = self.step()
        {
            let Some(found) = self.look_at(node, local) else { continue };
            let process = &found.process;
            bytes += NUMBERS_BYTES + process.cmdline.len() + process.environment.len();
            if found.missing != 0 {
                bytes += VIEW_TEXT_BYTES_MAX / LIVE_AT_ONCE;
            }
            told.push(found);
        }
        if told.is_empty() {
            return None;
        }
        self.fill_in(&mut told).await;
        let processes = told.into_iter().map(|told| told.process).collect();
        Some(SnapshotPart { processes, ..SnapshotPart::default() })
    }

    /// The next process: the place of its node, and its number there.
    fn step(&mut self) -> Option<(usize, u32)> {
        loop {
            match self.next {
                Next::Nodes | Next::Nothing => return None,
                Next::Numbered(from) => match self.numbered.range(from..).next() {
                    Some((number, here)) => {
                        self.next = Next::Numbered(number + 1);
                        return Some(*here);
                    }
                    None => self.next = Next::Plain(0, 0),
                },
                Next::Plain(place, after) => {
                    let Some(node) = self.cluster.nodes.get(place) else {
                        self.next = Next::Nothing;
                        return None;
                    };
                    let rest = node.view.procs.range((Bound::Excluded(after), Bound::Unbounded));
                    match rest.into_iter().find(|(_, process)| process.number == 0) {
                        Some((local, _)) => {
                            self.next = Next::Plain(place, *local);
                            return Some((place, *local));
                        }
                        None => self.next = Next::Plain(place + 1, 0),
                    }
                }
            }
        }
    }

    fn look_at(&self, place: usize, local: u32) -> Option<Told> {
        let node = self.cluster.nodes.get(place)?;
        let process: &Process = node.view.procs.get(&local)?;
        if !snapshot::is_shown(&node.view, process, &self.caller) {
            return None;
        }
        let wants = Wants {
            caller: &self.caller,
            command: !self.asked.terse,
            environment: self.asked.environment,
            page_kib: u64::from(node.view.facts.page_size) / 1024,
        };
        let (process, missing) = snapshot::process(process, &node.place(), &wants)?;
        // Nobody's process has the number of the cluster's own.
        (process.pid != root::PID).then_some(Told { process, missing })
    }

    /// Asks the owners for what is too long to be held. What one does not tell stays empty.
    async fn fill_in(&self, told: &mut [Told]) {
        let mut wanted = told.iter().enumerate().flat_map(|(i, told)| {
            let files = [PidFile::Cmdline, PidFile::Environ].into_iter();
            let files = files.filter(|file| told.missing & file.bit() != 0);
            files.map(move |file| (i, file))
        });
        let mut found = Vec::new();
        let mut running = JoinSet::new();
        loop {
            while running.len() < LIVE_AT_ONCE
                && let Some((i, file)) = wanted.next()
            {
                let process = &told[i].process;
                let node = NodeId::new(process.node);
                let Some(pid) = node.and_then(|node| GlobalPid::new(node, process.local_pid))
                else {
                    continue;
                };
                let (fs, asker, start) = (self.fs.clone(), self.asker, process.start_ticks);
                running.spawn(async move {
                    let text = fs.live_text(pid, start, 0, (file, ""), &asker).await;
                    (i, file, text.unwrap_or_default())
                });
            }
            match running.join_next().await {
                Some(Ok(answer)) => found.push(answer),
                Some(Err(_)) => {}
                None => break,
            }
        }
        for (i, file, mut text) in found {
            text.truncate(VIEW_TEXT_BYTES_MAX);
            match file {
                PidFile::Cmdline => told[i].process.cmdline = text,
                _ => told[i].process.environment = text,
            }
        }
    }
}
