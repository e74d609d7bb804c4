//! Who gets which address, host name and clock.

use krg_types::limits::LAB_NODES_MAX;
use std::net::Ipv4Addr;

/// The port krgd listens on.
pub const PORT: u16 = 7600;

/// How a lab's nodes are wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How many links: 1, or 2 with odd nodes on the first and even ones on the second.
    pub links: u32,
}

impl Plan {
    /// The link that a node is on, 1 or 2.
    pub fn link_of(self, node: u32) -> u32 {
        if self.links == 2 && node.is_multiple_of(2) { 2 } else { 1 }
    }

    /// A node's address.
    pub fn address(self, node: u32) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, self.link_of(node) as u8, node as u8)
    }

    /// Where krgd listens.
    pub fn listen(self, node: u32) -> String {
        format!("{}:{PORT}", self.address(node))
    }

    /// The address of a link's bridge, which routes to the other link.
    pub fn gateway(link: u32) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, link as u8, 254)
    }

    /// The nodes that a node may ever reach without a router, itself left out: also those that
    /// are added later.
    pub fn neighbours(self, node: u32) -> impl Iterator<Item = u32> {
        let same_link = move |k: &u32| self.link_of(*k) == self.link_of(node);
        (1..=LAB_NODES_MAX).filter(move |k| *k != node).filter(same_link)
    }
}

/// A node's host name.
pub fn hostname(node: u32) -> String {
    format!("node{node}")
}

/// A node's hardware address: the same in each of its lives, so that nobody has to ask anew.
pub fn hardware_address(node: u32) -> String {
    format!("02:6b:72:67:00:{node:02x}")
}

/// Seconds that a node's monotonic and boot clocks are ahead of the host's: every clock differs
/// from all others, as on machines that were switched on at different times.
pub fn clock_offsets(node: u32) -> (i64, i64) {
    let monotonic = i64::from(node) * 1000;
    (monotonic, monotonic + i64::from(node) * 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_are_unique_and_none_is_a_gateway() {
        for links in [1, 2] {
            let plan = Plan { links };
            let all: BTreeSet<_> = (1..=LAB_NODES_MAX).map(|k| plan.address(k)).collect();
            assert_eq!(all.len(), LAB_NODES_MAX as usize);
            assert!((1..=2).all(|l| !all.contains(&Plan::gateway(l))));
        }
    }

    #[test]
    fn two_links_part_odd_from_even() {
        let plan = Plan { links: 2 };
        assert_eq!(plan.listen(1), "10.91.1.1:7600");
        assert_eq!(plan.listen(2), "10.91.2.2:7600");
        assert_eq!(plan.listen(3), "10.91.1.3:7600");
        assert_eq!(Plan { links: 1 }.listen(2), "10.91.1.2:7600");
    }

    #[test]
    fn neighbours_share_the_link() {
        let first = |links, node| Plan { links }.neighbours(node).take(3).collect::<Vec<_>>();
        assert_eq!(first(2, 1), [3, 5, 7]);
        assert_eq!(first(2, 4), [2, 6, 8]);
        assert_eq!(first(1, 2), [1, 3, 4]);
        let all = Plan { links: 1 }.neighbours(2).count();
        assert_eq!(all, LAB_NODES_MAX as usize - 1);
    }

    #[test]
    fn no_two_clocks_agree() {
        let all: BTreeSet<_> =
            (1..=LAB_NODES_MAX).map(clock_offsets).flat_map(|(m, b)| [m, b]).collect();
        assert_eq!(all.len(), 2 * LAB_NODES_MAX as usize);
    }
}
