//! The nodes: who is a member, who was, and the numbers that a map gives to addresses.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use crate::state::State;
use krg_types::limits::{ADDRESS_BYTES_MAX, MAP_ENTRIES_MAX, NAME_BYTES_MAX, NODE_ID_MAX};
use krg_types::{MemberId, NodeId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked about nodes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// These members take part from now on.
    Activate {
        /// Which.
        nodes: Vec<NodeId>,
    },
    /// What a member says of itself when it starts.
    Describe {
        /// Who.
        member: MemberId,
        /// Its host name.
        hostname: String,
        /// Where it listens.
        address: String,
        /// Its program's version.
        release: String,
        /// The newest state version it knows.
        state_version: u32,
    },
    /// Replaces the map of numbers and addresses (MOSIX's setpe).
    Map {
        /// Its lines.
        lines: Vec<MapLine>,
    },
}

/// One node that is a member, or was.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its membership; absent: it is none now.
    pub member: Option<MemberId>,
    /// Its host name.
    pub hostname: String,
    /// Where it listens.
    pub address: String,
    /// SHA-256 of its certificates as hexadecimal text: the one in use first.
    pub fingerprints: Vec<String>,
    /// Its public key (Ed25519), as hexadecimal text.
    pub public_key: String,
    /// The fingerprint of the authority that signed its certificate.
    pub authority: String,
    /// Fingerprints of the authorities whose keys it has.
    pub keys: Vec<String>,
    /// It takes part in the cluster, and does not only wait to.
    pub active: bool,
    /// It is about to be a member no more: it votes no longer, and is taken off Raft's list.
    pub leaving: bool,
    /// The membership that this one has taken the place of, until it has spoken itself.
    pub superseded: Option<MemberId>,
    /// Its program's version.
    pub release: String,
    /// The newest state version it knows.
    pub state_version: u32,
}

impl Stored for Node {
    const VERSION: u8 = 1;
}

/// `count` nodes from `first` on, at consecutive addresses from `host` on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapLine {
    /// The first node's number.
    pub first: NodeId,
    /// Its address or name.
    pub host: String,
    /// How many.
    pub count: u32,
}

impl Stored for MapLine {
    const VERSION: u8 = 1;
}

impl MapLine {
    /// The numbers it gives out.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        self.first.get()..self.first.get().saturating_add(self.count)
    }

    /// The address of its `n`th node, from 0; `HOST+N` if it cannot be computed.
    pub fn address(&self, n: u32) -> String {
        match self.host.parse::<IpAddr>() {
            _ if n == 0 => self.host.clone(),
            Ok(IpAddr::V4(from)) => Ipv4Addr::from(u32::from(from).wrapping_add(n)).to_string(),
            Ok(IpAddr::V6(from)) => {
                Ipv6Addr::from(u128::from(from).wrapping_add(n.into())).to_string()
            }
            Err(_) => format!("{}+{n}", self.host),
        }
    }

    /// The number of this host, if it is one of the line's: `host` itself is the first, the
    /// addresses after it follow.
    pub fn number_of(&self, host: &str) -> Option<NodeId> {
        let offset = match (self.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            (Ok(IpAddr::V4(from)), Ok(IpAddr::V4(to))) => {
                u128::from(u32::from(to).checked_sub(u32::from(from))?)
            }
            (Ok(IpAddr::V6(from)), Ok(IpAddr::V6(to))) => {
                u128::from(to).checked_sub(u128::from(from))?
            }
            _ if self.host == host => 0,
            _ => return None,
        };
        let offset = u32::try_from(offset).ok().filter(|offset| *offset < self.count)?;
        NodeId::new(self.first.get() + offset)
    }
}

/// The key of a node's row.
pub fn key(node: NodeId) -> String {
    format!("{:03}", node.get())
}

/// Applies one command.
pub fn apply(state: &mut State, at: At, command: &Command) -> Reply {
    match command {
        Command::Activate { nodes } => activate(state, at, nodes),
        Command::Describe { member, hostname, address, release, state_version } => {
            let bad = hostname.len() > NAME_BYTES_MAX
                || address.len() > ADDRESS_BYTES_MAX
                || release.len() > NAME_BYTES_MAX;
            if bad {
                return Reply::Refused("a host name or an address is too long".into());
            }
            let done = edit(&mut state.nodes, at, *member, |node| {
                node.superseded = None;
                node.hostname.clone_from(hostname);
                node.address.clone_from(address);
                node.release.clone_from(release);
                node.state_version = *state_version;
            });
            state.settle_version(at);
            done
        }
        Command::Map { lines } => set_map(&mut state.map, at, lines),
    }
}

/// Changes the record of a member.
pub(super) fn edit(
    rows: &mut Rows<Node>,
    at: At,
    member: MemberId,
    change: impl FnOnce(&mut Node),
) -> Reply {
    let record = member.node().and_then(|node| Some((key(node), rows.get(&key(node))?.clone())));
    match record {
        Some((key, mut node)) if node.member == Some(member) => {
            change(&mut node);
            rows.put(at, &key, node);
            Reply::Done(at.revision)
        }
        _ => Reply::Refused(format!("{member} is not a member")),
    }
}

fn activate(state: &mut State, at: At, nodes: &[NodeId]) -> Reply {
    let unknown = |n: &&NodeId| state.nodes.get(&key(**n)).is_none_or(|r| r.member.is_none());
    if let Some(node) = nodes.iter().find(unknown) {
        return Reply::Refused(format!("node {node} is not present"));
    }
    for node in nodes {
        if let Some(record) = state.nodes.get(&key(*node)).filter(|r| !r.active) {
            let record = Node { active: true, ..record.clone() };
            state.nodes.put(at, &key(*node), record);
        }
    }
    Reply::Done(at.revision)
}

fn set_map(rows: &mut Rows<MapLine>, at: At, lines: &[MapLine]) -> Reply {
    if lines.len() > MAP_ENTRIES_MAX {
        return Reply::Refused(format!("a map has at most {MAP_ENTRIES_MAX} lines"));
    }
    let mut taken = std::collections::BTreeSet::new();
    for line in lines {
        let last = u64::from(line.first.get()) + u64::from(line.count) - 1;
        if line.count == 0 || last > u64::from(NODE_ID_MAX) {
            let words = format!("{} nodes from number {} on", line.count, line.first);
            return Reply::Refused(format!("{words}: numbers go from 1 to {NODE_ID_MAX}"));
        }
        if line.host.is_empty() || line.host.len() > ADDRESS_BYTES_MAX {
            return Reply::Refused("a host of the map has no name, or a very long one".into());
        }
        if let Some(twice) = (line.first.get()..=last as u32).find(|n| !taken.insert(*n)) {
            return Reply::Refused(format!("node number {twice} is in the map twice"));
        }
    }
    let old: Vec<String> = rows.iter().map(|(key, _)| key.to_owned()).collect();
    for key in old {
        rows.delete(&key);
    }
    for line in lines {
        rows.put(at, &key(line.first), line.clone());
    }
    Reply::Done(at.revision)
}
