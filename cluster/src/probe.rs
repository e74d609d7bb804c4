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
use tokio::time::{Instant, sleep_until, timeout};

/// A probe without an answer for so long, ms, has failed.
const PROBE_TIMEOUT_MS: u64 = 500;
/// Between probes of a node that does not answer: short, so that it is back soon, then longer.
/// One that comes up probes us at once, and is then probed at once.
const DOWN_PERIODS_MS: [u64; 4] = [100, 250, 500, 1_000];
/// Failed probes before the next longer of those periods.
const DOWN_PROBES_PER_PERIOD: usize = 16;
/// Between the first probes of the nodes of a large cluster.
const FIRST_STEP: Duration = Duration::from_millis(10);
/// With more nodes than this each probes the others less often: the sum stays bounded.
const NODES_AT_FULL_RATE: usize = 8;

/// Probes every member until dropped with its runtime. `boot_ns` is this node's boot clock;
/// `up_period` is the time between probes of a node that answers.
pub async fn run(members: Arc<Members>, boot_ns: fn() -> u64, up_period: Duration) {
    let all = members.all();
    let crowd = u32::try_from(all.len().div_ceil(NODES_AT_FULL_RATE)).unwrap_or(1);
    let mut tasks = tokio::task::JoinSet::new();
    for peer in all {
        tasks.spawn(watch_one(members.clone(), peer.id, boot_ns, Pace { up_period, crowd }));
    }
    while tasks.join_next().await.is_some() {}
}

/// How often to probe.
#[derive(Clone, Copy)]
struct Pace {
    up_period: Duration,
    /// How many times less often than in a small cluster.
    crowd: u32,
}

impl Pace {
    fn pause(self, failures: usize) -> Duration {
        let step = (failures / DOWN_PROBES_PER_PERIOD).min(DOWN_PERIODS_MS.len() - 1);
        let down = Duration::from_millis(DOWN_PERIODS_MS[step]);
        let pause = if failures == 0 { self.up_period } else { down };
        pause * self.crowd
    }

    /// The first probes of a large cluster that starts as one are spread out.
    fn first(self, id: NodeId) -> Duration {
        FIRST_STEP * (id.get() % (self.crowd * self.crowd))
    }

    /// A crowd that starts on few processors answers late.
    fn timeout_ms(self) -> u64 {
        PROBE_TIMEOUT_MS * u64::from(self.crowd)
    }
}

async fn watch_one(members: Arc<Members>, id: NodeId, boot_ns: fn() -> u64, pace: Pace) {
    let mut failures = 0;
    let mut nudges = members.nudges();
    sleep_until(Instant::now() + pace.first(id)).await;
    loop {
        // Subscribed before the probe, so that a change during it is not missed.
        let mut changes = members.changes();
        match probe(&members, id, boot_ns, pace.timeout_ms()).await {
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
        // Somebody else may find it silent meanwhile, or it may make itself heard: then the next
        // probe is due at once.
        let up = || members.get(id).is_some_and(|p| p.up);
        let went_down = async { while changes.changed().await.is_ok() && up() {} };
        let heard = async { while nudges.recv().await != Ok(id) {} };
        let _ = timeout(pace.pause(failures), async {
            tokio::select! {
                () = went_down, if failures == 0 => {}
                () = heard, if failures != 0 => {}
            }
        })
        .await;
    }
}

/// One question and its answer.
async fn probe(
    members: &Members,
    id: NodeId,
    boot_ns: fn() -> u64,
    timeout_ms: u64,
) -> Result<Answer, RpcError> {
    let gone = || RpcError::Unreachable(id, "no longer a member".into());
    let channel = members.get(id).ok_or_else(gone)?.channel;
    let mut client = MemberClient::new(channel).max_decoding_message_size(64 << 10);
    let question = ProbeRequest {
        version: PROTOCOL_VERSION,
        cluster: members.cluster().to_string(),
        from: members.own().get(),
    };
    let sent = boot_ns();
    let call = timeout(Duration::from_millis(timeout_ms), client.probe(question));
    let reply = call
        .await
        .map_err(|_| RpcError::deadline(id, timeout_ms))?
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
