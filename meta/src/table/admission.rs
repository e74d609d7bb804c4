//! Becoming a member and ceasing to be one: nodes, tokens and keys change together.

use super::tokens::Token;
use super::{At, info, nodes, sessions, trust};
use crate::command::{Reply, Ticket};
use crate::state::State;
use krg_types::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, NODE_ID_MAX};
use krg_types::{MemberId, NodeId};
use serde::{Deserialize, Serialize};

/// What is asked about membership.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first member makes the cluster.
    Found {
        /// Its name.
        name: String,
        /// Kerrighed's number of it.
        session: u32,
        /// It begins when so many nodes are there.
        nodes_min: u32,
        /// The first node.
        founder: Box<Applicant>,
        /// Its number.
        node: NodeId,
        /// The authority: SHA-256, hexadecimal; certificate, PEM; its end, Unix time in s.
        authority: (String, String, u64),
        /// The gossip's first key.
        gossip_key: String,
    },
    /// What can be said of a cluster while it is running.
    Rename {
        /// Its name; absent: as it is.
        name: Option<String>,
        /// Its session; absent: as it is.
        session: Option<u32>,
        /// How many nodes it waits for; absent: as it is.
        nodes_min: Option<u32>,
    },
    /// A node wants to be a member.
    Admit {
        /// The token's public part.
        token: String,
        /// The hash of the secret that came with it.
        hash: String,
        /// The number asked for.
        node: Option<NodeId>,
        /// Who it is.
        applicant: Box<Applicant>,
    },
    /// These nodes are to be members no more: first Raft does without them.
    Leave {
        /// Which.
        nodes: Vec<NodeId>,
    },
    /// A member that has lost its store comes back as another one, under its number.
    Readmit {
        /// Who it was.
        member: MemberId,
        /// Who it is.
        applicant: Box<Applicant>,
    },
    /// These nodes are members no more.
    Remove {
        /// Which.
        nodes: Vec<NodeId>,
        /// The gossip's next key: the removed ones know the present one.
        gossip_key: String,
    },
    /// This member alone goes on, after the others were lost for good.
    Survive {
        /// Who; it gets a new serial.
        member: MemberId,
        /// The gossip's next key.
        gossip_key: String,
    },
}

/// What a node says of itself when it joins.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Applicant {
    /// Its host name.
    pub hostname: String,
    /// Where it listens.
    pub address: String,
    /// Its public key (Ed25519), hexadecimal.
    pub public_key: String,
    /// SHA-256 of its certificate, hexadecimal; empty: it has none yet.
    pub fingerprint: String,
    /// Its program's version.
    pub release: String,
    /// The newest state version it knows.
    pub state_version: u32,
}

/// Applies one command.
pub fn apply(state: &mut State, at: At, command: &Command) -> Reply {
    match command {
        Command::Found { name, session, nodes_min, founder, node, authority, gossip_key } => {
            if info::get(&state.info).newest_serial != 0 {
                return Reply::Refused("the cluster has been made already".into());
            }
            let (fingerprint, certificate, expires_s) = authority.clone();
            let number = 1;
            let row = trust::Authority { certificate, expires_s, number };
            state.authorities.put(at, &fingerprint, row);
            info::change(&mut state.info, at, |info| {
                info.name.clone_from(name);
                info.session = *session;
                info.nodes_min = *nodes_min;
                info.started = *nodes_min <= 1;
                info.state_version = founder.state_version;
            });
            trust::rotate(state, at, gossip_key);
            let member = insert(state, at, *node, founder);
            let done = trust::Command::Certify {
                member,
                fingerprint: founder.fingerprint.clone(),
                authority: fingerprint,
            };
            trust::apply(state, at, &done);
            Reply::Admitted(member)
        }
        Command::Rename { name, session, nodes_min } => {
            rename(state, at, name.as_deref(), *session, *nodes_min)
        }
        Command::Admit { token, hash, node, applicant } => {
            admit(state, at, (token, hash), *node, applicant)
        }
        Command::Leave { nodes } => leave(state, at, nodes),
        Command::Readmit { member, applicant } => readmit(state, at, *member, applicant),
        Command::Remove { nodes, gossip_key } => remove(state, at, nodes, gossip_key),
        Command::Survive { member, gossip_key } => survive(state, at, *member, gossip_key),
    }
}

