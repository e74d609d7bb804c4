//! Kerrighed's LIST of nodes: `2,3,6-10,42-45`.

use crate::node::{BadNodeId, NodeId};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of nodes, written `item(,item)*` where an item is `ID` or `A-B`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct NodeSet(BTreeSet<NodeId>);

impl NodeSet {
    /// Is this node in the set?
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.contains(&node)
    }

    /// The nodes, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeSet {
        NodeSet(nodes.into_iter().collect())
    }
}

impl FromStr for NodeSet {
    type Err = BadNodeId;
    fn from_str(list: &str) -> Result<NodeSet, BadNodeId> {
        let mut set = BTreeSet::new();
        for item in list.split(',') {
            let (a, b) = item.split_once('-').unwrap_or((item, item));
            let (a, b) = (a.parse::<NodeId>()?, b.parse::<NodeId>()?);
            if a > b {
                return Err(BadNodeId(item.to_owned()));
            }
            set.extend((a.get()..=b.get()).filter_map(NodeId::new));
        }
        Ok(NodeSet(set))
    }
}

impl fmt::Display for NodeSet {
    /// The shortest list: runs of neighbours become `A-B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().map(|n| n.get()).peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kerrigheds_example() {
        let set: NodeSet = "2,3,6-10,42-45".parse().unwrap();
        assert_eq!(set.iter().count(), 11);
        assert_eq!(set.to_string(), "2,3,6-10,42-45");
        for bad in ["", ",", "1,", "3-1", "1-", "-1", "0", "1-256", "a", "1 2"] {
            assert!(bad.parse::<NodeSet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(ids in proptest::collection::btree_set(1u32..=255, 1..60)) {
            let set: NodeSet = ids.into_iter().filter_map(NodeId::new).collect();
            prop_assert_eq!(set.to_string().parse::<NodeSet>(), Ok(set));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9,a-z-]{0,40}") {
            let _ = text.parse::<NodeSet>();
        }
    }
}
