//! A member's name and address inside chitchat. Neither is used to reach it: where a member
//! listens is the member list's business and may change while chitchat runs.

use chitchat::ChitchatId;
use krg_types::{MemberId, NodeId};
use std::net::{Ipv4Addr, SocketAddr};

/// One life of a member.
pub(super) fn chitchat_id(id: MemberId, incarnation: u64) -> ChitchatId {
    ChitchatId::new(id.to_string(), incarnation, address(id))
}

/// Stands for its node: 0.0.0.N.
pub(super) fn address(id: MemberId) -> SocketAddr {
    let node = id.node().map_or(0, NodeId::get);
    SocketAddr::from((Ipv4Addr::from(node), 0))
}

/// The member with this name.
pub(super) fn parse(name: &str) -> Option<MemberId> {
    let (node, serial) = name.split_once('.')?;
    let node = NodeId::new(node.parse().ok()?)?;
    let serial: u64 = serial.parse().ok()?;
    let id = MemberId::from_u64((serial < 1 << 56).then(|| MemberId::new(node, serial).get())?)?;
    // Of two texts for one member, one is a lie.
    (id.to_string() == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_have_one_form() {
        for (node, serial) in [(1, 1), (255, (1 << 56) - 1)] {
            let id = MemberId::new(NodeId::new(node).unwrap(), serial);
            assert_eq!(parse(&id.to_string()), Some(id));
        }
        for bad in ["", "1", "1.", ".1", "0.1", "256.1", "1.0", "01.1", "1.+1", "1.1.1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("1.{}", 1u64 << 56)), None);
    }
}