fn rename(
    state: &mut State,
    at: At,
    name: Option<&str>,
    session: Option<u32>,
    nodes_min: Option<u32>,
) -> Reply {
    let members = state.members().count() as u32;
    info::change(&mut state.info, at, |info| {
        info.name = name.map_or(std::mem::take(&mut info.name), str::to_owned);
        info.session = session.unwrap_or(info.session);
        if let Some(min) = nodes_min {
            info.nodes_min = min;
            // A cluster that has begun does not begin again with a higher number.
            info.started = info.started && min <= members;
        }
    });
    // Nobody takes part in a cluster that has not begun.
    if !info::get(&state.info).started {
        let waiting: Vec<(String, nodes::Node)> = state
            .nodes
            .iter()
            .filter(|(_, row)| row.value.active)
            .map(|(key, row)| {
                (key.to_owned(), nodes::Node { active: false, ..row.value.clone() })
            })
            .collect();
        waiting.into_iter().for_each(|(key, node)| state.nodes.put(at, &key, node));
    }
    Reply::Done(at.revision)
}

fn admit(
    state: &mut State,
    at: At,
    (id, hash): (&str, &str),
    asked: Option<NodeId>,
    applicant: &Applicant,
) -> Reply {
    if let Err(words) = check(applicant) {
        return Reply::Refused(words);
    }
    let Some(token) = state.tokens.get(id).cloned().filter(|t| t.hash == hash) else {
        return Reply::Refused("the token is not one of this cluster's".into());
    };
    match (token.word(at.now_ms), token.used_by) {
        ("open", _) => {}
        // The same machine asks again: the answer did not reach it.
        ("used", Some(member)) if is_key_of(state, member, &applicant.public_key) => {
            return Reply::Admitted(member);
        }
        (word, _) => return Reply::Refused(format!("the token is {word}: ask for a new one")),
    }
    let node = match choose(state, asked, &applicant.address) {
        Ok(node) => node,
        Err(words) => return Reply::Refused(words),
    };
    let member = insert(state, at, node, applicant);
    state.tokens.put(at, id, Token { used_by: Some(member), ..token });
    state.settle_version(at);
    Reply::Admitted(member)
}

fn check(applicant: &Applicant) -> Result<(), String> {
    let long = applicant.hostname.len() > NAME_BYTES_MAX
        || applicant.address.is_empty()
        || applicant.address.len() > ADDRESS_BYTES_MAX
        || applicant.release.len() > NAME_BYTES_MAX;
    match (long, trust::is_hash(&applicant.public_key)) {
        (true, _) => Err("its name or its address is missing or too long".into()),
        (_, false) => Err("its public key has not 32 bytes".into()),
        _ => Ok(()),
    }
}

fn is_key_of(state: &State, member: MemberId, public_key: &str) -> bool {
    state.member(member).is_some_and(|node| node.public_key == public_key)
}

/// The number asked for, or the map's for that address, or the lowest free one.
fn choose(state: &State, asked: Option<NodeId>, address: &str) -> Result<NodeId, String> {
    let taken = |node: NodeId| {
        state.nodes.get(&nodes::key(node)).is_some_and(|record| record.member.is_some())
    };
    let mapped = state.mapped(address);
    match asked.or(mapped) {
        Some(node) if taken(node) => Err(format!(
            "there is a node {node} already: ask for another number, or remove that one"
        )),
        Some(node) => Ok(node),
        None => (1..=NODE_ID_MAX)
            .filter_map(NodeId::new)
            .find(|node| !taken(*node) && !state.is_mapped(*node))
            .ok_or_else(|| format!("all {NODE_ID_MAX} numbers are taken")),
    }
}

fn insert(state: &mut State, at: At, node: NodeId, applicant: &Applicant) -> MemberId {
    info::change(&mut state.info, at, |info| info.newest_serial += 1);
    let now = info::get(&state.info);
    let member = MemberId::new(node, now.newest_serial);
    let record = nodes::Node {
        member: Some(member),
        hostname: applicant.hostname.clone(),
        address: applicant.address.clone(),
        fingerprints: Vec::new(),
        public_key: applicant.public_key.clone(),
        authority: String::new(),
        keys: Vec::new(),
        active: now.started,
        leaving: false,
        superseded: None,
        release: applicant.release.clone(),
        state_version: applicant.state_version,
    };
    state.nodes.put(at, &nodes::key(node), record);
    if !now.started && state.members().count() as u32 >= now.nodes_min {
        begin(state, at);
    }
    member
}

