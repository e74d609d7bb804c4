//! Who is there.

use super::Answers;
use crate::life::Station;
use crate::papers::RELEASE;
use krg_cluster::gossip::Heard;
use krg_cluster::{Member, roster};
use krg_meta::table::nodes;
use krg_rpc::peers::Peers;
use krg_rpc::proto::control as wire;
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::{MemberId, NodeId, NodeState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Nobody waits longer for nodes, ms.
const WAIT_MAX_MS: u32 = 600_000;
/// Member lists that a slow reader may be behind.
const LISTS_MAX: usize = 4;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The whole answer.
pub fn reply(station: &Station) -> wire::StatusReply {
    let identity = station.home.identity();
    let info = station.meta.view().state.info();
    wire::StatusReply {
        version: PROTOCOL_VERSION,
        node: identity.node.get(),
        cluster: identity.cluster,
        session: if info.session == 0 { identity.session } else { info.session },
        nodes: nodes(station),
        mounts: station.mounts.status(),
        release: RELEASE.into(),
        pid: std::process::id(),
    }
}

/// Every node that is a member, was one, or that the map speaks of.
pub fn nodes(station: &Station) -> Vec<wire::Node> {
    let view = station.meta.view();
    let heard = station.gossip.get().map(|gossip| gossip.view()).unwrap_or_default();
    let roles = roles(station);
    let mut all = BTreeMap::new();
    for line in view.state.map.iter().map(|(_, row)| &row.value) {
        for (n, id) in line.numbers().filter_map(NodeId::new).enumerate() {
            all.insert(id, possible(id, line.address(n as u32), "in the map"));
        }
    }
    for (key, row) in view.state.nodes.iter() {
        let Some(id) = key.parse().ok().and_then(NodeId::new) else { continue };
        all.insert(
            id,
            possible(id, row.value.address.clone(), "removed: a token brings it back"),
        );
    }
    for member in station.members.list() {
        let record = view.state.member(member.member);
        let role = roles.get(&member.member).copied().unwrap_or_default();
        let heard = heard.get(&member.member).copied().unwrap_or_default();
        all.insert(member.id, present(&member, record, role, heard));
    }
    all.into_values().collect()
}

fn possible(id: NodeId, address: String, why: &str) -> wire::Node {
    wire::Node {
        id: id.get(),
        address,
        state: NodeState::Possible.to_string(),
        why: why.to_owned(),
        ssi_state: if why.starts_with("removed") { "DOWN" } else { "NEVERUP" }.to_owned(),
        ..wire::Node::default()
    }
}

fn present(
    member: &Member,
    record: Option<&nodes::Node>,
    role: &str,
    heard: Heard,
) -> wire::Node {
    let active = record.is_none_or(|r| r.active);
    let leaving = record.is_some_and(|r| r.leaving);
    let state = match (member.up, member.answered) {
        (true, _) if active && !leaving => NodeState::Online,
        // It is trusted, but does not take part: not yet, not now, or no longer.
        _ => NodeState::Present,
    };
    let why = match (member.up, active, leaving) {
        (_, _, true) => "leaving".to_owned(),
        (true, false, _) => "waits to be added".to_owned(),
        _ => member.why.clone(),
    };
    let ssi_state = match (member.up, active, leaving, member.answered) {
        (_, _, true, _) => "GOINGDOWN",
        (true, true, ..) => "UP",
        (true, false, ..) => "COMINGUP",
        (false, _, _, Some(_)) => "DOWN",
        (false, _, _, None) => "NEVERUP",
    };
    let known = |theirs: &str, agreed: Option<&String>| match theirs {
        "" => agreed.cloned().unwrap_or_default(),
        theirs => theirs.to_owned(),
    };
    wire::Node {
        id: member.id.get(),
        address: member.address.clone(),
        hostname: known(&member.hostname, record.map(|r| &r.hostname)),
        state: state.to_string(),
        seen_ms: member.answered.map(|at| ms(at.elapsed())),
        rtt_us: u32::try_from(member.rtt.as_micros()).unwrap_or(u32::MAX),
        why,
        role: role.to_owned(),
        release: known(&member.release, record.map(|r| &r.release)),
        load: heard.load.map(|load| wire::Load {
            age_ms: heard.age.map_or(u64::MAX, ms),
            load_percent: load.average_100,
            cpus: load.cpus,
            mem_total_kib: load.memory_kib,
            mem_available_kib: load.available_kib,
            processes: load.processes,
        }),
        skew_ms: member.skew_ms,
        ssi_state: ssi_state.to_owned(),
    }
}

/// Who votes and who listens.
pub fn roles(station: &Station) -> BTreeMap<MemberId, &'static str> {
    let metrics = station.meta.metrics();
    let metrics = metrics.borrow();
    let list = metrics.membership_config.membership();
    let learners = list.nodes().map(|(member, _)| (*member, "learner"));
    let voters = list.voter_ids().map(|member| (member, "voter"));
    learners.chain(voters).collect()
}

