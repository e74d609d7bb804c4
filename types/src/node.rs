//! A node's number and what is known of its state.

use crate::limits::NODE_ID_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The number of a node, 1..=255. Node numbers start at 1, as in MOSIX and OpenSSI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct NodeId(u8);

/// A number that cannot be a node's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a node number (1 to {NODE_ID_MAX})")]
pub struct BadNodeId(pub String);

impl NodeId {
    /// The node with this number, if it is one.
    pub fn new(n: u32) -> Option<NodeId> {
        u8::try_from(n).ok().filter(|n| *n > 0).map(NodeId)
    }

    /// The number itself, 1..=255.
    pub fn get(self) -> u32 {
        self.0.into()
    }
}

impl TryFrom<u32> for NodeId {
    type Error = BadNodeId;
    fn try_from(n: u32) -> Result<Self, BadNodeId> {
        NodeId::new(n).ok_or_else(|| BadNodeId(n.to_string()))
    }
}

impl From<NodeId> for u32 {
    fn from(n: NodeId) -> u32 {
        n.get()
    }
}

impl FromStr for NodeId {
    type Err = BadNodeId;
    /// Takes `3` and `node3`.
    fn from_str(s: &str) -> Result<Self, BadNodeId> {
        let digits = s.strip_prefix("node").unwrap_or(s);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| digits.parse::<u32>().ok().and_then(NodeId::new))
            .flatten()
            .ok_or_else(|| BadNodeId(s.to_owned()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Kerrighed's states of a node (`krgadm nodes status`), in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It is configured, and was never seen.
    Possible,
    /// It was seen, and does not answer now.
    Present,
    /// It answers.
    Online,
}

impl NodeState {
    /// The word users see.
    pub fn word(self) -> &'static str {
        match self {
            NodeState::Possible => "possible",
            NodeState::Present => "present",
            NodeState::Online => "online",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_1_to_255() {
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(256), None);
        assert_eq!(NodeId::new(255).map(NodeId::get), Some(255));
        assert_eq!("node3".parse::<NodeId>().map(NodeId::get), Ok(3));
        for bad in ["", "0", "-1", "+1", "256", "node", "three", "99999999999"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
