//! One membership of a node: a node that leaves and joins again is another member.

use crate::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The serial number of a join times 256, plus the node's number. Never given out twice, so a node
/// that lost its store cannot come back with its old vote.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberId(u64);

impl MemberId {
    /// The membership that `node` got with the join numbered `serial` (1 is the founder's).
    pub fn new(node: NodeId, serial: u64) -> MemberId {
        MemberId(serial << 8 | u64::from(node.get()))
    }

    /// From its number; `None` if that is nobody's.
    pub fn from_u64(n: u64) -> Option<MemberId> {
        let id = MemberId(n);
        (id.serial() > 0 && n & 0xff != 0).then_some(id)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The node.
    pub fn node(self) -> Option<NodeId> {
        NodeId::new((self.0 & 0xff) as u32)
    }

    /// The number of its join.
    pub fn serial(self) -> u64 {
        self.0 >> 8
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 & 0xff, self.serial())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_come_back() {
        let node = NodeId::new(255).unwrap();
        let id = MemberId::new(node, 70_000);
        assert_eq!(
            (id.node(), id.serial(), id.to_string()),
            (Some(node), 70_000, "255.70000".into())
        );
        assert_eq!(MemberId::from_u64(id.get()), Some(id));
        for bad in [0, 1, 255, 256] {
            assert_eq!(MemberId::from_u64(bad), None, "{bad}");
        }
    }
}
