//! From the agreed state to what TLS, the gossip and the prober want to know. Pure.

use crate::ca;
use crate::fingerprint;
use crate::gossip::{GossipMember, GossipMembers, Probed};
use crate::identity::Founder;
use crate::member::Member;
use crate::seal::{Key, Keys};
use krg_meta::state::State;
use krg_rpc::tls::Roster;
use krg_types::{MemberId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Whom TLS lets in.
pub fn roster(state: &State) -> Roster {
    let mut members: BTreeMap<MemberId, BTreeSet<[u8; 32]>> = BTreeMap::new();
    for (member, node) in state.members() {
        let key = fingerprint::from_hex(&node.public_key).map(|key| fingerprint::of(&key));
        members.entry(member).or_default().extend(key);
        // It has not spoken as the new member yet, and must be able to ask again.
        if let Some(before) = node.superseded {
            members.entry(before).or_default().extend(key);
        }
    }
    Roster { members, newest_serial: state.info().newest_serial }
}

/// Who is a member, and where.
pub fn addresses(state: &State) -> Vec<(MemberId, String)> {
    state.members().map(|(member, node)| (member, node.address.clone())).collect()
}

/// Whom to ask after a start.
pub fn founders(state: &State) -> Vec<Founder> {
    let founder = |(member, node): (MemberId, &krg_meta::table::nodes::Node)| {
        let key = fingerprint::from_hex(&node.public_key)?;
        let address = node.address.clone();
        Some(Founder { member, address, fingerprint: fingerprint::of(&key) })
    };
    state.members().filter_map(founder).collect()
}

/// The authorities that count, newest first: DER.
pub fn authorities(state: &State) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = state.authorities.iter().map(|(_, row)| &row.value).collect();
    all.sort_by_key(|authority| std::cmp::Reverse(authority.number));
    all.into_iter().filter_map(|a| ca::certificate_from_pem(&a.certificate).ok()).collect()
}

/// Who takes part in the gossip, with what the prober has found out.
pub fn gossip(state: &State, probed: &[Member]) -> Option<GossipMembers> {
    let mut keys = state
        .info()
        .gossip
        .into_iter()
        .filter_map(|k| Some(Key::new(k.id, fingerprint::from_hex(&k.key)?)));
    let keys = Keys { current: keys.next()?, previous: keys.next() };
    let probed: BTreeMap<NodeId, &Member> = probed.iter().map(|m| (m.id, m)).collect();
    let member = |(member, node): (MemberId, &krg_meta::table::nodes::Node)| {
        let known = probed.get(&member.node()?).filter(|m| m.member == member);
        let probed = known.and_then(|m| {
            let offset = m.boot_offset()?;
            Some(Probed { incarnation: m.incarnation, offset })
        });
        let (address, public_key) =
            (node.address.parse().ok()?, fingerprint::from_hex(&node.public_key)?);
        Some((member, GossipMember { address, public_key, probed }))
    };
    Some(GossipMembers { list: state.members().filter_map(member).collect(), keys })
}
