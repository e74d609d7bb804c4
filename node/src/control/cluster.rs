//! The cluster as a whole: how it stands; making, joining and leaving one.

use super::{Answer, Answers, CHANGE_MAX, Service, done, failed, status};
use crate::life::{Station, Turn};
use crate::papers::{self, RELEASE};
use krg_cluster::{farewell, join, token::Token, upkeep};
use krg_meta::command::Command;
use krg_meta::state::STATE_VERSION;
use krg_meta::table::admission;
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Response, Status};
use krg_types::limits::{CLOCK_GRACE_S, CLUSTER_NAME_BYTES_MAX, NODE_ID_MAX, PROTOCOL_VERSION};
use krg_types::{MemberId, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Clocks further apart than this are worth a warning, ms.
const SKEW_MS_MAX: u64 = 300_000;
/// A certificate that ends within so many seconds should have been renewed.
const CERTIFICATE_LEFT_S_MIN: u64 = 3_600;
/// Every member gets a new certificate within this, or the change goes on without a report.
const ROTATE_MAX: Duration = Duration::from_secs(60);
/// A member leaves within this.
const LEAVE_MAX: Duration = Duration::from_secs(30);

/// How the cluster stands, as seen from here.
pub fn status(station: &Station) -> wire::ClusterReply {
    let (view, standing) = (station.meta.view(), station.meta.standing());
    let (identity, info) = (station.home.identity(), view.state.info());
    let raft = &standing.raft;
    let held = station.home.can_sign_for();
    let authority = |(print, row): (&str, &krg_meta::table::Row<_>)| {
        let value: &krg_meta::table::trust::Authority = &row.value;
        let signed = view.state.members().filter(|(_, node)| node.authority == print).count();
        wire::Authority {
            fingerprint: print.to_owned(),
            expires_s: value.expires_s,
            key_here: held.iter().any(|h| h == print),
            nodes: signed as u32,
        }
    };
    wire::ClusterReply {
        cluster: if info.name.is_empty() { identity.cluster.clone() } else { info.name.clone() },
        session: info.session,
        node: identity.node.get(),
        member: identity.member.get(),
        leader: standing.leader.and_then(MemberId::node).map(NodeId::get),
        term: raft.current_term,
        last_log: raft.last_log_index.unwrap_or(0),
        committed: raft.last_applied.map_or(0, |id| id.index),
        applied: view.applied_index(),
        revision: view.state.revision,
        snapshot: raft.snapshot.map_or(0, |id| id.index),
        leader_age_ms: standing.leader_age.map(|age| age.as_millis() as u64),
        stale: standing.stale,
        replicas: replicas(station, &standing),
        protocol_version: PROTOCOL_VERSION,
        state_version: info.state_version,
        state_version_max: STATE_VERSION,
        release: RELEASE.to_owned(),
        authorities: view.state.authorities.iter().map(authority).collect(),
        certificate_expires_s: identity.not_after_unix_s(),
        nodes_min: info.nodes_min,
        waiting: !info.started,
        quarantined: station
            .quarantined
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        warnings: warnings(station, &standing),
    }
}

fn replicas(station: &Station, standing: &krg_meta::meta::Standing) -> Vec<wire::Replica> {
    let view = station.meta.view();
    let own = station.meta.own();
    let matched = |member: MemberId| {
        if standing.raft.replication.is_some() && member == own {
            return standing.raft.last_log_index;
        }
        let replication = standing.raft.replication.as_ref()?;
        replication.get(&member).copied().flatten().map(|id| id.index)
    };
    let replica = |(member, role): (MemberId, &str)| {
        let node = view.state.member(member);
        wire::Replica {
            node: member.node().map_or(0, NodeId::get),
            member: member.get(),
            role: role.to_owned(),
            leader: standing.leader == Some(member),
            matched: matched(member),
            release: node.map(|n| n.release.clone()).unwrap_or_default(),
            state_version: node.map_or(0, |n| n.state_version),
        }
    };
    status::roles(station).into_iter().map(replica).collect()
}

fn warnings(station: &Station, standing: &krg_meta::meta::Standing) -> Vec<String> {
    let mut warnings = Vec::new();
    let voters = standing.raft.membership_config.membership().voter_ids().count();
    if standing.stale {
        warnings.push(format!(
            "nobody leads: nothing can be changed until a majority of the {voters} voters answers"
        ));
    }
    for member in station.members.list() {
        if member.skew_ms.unsigned_abs() > SKEW_MS_MAX {
            let grace_s = CLOCK_GRACE_S;
            warnings.push(format!(
                "the clock of node {} is {:+} s from this node's: certificates and tokens bear up \
                 to {grace_s} s",
                member.id,
                member.skew_ms / 1000
            ));
        }
        if member.why.contains("refuses this one") {
            warnings.push(format!(
                "node {} says that this node is a member no more: join again with a token",
                member.id
            ));
        }
    }
    let left_s = station.home.identity().not_after_unix_s().saturating_sub(station.home.wall_s());
    if left_s < CERTIFICATE_LEFT_S_MIN.min(station.home.lifetime_s() / 4) {
        warnings.push(format!("this node's certificate ends in {left_s} s and was not renewed"));
    }
    warnings.extend(
        station
            .quarantined
            .as_ref()
            .map(|path| format!("the store did not verify and was put to {}", path.display())),
    );
    warnings
}

fn refuse<T>(words: impl Into<String>) -> Result<T, Status> {
    Err(Status::failed_precondition(words))
}

/// Is this node the only member?
fn is_alone(station: &Station) -> bool {
    let (view, own) = (station.meta.view(), station.meta.own());
    // Until this node has its copy, what it was told when it joined.
    match view.state.member(own) {
        Some(_) => view.state.members().all(|(member, _)| member == own),
        None => station.home.identity().founders.iter().all(|f| f.member == own),
    }
}

/// Gives the cluster of one its name, its session, its number.
pub async fn init(service: &Service, ask: wire::InitRequest) -> Answer<wire::Done> {
    let station = &service.0;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if ask.name.len() > CLUSTER_NAME_BYTES_MAX || !ask.name.chars().all(plain) {
        let words = format!("a name has 1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, - _ or .");
        return Err(Status::invalid_argument(words));
    }
    if ask.session > 9999 {
        return Err(Status::invalid_argument("a session is 1 to 9999"));
    }
    if ask.nodes_min > NODE_ID_MAX || ask.node > NODE_ID_MAX {
        return Err(Status::invalid_argument(format!("nodes are 1 to {NODE_ID_MAX}")));
    }
    if !is_alone(station) {
        let name = station.home.identity().cluster;
        return refuse(format!("this node is a member of the cluster `{name}`: leave it first"));
    }
    let identity = station.home.identity();
    let node = NodeId::new(ask.node).unwrap_or(identity.node);
    if node != identity.node && !station.meta.view().state.config.is_empty() {
        let words = "it has a configuration already, which another number would lose: \
                     krg meta backup, then krg leave --force";
        return refuse(words);
    }
    let name = if ask.name.is_empty() { identity.cluster.clone() } else { ask.name };
    let session = if ask.session == 0 { identity.session } else { ask.session };
    let rename = admission::Command::Rename {
        name: Some(name.clone()),
        session: Some(session),
        nodes_min: (ask.nodes_min > 0).then_some(ask.nodes_min),
    };
    if node == identity.node {
        let command = Command::Admission(rename);
        station.meta.propose(command, CHANGE_MAX).await.map_err(failed)?;
        let mut renamed = identity;
        (renamed.cluster, renamed.session) = (name.clone(), session);
        service.turn(Turn::Become(Box::new(renamed))).await?;
    } else {
        let at = &identity.address;
        let made =
            krg_cluster::identity::founder(&name, session, node, at, station.home.wall_s());
        let (made, _) = made.map_err(|e| Status::internal(e.to_string()))?;
        service.turn(Turn::Become(Box::new(made))).await?;
    }
    done(format!("cluster `{name}`, session {session}, node {node}"))
}

/// This node becomes a member of another cluster.
pub async fn join(service: &Service, ask: wire::JoinRequest) -> Answer<wire::JoinReply> {
    let station = &service.0;
    let token: Token = ask.token.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
    let node = match ask.node {
        0 => station.config.node_id,
        n => Some(NodeId::new(n).ok_or_else(|| {
            Status::invalid_argument(format!("{n} is not a node number (1 to {NODE_ID_MAX})"))
        })?),
    };
    if !ask.force && !is_alone(station) {
        let name = station.home.identity().cluster;
        return refuse(format!(
            "this node is a member of `{name}`: `krg leave` first, or --force"
        ));
    }
    if !ask.force && !station.meta.view().state.config.is_empty() {
        return refuse("this node has a configuration of its own, which would be lost: --force");
    }
    let asked = papers::ask(&station.config, &station.hostname, node);
    let joined = join::join(&ask.address, &token, &asked).await;
    let (identity, skew_ms) = joined.map_err(|e| Status::failed_precondition(e.to_string()))?;
    if skew_ms.unsigned_abs() > SKEW_MS_MAX {
        tracing::warn!(skew_ms, "this node's clock is far from the cluster's");
    }
    let reply = wire::JoinReply {
        node: identity.node.get(),
        cluster: identity.cluster.clone(),
        nodes: identity.founders.len() as u32,
    };
    service.turn(Turn::Become(Box::new(identity))).await?;
    Ok(Response::new(reply))
}

/// This node leaves its cluster and is one of its own again.
pub async fn leave(service: &Service, force: bool) -> Answer<wire::Done> {
    let station = &service.0;
    let identity = station.home.identity();
    if is_alone(station) && !force {
        return refuse("this node is the only one of its cluster: nothing to leave");
    }
    if !is_alone(station) {
        let command = admission::Command::Leave { nodes: vec![identity.node] };
        let asked = station.meta.propose(Command::Admission(command), CHANGE_MAX).await;
        match asked {
            // The cluster takes it out, and says goodbye: that ends this life. Until then its
            // vote may be needed.
            Ok(_) => {
                let told = timeout(LEAVE_MAX, service.0.turns.closed()).await;
                if told.is_ok() {
                    return done(format!("left the cluster `{}`", identity.cluster));
                }
                if !force {
                    return Err(Status::deadline_exceeded("the cluster has not let it go yet"));
                }
            }
            Err(e) if !force => return Err(failed(e)),
            Err(e) => tracing::warn!(error = %e, "leaving without a word"),
        }
    }
    service.turn(Turn::Forget).await?;
    done(format!("this node has forgotten the cluster `{}`", identity.cluster))
}

/// Ends every daemon of the cluster, this one last.
pub async fn power_off(service: &Service, reboot: bool) -> Answer<wire::Done> {
    let station = &service.0;
    let (identity, own) = (station.home.identity(), station.meta.own());
    let others = station.members.list().into_iter().filter(|m| m.member != own);
    let others = others.map(|m| (m.member, m.address)).collect();
    let missed = farewell::power_off(&station.dial, &identity.cluster, others, reboot).await;
    let order = krg_cluster::serve::Order::PowerOff { reboot };
    service.turn(Turn::Order(order)).await?;
    match missed.is_empty() {
        true => done(""),
        false => {
            let nodes: Vec<String> =
                missed.iter().filter_map(|m| m.node()).map(|n| n.to_string()).collect();
            done(format!("not reached: node {}", nodes.join(", ")))
        }
    }
}

/// Changes the authority, and reports how many members have a certificate of the new one.
pub async fn rotate_ca(station: Arc<Station>, force: bool) -> Answer<Answers<wire::Progress>> {
    let roles = status::roles(&station);
    if roles.get(&station.meta.own()) != Some(&"voter") {
        let voters: Vec<String> = roles
            .iter()
            .filter(|(_, role)| **role == "voter")
            .filter_map(|(member, _)| member.node())
            .map(|node| node.to_string())
            .collect();
        return refuse(format!("the new key is made on a voter: node {}", voters.join(", ")));
    }
    let cluster = station.home.identity().cluster;
    let made = upkeep::rotate(&station.meta, &station.home, &cluster).await;
    let new = made.map_err(Status::failed_precondition)?;
    if force {
        let silent = station.members.list().into_iter().filter(|m| !m.up).map(|m| m.id).collect();
        let leave = admission::Command::Leave { nodes: silent };
        station.meta.propose(Command::Admission(leave), CHANGE_MAX).await.map_err(failed)?;
    }
    let (send, reports) = mpsc::channel(8);
    tokio::spawn(async move {
        let mut applied = station.meta.applied();
        let moved = async {
            loop {
                applied.mark_unchanged();
                let view = station.meta.view();
                let of = view.state.members().count() as u32;
                let with =
                    |(_, n): &(MemberId, &krg_meta::table::nodes::Node)| n.authority == new;
                let steps = view.state.members().filter(with).count() as u32;
                let finished = steps == of && view.state.authorities.len() == 1;
                let note = format!("authority {}", &new[..16]);
                let report = wire::Progress { note, done: finished, steps, of };
                if send.send(Ok(report)).await.is_err() || finished {
                    return;
                }
                tokio::select! {
                    changed = applied.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                    () = station.turns.closed() => return,
                }
            }
        };
        if timeout(ROTATE_MAX, moved).await.is_err() {
            let words = "some nodes have no new certificate yet; they get one when they are back";
            let _ = send.send(Err(Status::deadline_exceeded(words))).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(reports))))
}
