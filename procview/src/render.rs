//! Texts of one process, as the cluster shows them. Pure functions: hostile bytes in; what does
//! not parse is refused with `None`, and the caller serves an error.

pub mod mask;
pub mod root;
pub mod stat;
pub mod status;

use crate::merge::text::number;
use crate::numbers::Numbers;
use krg_types::{GlobalPid, NodeId};

/// Where a process runs, and how its node's numbers map to the cluster's.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node.
    pub node: NodeId,
    /// The cluster's number of that node's cpu 0.
    pub cpu_base: u32,
    /// Clock ticks from the cluster's boot to that node's boot.
    pub start_shift_ticks: u64,
    /// Those of its processes that have one for life.
    pub numbers: &'a Numbers,
}

impl Place<'_> {
    /// The cluster pid for a number of that node; 0 means "none" and stays. `None`: not a pid.
    pub(crate) fn pid(&self, word: &[u8]) -> Option<u32> {
        match number(word)? {
            0 => Some(0),
            n => {
                let n = u32::try_from(n).ok()?;
                let plain = GlobalPid::new(self.node, n)?.raw();
                Some(self.numbers.shown(n).unwrap_or(plain))
            }
        }
    }

    /// The same for a parent. The kernel's 0, "no parent", becomes the cluster's synthetic root,
    /// save for a kernel thread: one tree, as tools expect, but no kernel thread in it.
    pub(crate) fn parent(&self, word: &[u8], kthread: bool) -> Option<u32> {
        let pid = self.pid(word)?;
        Some(if pid == 0 && !kthread { root::PID } else { pid })
    }
}
