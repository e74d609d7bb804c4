//! The cluster-wide name of a process: `node << 22 | pid`.

use crate::limits::LOCAL_PID_BITS;
use crate::node::NodeId;
use std::fmt;

/// A process's number in the whole cluster. Linux's own pids stay below 2^22, nodes are numbered
/// from 1, so a cluster pid is never a kernel pid of any node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GlobalPid(u32);

/// The bits that hold the node's own pid.
const LOCAL_MASK: u32 = (1 << LOCAL_PID_BITS) - 1;

impl GlobalPid {
    /// The cluster pid of process `local` on `node`; `None` if `local` cannot be a pid.
    pub fn new(node: NodeId, local: u32) -> Option<GlobalPid> {
        (1..=LOCAL_MASK)
            .contains(&local)
            .then_some(GlobalPid(node.get() << LOCAL_PID_BITS | local))
    }

    /// Reads back a number, if it is a cluster pid.
    pub fn from_raw(raw: u32) -> Option<GlobalPid> {
        let node = NodeId::new(raw >> LOCAL_PID_BITS)?;
        GlobalPid::new(node, raw & LOCAL_MASK)
    }

    /// Reads a directory name or an argument: decimal digits only.
    pub fn parse(text: &str) -> Option<GlobalPid> {
        let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse().ok().and_then(GlobalPid::from_raw)).flatten()
    }

    /// The number itself.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The node the process runs on.
    pub fn node(self) -> NodeId {
        NodeId::new(self.0 >> LOCAL_PID_BITS).expect("a cluster pid has a node")
    }

    /// The pid that the node's own kernel knows it by.
    pub fn local(self) -> u32 {
        self.0 & LOCAL_MASK
    }
}

impl fmt::Display for GlobalPid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn goes_there_and_back(node in 1u32..=255, local in 1u32..(1 << 22)) {
            let node = NodeId::new(node).unwrap();
            let pid = GlobalPid::new(node, local).unwrap();
            prop_assert_eq!((pid.node(), pid.local()), (node, local));
            prop_assert_eq!(GlobalPid::parse(&pid.to_string()), Some(pid));
            prop_assert!(pid.raw() >= 1 << 22 && pid.raw() < 1 << 30);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,20}") {
            if let Some(pid) = GlobalPid::parse(&text) {
                prop_assert_eq!(pid.to_string(), text);
            }
        }
    }

    #[test]
    fn kernel_pids_are_not_cluster_pids() {
        for raw in [0, 1, 4_194_303, 1 << 22, 1 << 30, u32::MAX] {
            assert_eq!(GlobalPid::from_raw(raw), None, "{raw}");
        }
    }
}
