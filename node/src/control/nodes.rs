//! Adding nodes to the cluster's work, taking them out, and the map of their numbers.

use super::{Answer, Answers, CHANGE_MAX, agree, done, failed, status};
use crate::life::Station;
use krg_meta::command::Command;
use krg_meta::table::admission;
use krg_meta::table::nodes::{self, MapLine};
use krg_rpc::peers::Peers;
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Response, Status};
use krg_types::limits::{MAP_ENTRIES_MAX, NODE_ID_MAX};
use krg_types::{NodeId, NodeState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

/// Without a time of its own an `add` waits so long.
const ADD_MAX: Duration = Duration::from_secs(86_400);
/// A removal moves votes about first.
const REMOVE_MAX: Duration = Duration::from_secs(30);
/// Reports that a slow reader may be behind.
const REPORTS_MAX: usize = 16;

fn ids(numbers: &[u32]) -> Result<BTreeSet<NodeId>, Status> {
    let id = |n: &u32| {
        let words =
            || Status::invalid_argument(format!("{n} is not a node (1 to {NODE_ID_MAX})"));
        NodeId::new(*n).ok_or_else(words)
    };
    numbers.iter().map(id).collect()
}

/// Nodes of this state.
fn in_state(station: &Station, state: NodeState) -> BTreeSet<NodeId> {
    let all = status::nodes(station).into_iter();
    all.filter(|n| n.state == state.word()).filter_map(|n| NodeId::new(n.id)).collect()
}

/// Which nodes are to be added, once enough are there.
struct Wanted {
    by_number: BTreeSet<NodeId>,
    /// So many more; or so many in all.
    count: Option<usize>,
    total: Option<usize>,
}

impl Wanted {
    fn read(ask: &wire::NodesAddRequest) -> Result<Wanted, Status> {
        let words = (!ask.nodes.is_empty(), ask.count > 0, ask.total > 0, ask.all);
        match words {
            (true, false, false, false) | (false, true, false, false) => {}
            (false, false, true, false) | (false, false, false, true) => {}
            _ => return Err(Status::invalid_argument("exactly one of nodes, count, total, all")),
        }
        Ok(Wanted {
            by_number: ids(&ask.nodes)?,
            count: (ask.count > 0).then_some(ask.count as usize),
            total: (ask.total > 0).then_some(ask.total as usize),
        })
    }

    /// What to add now, or what is still waited for.
    fn look(
        &self,
        waiting: &BTreeSet<NodeId>,
        online: &BTreeSet<NodeId>,
    ) -> Result<Vec<NodeId>, wire::NodesAddProgress> {
        let numbers = |set: &BTreeSet<NodeId>| set.iter().map(|n| n.get()).collect();
        if !self.by_number.is_empty() {
            let there: BTreeSet<NodeId> = waiting.union(online).copied().collect();
            if self.by_number.is_subset(&there) {
                return Ok(self.by_number.difference(online).copied().collect());
            }
            return Err(wire::NodesAddProgress {
                wanted: numbers(&self.by_number),
                there: self.by_number.intersection(&there).map(|n| n.get()).collect(),
                ..wire::NodesAddProgress::default()
            });
        }
        let needed = match (self.count, self.total) {
            (Some(count), _) => count,
            (_, Some(total)) => total.saturating_sub(online.len()),
            // All that wait: there is nothing to wait for.
            (None, None) => return Ok(waiting.iter().copied().collect()),
        };
        if waiting.len() >= needed {
            return Ok(waiting.iter().copied().take(needed).collect());
        }
        Err(wire::NodesAddProgress {
            needed: needed as u32,
            have: waiting.len() as u32,
            ..wire::NodesAddProgress::default()
        })
    }
}

/// Waits until the nodes are there, then has them take part.
pub fn add(
    station: Arc<Station>,
    ask: wire::NodesAddRequest,
) -> Answer<Answers<wire::NodesAddProgress>> {
    let wanted = Wanted::read(&ask)?;
    let patience = match ask.timeout_ms {
        0 => ADD_MAX,
        ms => Duration::from_millis(ms.into()),
    };
    let (send, reports) = mpsc::channel(REPORTS_MAX);
    tokio::spawn(async move {
        let until = Instant::now() + patience;
        let mut changes = station.members.changes();
        let mut applied = station.meta.applied();
        let found = loop {
            changes.mark_unchanged();
            applied.mark_unchanged();
            let waiting = waiting(&station);
            match wanted.look(&waiting, &in_state(&station, NodeState::Online)) {
                Ok(found) => break found,
                Err(report) => {
                    if send.send(Ok(report)).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = applied.changed() => {}
                () = send.closed() => return,
                () = station.turns.closed() => return,
                () = sleep_until(until) => {
                    let words = "not enough nodes are there (see krg nodes status)";
                    let _ = send.send(Err(Status::deadline_exceeded(words))).await;
                    return;
                }
            }
        };
        let added: Vec<u32> = found.iter().map(|n| n.get()).collect();
        let report = wire::NodesAddProgress { adding: true, added, ..Default::default() };
        let _ = send.send(Ok(report.clone())).await;
        let command = Command::Nodes(nodes::Command::Activate { nodes: found });
        let agreed = agree(&station, command).await;
        let last = agreed.map(|()| wire::NodesAddProgress { done: true, ..report });
        let _ = send.send(last).await;
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(reports))))
}

/// Members that answer and do not take part yet.
fn waiting(station: &Station) -> BTreeSet<NodeId> {
    let view = station.meta.view();
    let inactive = |id: &NodeId| view.state.node(*id).is_some_and(|n| !n.active);
    in_state(station, NodeState::Present).into_iter().filter(inactive).collect()
}

/// Takes nodes out of the cluster.
pub async fn del(
    station: &Station,
    ask: wire::NodesDelRequest,
) -> Result<Response<wire::NodesDelReply>, Status> {
    let own = station.home.identity().node;
    let refuse = |words: String| Err(Status::failed_precondition(words));
    let view = station.meta.view();
    let members: BTreeSet<NodeId> =
        view.state.members().filter_map(|(member, _)| member.node()).collect();
    let online = in_state(station, NodeState::Online);
    let others: Vec<NodeId> = online.iter().rev().copied().filter(|n| *n != own).collect();
    let chosen: Vec<NodeId> = if !ask.nodes.is_empty() {
        ids(&ask.nodes)?.into_iter().collect()
    } else if ask.all {
        others
    } else if ask.count > 0 || ask.total > 0 {
        let count = match ask.count {
            0 => online.len().saturating_sub(ask.total as usize),
            count => count as usize,
        };
        if count > others.len() {
            return refuse("Not enough nodes to remove. Aborting.".into());
        }
        others.into_iter().take(count).collect()
    } else {
        return Err(Status::invalid_argument("exactly one of nodes, count, total, all"));
    };
    if let Some(node) = chosen.iter().find(|n| !members.contains(n)) {
        return refuse(format!("Unable to suppress node {node} (must be 'online')."));
    }
    if chosen.contains(&own) {
        return refuse("Unable to suppress current node.".into());
    }
    if !chosen.is_empty() {
        remove(station, &chosen).await?;
    }
    let removed = chosen.into_iter().map(NodeId::get).collect();
    Ok(Response::new(wire::NodesDelReply { removed }))
}

/// Asks for it, and waits until it has happened.
async fn remove(station: &Station, nodes: &[NodeId]) -> Result<(), Status> {
    let leave = admission::Command::Leave { nodes: nodes.to_vec() };
    station.meta.propose(Command::Admission(leave), CHANGE_MAX).await.map_err(failed)?;
    let mut applied = station.meta.applied();
    let gone = async {
        let is_member = |n: &NodeId| {
            station.meta.view().state.node(*n).is_some_and(|record| record.member.is_some())
        };
        while nodes.iter().any(is_member) {
            if applied.changed().await.is_err() {
                return;
            }
        }
    };
    let late = |_| {
        let words = "they are leaving, but their votes could not be moved in time";
        Status::deadline_exceeded(words)
    };
    tokio::time::timeout(REMOVE_MAX, gone).await.map_err(late)
}

/// The map of numbers and addresses: what was set, or else where the members are.
pub fn map(station: &Station) -> wire::Map {
    let view = station.meta.view();
    let set = view.state.map.iter().map(|(_, row)| wire::MapEntry {
        first: row.value.first.get(),
        host: row.value.host.clone(),
        count: row.value.count,
    });
    let mut entries: Vec<wire::MapEntry> = set.collect();
    for (member, node) in view.state.members() {
        let Some(id) = member.node().filter(|id| !view.state.is_mapped(*id)) else { continue };
        let host = node.address.rsplit_once(':').map_or(&*node.address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        entries.push(wire::MapEntry { first: id.get(), host, count: 1 });
    }
    entries.sort_by_key(|entry| entry.first);
    wire::Map { version: krg_types::limits::PROTOCOL_VERSION, entries }
}

/// Replaces the map.
pub async fn set_map(station: &Station, map: wire::Map) -> Answer<wire::Done> {
    if map.entries.len() > MAP_ENTRIES_MAX {
        let words = format!("a map has at most {MAP_ENTRIES_MAX} lines");
        return Err(Status::invalid_argument(words));
    }
    let mut lines = Vec::new();
    for entry in map.entries {
        let words = || format!("{} is not a node (1 to {NODE_ID_MAX})", entry.first);
        let first = NodeId::new(entry.first).ok_or_else(|| Status::invalid_argument(words()))?;
        lines.push(MapLine { first, host: entry.host, count: entry.count });
    }
    agree(station, Command::Nodes(nodes::Command::Map { lines })).await?;
    done("")
}