/// Returns when so many are online, or at the deadline.
pub async fn wait_online(station: &Station, ask: &wire::WaitOnlineRequest) {
    let mut changes = station.members.changes();
    let mut agreed = station.meta.members();
    let online = || {
        let all = nodes(station);
        all.iter().filter(|n| n.state == NodeState::Online.word()).count() as u64
    };
    let enough = async {
        while online() < u64::from(ask.online) {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = agreed.changed() => if changed.is_err() { return },
                // Nothing changes any more in a life that has ended.
                () = station.turns.closed() => return,
            }
        }
    };
    let _ = timeout(Duration::from_millis(ask.timeout_ms.min(WAIT_MAX_MS).into()), enough).await;
}

/// The member list now and after each change, until the reader is gone or this life ends.
pub fn members(station: Arc<Station>) -> Answers<wire::MemberList> {
    let (send, lists) = mpsc::channel(LISTS_MAX);
    tokio::spawn(async move {
        let mut agreed = station.meta.members();
        let mut papers = station.home.changes();
        let mut answering = station.members.changes();
        let mut last = None;
        loop {
            agreed.mark_unchanged();
            answering.mark_unchanged();
            let count = *papers.borrow_and_update();
            let list = member_list(&station, count);
            if last.as_ref() != Some(&list) {
                if send.send(Ok(list.clone())).await.is_err() {
                    return;
                }
                last = Some(list);
            }
            tokio::select! {
                changed = agreed.changed() => if changed.is_err() { return },
                changed = papers.changed() => if changed.is_err() { return },
                changed = answering.changed() => if changed.is_err() { return },
                () = send.closed() => return,
                () = station.turns.closed() => return,
            }
        }
    });
    Box::pin(ReceiverStream::new(lists))
}

fn member_list(station: &Station, credentials: u64) -> wire::MemberList {
    let (view, identity) = (station.meta.view(), station.home.identity());
    // Until this node has its copy, what it was told when it joined.
    let known = view.state.member(identity.member).is_some();
    let trusted = if known { roster::roster(&view.state) } else { identity.roster() };
    let addresses = match known {
        true => roster::addresses(&view.state),
        false => identity.founders.iter().map(|f| (f.member, f.address.clone())).collect(),
    };
    let authorities = match known {
        true => roster::authorities(&view.state),
        false => identity.authorities.clone(),
    };
    let member = |(member, keys): (&MemberId, &std::collections::BTreeSet<[u8; 32]>)| {
        let address = addresses.iter().find(|(id, _)| id == member);
        let seen = member.node().and_then(|n| station.members.member(n));
        let seen = seen.filter(|m| m.member == *member);
        let up = seen.as_ref().is_some_and(|m| m.up);
        let answered = seen.and_then(|m| m.answered).filter(|_| !up);
        wire::Member {
            id: member.get(),
            // Who is let in still, but is nobody to ask, has no address.
            address: address.map(|(_, at)| at.clone()).unwrap_or_default(),
            fingerprints: keys.iter().map(|key| key.to_vec()).collect(),
            hostname: String::new(),
            up,
            silent_ms: answered.map(|at| ms(at.elapsed())),
        }
    };
    wire::MemberList {
        own: identity.member.get(),
        cluster: identity.cluster,
        members: trusted.members.iter().map(member).collect(),
        newest_serial: trusted.newest_serial,
        authorities,
        credentials,
    }
}
