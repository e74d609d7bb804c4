//! Asks every node, again and again, whether it is there.

use crate::member::{Answer, Members};
use krg_rpc::peers::Peers;
use krg_rpc::proto::member::ProbeRequest;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::status::RpcError;
use krg_types::NodeId;
use krg_types::limits::{NAME_BYTES_MAX, PROTOCOL_VERSION};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A probe without an answer for so long, ms, has failed.
pub const PROBE_TIMEOUT_MS: u64 = 500;
/// Between probes of a node that does not answer: short, so that it is back soon, then longer.
const DOWN_PERIODS_MS: [u64; 4] = [100, 250, 500, 1_000];
/// Failed probes before the next longer of those periods.
const DOWN_PROBES_PER_PERIOD: usize = 16;
/// With more nodes than this each probes the others less often: the sum stays bounded.
const NODES_AT_FULL_RATE: usize = 16;

/// Probes every member until dropped with its runtime. `boot_ns` is this node's boot clock;
/// `up_period` is the time between probes of a node that answers.
pub async fn run(members: Arc<Members>, boot_ns: fn() -> u64, up_period: Duration) {
    let all = members.all();
    let crowd = u32::try_from(all.len().div_ceil(NODES_AT_FULL_RATE)).unwrap_or(1);
    let mut tasks = tokio::task::JoinSet::new();
    for peer in all {
        tasks.spawn(watch_one(members.clone(), peer.id, boot_ns, up_period * crowd));
    }
    while tasks.join_next().await.is_some() {}
}

async fn watch_one(
    members: Arc<Members>,
    id: NodeId,
    boot_ns: fn() -> u64,
    up_period: Duration,
) {
    let mut failures = 0;
    loop {
        // Subscribed before the probe, so that a change during it is not missed.
        let mut changes = members.changes();
        match probe(&members, id, boot_ns).await {
            Ok(answer) => {
                failures = 0;
                members.answered(id, answer);
            }
            Err(e) => {
                failures += 1;
                members.failed(id, &e.to_string());
            }
        }
        changes.mark_unchanged();
        let pause = if failures == 0 { up_period } else { down_period(failures) };
        // Somebody else may find it silent meanwhile; then the next probe is due at once.
        let went_down = async {
            while changes.changed().await.is_ok() {
                if members.get(id).is_some_and(|p| !p.up) && failures == 0 {
                    return;
                }
            }
        };
        let _ = timeout(pause, went_down).await;
    }
}

fn down_period(failures: usize) -> Duration {
    let step = (failures / DOWN_PROBES_PER_PERIOD).min(DOWN_PERIODS_MS.len() - 1);
    Duration::from_millis(DOWN_PERIODS_MS[step])
}

/// One question and its answer.
async fn probe(members: &Members, id: NodeId, boot_ns: fn() -> u64) -> Result<Answer, RpcError> {
    let gone = || RpcError::Unreachable(id, "no longer a member".into());
    let channel = members.get(id).ok_or_else(gone)?.channel;
    let mut client = MemberClient::new(channel).max_decoding_message_size(64 << 10);
    let question = ProbeRequest {
        version: PROTOCOL_VERSION,
        cluster: members.cluster().to_string(),
        from: members.own().get(),
    };
    let sent = boot_ns();
    let call = timeout(Duration::from_millis(PROBE_TIMEOUT_MS), client.probe(question));
    let reply = call
        .await
        .map_err(|_| RpcError::deadline(id, PROBE_TIMEOUT_MS))?
        .map_err(|status| RpcError::from_status(id, &status))?
        .into_inner();
    let got = boot_ns();
    if reply.node != id.get() || reply.version != PROTOCOL_VERSION {
        let why = format!("it says it is node {} of version {}", reply.node, reply.version);
        return Err(RpcError::Refused(id, why));
    }
    let mut hostname = reply.hostname;
    hostname.retain(|c| c.is_ascii_graphic());
    hostname.truncate(NAME_BYTES_MAX);
    let stamps_ns = (sent, reply.boot_ns, got);
    Ok(Answer { stamps_ns, hostname, incarnation: reply.incarnation })
}
