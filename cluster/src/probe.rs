//! Asks every node, again and again, whether it is there.

use crate::member::{Answer, Members};
use krg_rpc::peers::Peers;
use krg_rpc::proto::member::ProbeRequest;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::status::RpcError;
use krg_types::limits::{NAME_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::version::understood;
use krg_types::{MemberId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
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

/// What this node says in its probes, and the clocks it reads.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Changes each time this node's daemon starts.
    pub incarnation: u64,
    /// This node's boot clock, ns.
    pub boot_ns: fn() -> u64,
    /// This node's wall clock, ns since 1970: only to tell whose clock is far off.
    pub wall_ns: fn() -> u64,
}

/// Probes every member until dropped with its runtime; `up_period` is the time between probes of
/// a node that answers.
pub async fn run(members: Arc<Members>, asking: Asking, up_period: Duration) {
    let mut tasks = JoinSet::new();
    let mut watched = BTreeMap::new();
    let mut changes = members.changes();
    loop {
        changes.mark_unchanged();
        let list = members.list();
        let crowd = u32::try_from(list.len().div_ceil(NODES_AT_FULL_RATE)).unwrap_or(1).max(1);
        let pace = Pace { up_period, crowd };
        watched.retain(|id, task: &mut (MemberId, AbortHandle)| {
            let stays = list.iter().any(|m| m.id == *id && m.member == task.0);
            if !stays {
                task.1.abort();
            }
            stays
        });
        for member in list {
            watched.entry(member.id).or_insert_with(|| {
                let watch = watch_one(members.clone(), member.id, asking, pace);
                (member.member, tasks.spawn(watch))
            });
        }
        while tasks.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
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

async fn watch_one(members: Arc<Members>, id: NodeId, asking: Asking, pace: Pace) {
    let (mut failures, mut connected) = (0, false);
    let mut nudges = members.nudges();
    sleep_until(Instant::now() + pace.first(id)).await;
    loop {
        // Subscribed before the probe, so that a change during it is not missed.
        let mut changes = members.changes();
        let ask = || probe(&members, id, asking, pace.timeout_ms());
        let asked = match ask().await {
            // On a new connection the question waits for the handshake, and tells nothing about
            // the other's clock.
            Ok(_) if !connected => ask().await,
            asked => asked,
        };
        connected = asked.is_ok();
        match asked {
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
                () = heard => {}
            }
        })
        .await;
    }
}

/// One question and its answer.
async fn probe(
    members: &Members,
    id: NodeId,
    asking: Asking,
    timeout_ms: u64,
) -> Result<Answer, RpcError> {
    let gone = || RpcError::Unreachable(id, "no longer a member".into());
    let channel = members.get(id).ok_or_else(gone)?.channel;
    let mut client = MemberClient::new(channel).max_decoding_message_size(64 << 10);
    let question = ProbeRequest {
        version: PROTOCOL_VERSION,
        cluster: members.cluster().to_string(),
        from: members.own().get(),
        incarnation: asking.incarnation,
    };
    let sent = (asking.boot_ns)();
    let call = timeout(Duration::from_millis(timeout_ms), client.probe(question));
    let reply = call
        .await
        .map_err(|_| RpcError::deadline(id, timeout_ms))?
        .map_err(|status| RpcError::from_status(id, &status))?
        .into_inner();
    let got = (asking.boot_ns)();
    if reply.node != id.get() || !understood(reply.version) {
        let why = format!("it says it is node {} of version {}", reply.node, reply.version);
        return Err(RpcError::Refused(id, why));
    }
    let ours_ms = (asking.wall_ns)() / 1_000_000;
    Ok(Answer {
        stamps_ns: (sent, reply.boot_ns, got),
        hostname: plain(reply.hostname),
        incarnation: reply.incarnation,
        skew_ms: i64::try_from(i128::from(reply.wall_ms) - i128::from(ours_ms))
            .unwrap_or(i64::MAX),
        release: plain(reply.release),
    })
}

/// A peer's word as it may be shown on a terminal.
fn plain(mut word: String) -> String {
    word.retain(|c| c.is_ascii_graphic());
    word.truncate(NAME_BYTES_MAX);
    word
}
