//! How the numbers of the nodes map to the cluster's: counted once for all readers, and steady, so
//! that what a reader was told before reads the same now.

use crate::gather::Gather;
use crate::news::News;
use crate::numbers::Numbers;
use crate::render::Place;
use crate::store::NodeView;
use arc_swap::ArcSwapOption;
use krg_rpc::peers::Peer;
use krg_types::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was counted is used so long where nothing is known to have changed: which nodes are up may
/// have.
const COUNTED_MAX: Duration = Duration::from_millis(50);
/// The time between two nodes' boots is measured again and again; as long as it differs by no more
/// ticks, what was measured first stands.
const JITTER_TICKS: u64 = 2;

/// The nodes shown now, with how their numbers map to the cluster's.
pub(crate) struct Cluster {
    pub(super) nodes: Vec<Node>,
    /// The largest boot clock offset: the node that booted first.
    pub(super) first_boot_ns: i64,
}

/// One of them.
pub(super) struct Node {
    pub peer: Peer,
    pub view: Arc<NodeView>,
    pub cpu_base: u32,
    how: How,
}

/// How texts of a node's processes are rendered.
#[derive(Clone, Debug)]
struct How {
    incarnation: u64,
    cpu_base: u32,
    start_shift_ticks: u64,
    numbers: Arc<Numbers>,
    /// Counts the changes.
    version: u8,
}

impl How {
    fn is(&self, other: &How) -> bool {
        let key = |how: &How| (how.incarnation, how.cpu_base);
        let jitter = self.start_shift_ticks.abs_diff(other.start_shift_ticks);
        let same = Arc::ptr_eq(&self.numbers, &other.numbers) || self.numbers == other.numbers;
        key(self) == key(other) && jitter <= JITTER_TICKS && same
    }
}

impl Node {
    /// How its texts are rendered.
    pub(super) fn place(&self) -> Place<'_> {
        let (cpu_base, start_shift_ticks) = (self.how.cpu_base, self.how.start_shift_ticks);
        Place { node: self.peer.id, cpu_base, start_shift_ticks, numbers: &self.how.numbers }
    }

    /// Ticks from the cluster's boot to its own.
    pub(super) fn start_shift_ticks(&self) -> u64 {
        self.how.start_shift_ticks
    }

    /// Its boot clock less ours, ns.
    pub(super) fn offset_ns(&self) -> i64 {
        offset_ns(&self.peer)
    }
}

impl Cluster {
    pub(super) fn cpus(&self) -> u32 {
        self.nodes.last().map_or(0, |node| node.cpu_base + node.view.facts.cpus)
    }

    /// How a node's texts are rendered, its values, and a number that changes with the first.
    pub(super) fn place(&self, node: NodeId) -> Option<(Place<'_>, &Arc<NodeView>, u8)> {
        let at = self.nodes.binary_search_by_key(&node, |n| n.peer.id).ok()?;
        let node = self.nodes.get(at)?;
        Some((node.place(), &node.view, node.how.version))
    }
}

fn offset_ns(peer: &Peer) -> i64 {
    peer.boot_offset_ns.map_or(0, |o| o.middle_ns)
}

/// The last count.
#[derive(Default)]
pub(super) struct Placed {
    last: ArcSwapOption<Counted>,
    hows: Mutex<BTreeMap<NodeId, How>>,
}

struct Counted {
    at: Instant,
    edition: u64,
    cluster: Arc<Cluster>,
}

impl Placed {
    pub(super) fn cluster(&self, gather: &Gather) -> Arc<Cluster> {
        let edition = gather.edition();
        if let Some(last) = &*self.last.load()
            && last.edition == edition
            && last.at.elapsed() < COUNTED_MAX
        {
            return last.cluster.clone();
        }
        let at = Instant::now();
        let cluster = Arc::new(self.count(gather));
        let counted = Counted { at, edition, cluster: cluster.clone() };
        self.last.store(Some(Arc::new(counted)));
        cluster
    }

    fn count(&self, gather: &Gather) -> Cluster {
        let shown = gather.shown();
        let first_boot_ns = shown.iter().map(|(p, _)| offset_ns(p)).max().unwrap_or(0);
        let mut hows = self.hows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut base = 0;
        let nodes = shown.into_iter().map(|(peer, view)| {
            let cpu_base = base;
            base += view.facts.cpus;
            let behind = first_boot_ns.saturating_sub(offset_ns(&peer));
            let ticks = u128::from(view.facts.ticks_per_s) * u128::from(behind.unsigned_abs());
            let mut how = How {
                incarnation: view.facts.incarnation,
                cpu_base,
                start_shift_ticks: u64::try_from(ticks / 1_000_000_000).unwrap_or(0),
                numbers: view.numbers.clone(),
                version: 0,
            };
            match hows.get(&peer.id) {
                Some(before) if before.is(&how) => how = before.clone(),
                Some(before) => {
                    how.version = before.version.wrapping_add(1);
                    if let Some(teller) = gather.teller() {
                        teller.tell(News::Place(peer.id));
                    }
                }
                None => {}
            }
            hows.insert(peer.id, how.clone());
            Node { peer, view, cpu_base, how }
        });
        Cluster { nodes: nodes.collect(), first_boot_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_stands_while_only_a_clock_jitters() {
        let numbers = Arc::default();
        let how =
            How { incarnation: 1, cpu_base: 4, start_shift_ticks: 100, numbers, version: 3 };
        let jitter = How { start_shift_ticks: 100 + JITTER_TICKS, version: 0, ..how.clone() };
        assert!(jitter.is(&how));
        for other in [
            How { start_shift_ticks: 101 + JITTER_TICKS, ..how.clone() },
            How { incarnation: 2, ..how.clone() },
            How { cpu_base: 2, ..how.clone() },
        ] {
            assert!(!other.is(&how), "{other:?}");
        }
    }
}