/// Enough nodes are there: all of them take part.
fn begin(state: &mut State, at: At) {
    info::change(&mut state.info, at, |info| info.started = true);
    let waiting: Vec<(String, nodes::Node)> = state
        .nodes
        .iter()
        .filter(|(_, row)| row.value.member.is_some())
        .map(|(key, row)| (key.to_owned(), nodes::Node { active: true, ..row.value.clone() }))
        .collect();
    waiting.into_iter().for_each(|(key, node)| state.nodes.put(at, &key, node));
}

/// Are these all members, and not the last ones?
fn can_go(state: &State, nodes: &[NodeId]) -> Result<(), String> {
    let is_member = |node: &NodeId| state.node(*node).is_some_and(|r| r.member.is_some());
    if let Some(node) = nodes.iter().find(|n| !is_member(n)) {
        return Err(format!("node {node} is not a member"));
    }
    let goes = |member: MemberId| member.node().is_some_and(|n| nodes.contains(&n));
    if state.members().all(|(member, record)| record.leaving || goes(member)) {
        return Err("the last node cannot be removed".into());
    }
    Ok(())
}

fn leave(state: &mut State, at: At, nodes: &[NodeId]) -> Reply {
    if let Err(words) = can_go(state, nodes) {
        return Reply::Refused(words);
    }
    for node in nodes {
        if let Some(record) = state.node(*node).cloned() {
            let record = nodes::Node { leaving: true, ..record };
            state.nodes.put(at, &nodes::key(*node), record);
        }
    }
    Reply::Done(at.revision)
}

fn readmit(state: &mut State, at: At, member: MemberId, applicant: &Applicant) -> Reply {
    if let Err(words) = check(applicant) {
        return Reply::Refused(words);
    }
    let Some(node) = member.node() else {
        return Reply::Refused("nobody's membership".into());
    };
    match state.node(node).cloned() {
        Some(nodes::Node { member: Some(now), .. }) if now == member => {
            let now = insert(state, at, node, applicant);
            if let Some(record) = state.node(node).cloned() {
                let record = nodes::Node { superseded: Some(member), ..record };
                state.nodes.put(at, &nodes::key(node), record);
            }
            Reply::Admitted(now)
        }
        // It asks again: the answer did not reach it.
        Some(nodes::Node { member: Some(now), superseded, public_key, .. })
            if superseded == Some(member) && public_key == applicant.public_key =>
        {
            Reply::Admitted(now)
        }
        _ => Reply::Refused(format!("{member} is not a member")),
    }
}

fn remove(state: &mut State, at: At, nodes: &[NodeId], gossip_key: &str) -> Reply {
    if !trust::is_hash(gossip_key) {
        return Reply::Refused("a key has 32 bytes".into());
    }
    let leaves = |node: &NodeId| state.node(*node).is_some_and(|record| record.leaving);
    if let Some(node) = nodes.iter().find(|n| !leaves(n)) {
        return Reply::Refused(format!("node {node} has not been asked to leave"));
    }
    for node in nodes {
        expel(state, at, *node);
    }
    trust::rotate(state, at, gossip_key);
    state.settle_version(at);
    Reply::Done(at.revision)
}

/// Its number stays known; its trust does not.
fn expel(state: &mut State, at: At, node: NodeId) {
    let key = nodes::key(node);
    let Some(record) = state.nodes.get(&key).cloned() else { return };
    if let Some(origin) = record.member {
        let ticket = Ticket { origin, epoch: 0, number: 0, settled: 0 };
        sessions::forget(&mut state.sessions, &ticket);
    }
    let gone = nodes::Node {
        hostname: record.hostname,
        address: record.address,
        ..nodes::Node::default()
    };
    state.nodes.put(at, &key, gone);
}

fn survive(state: &mut State, at: At, member: MemberId, gossip_key: &str) -> Reply {
    let Some((node, record)) = member.node().zip(state.member(member).cloned()) else {
        return Reply::Refused(format!("{member} is not a member"));
    };
    let others: Vec<NodeId> =
        state.members().filter(|(m, _)| *m != member).filter_map(|(m, _)| m.node()).collect();
    others.into_iter().for_each(|other| expel(state, at, other));
    info::change(&mut state.info, at, |info| info.newest_serial += 1);
    let serial = info::get(&state.info).newest_serial;
    let member = MemberId::new(node, serial);
    let record = nodes::Node { member: Some(member), active: true, ..record };
    state.nodes.put(at, &nodes::key(node), record);
    trust::rotate(state, at, gossip_key);
    state.settle_version(at);
    Reply::Admitted(member)
}
