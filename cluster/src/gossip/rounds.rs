//! What goes on beside chitchat's own rounds: the own load is said anew, members that are not heard
//! of are talked to, and chitchat's opinion of who is alive is compared with the list.

use super::board::Board;
use super::{CLUSTER, GossipMember, GossipMembers, LOAD_KEY, ROUND, Suspect, ids};
use crate::load::Load;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState};
use krg_types::MemberId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A silence of so many mean silences makes a node suspect. A suspicion costs one probe.
const PHI_THRESHOLD: f64 = 8.0;
/// Silences longer than this are not reckoned into the mean.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The mean before there is one.
const SILENCE_EXPECTED: Duration = Duration::from_secs(2);
/// What is not heard of for so long is forgotten: past lives, and members that left.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// How chitchat is set up for this life of a member.
pub(super) fn config(own: (MemberId, u64)) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: ids::chitchat_id(own.0, own.1),
        cluster_id: CLUSTER.into(),
        gossip_interval: ROUND,
        listen_addr: ids::address(own.0),
        // Whom to talk to comes from the member list, see `Rounds::introduce`.
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI_THRESHOLD,
            max_interval: SILENCE_MAX,
            initial_interval: SILENCE_EXPECTED,
            dead_node_grace_period: FORGET_AFTER,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: FORGET_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}

/// See the module.
pub(super) struct Rounds {
    pub(super) own: (MemberId, u64),
    pub(super) chitchat: ChitchatHandle,
    pub(super) board: Arc<Board>,
    pub(super) members: watch::Receiver<Arc<GossipMembers>>,
    pub(super) sample: Arc<dyn Fn() -> Load + Send + Sync>,
    pub(super) suspect: Suspect,
    pub(super) turn: usize,
}

impl Rounds {
    /// Until gossip is dropped.
    pub(super) async fn run(mut self) {
        let mut live = self.chitchat.with_chitchat(|c| c.live_nodes_watcher()).await;
        let ended = self.chitchat.termination_watcher();
        tokio::pin!(ended);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    next = Instant::now() + ROUND;
                    let load = (self.sample)().to_string();
                    self.chitchat
                        .with_chitchat(|c| c.self_node_state().set(LOAD_KEY, &load))
                        .await;
                    self.introduce();
                }
                Ok(()) = live.changed() => {}
                changed = self.members.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.board.prune(&self.members.borrow());
                    self.board.ring();
                    self.introduce();
                }
                why = &mut ended => {
                    tracing::error!(?why, "the gossip has ended: nobody is heard of any more");
                    self.board.set_alive(Default::default()).into_iter().for_each(&*self.suspect);
                    return;
                }
            }
            self.judge(&mut live);
        }
    }

    /// Compares whom chitchat holds alive with the list.
    fn judge(&self, live: &mut watch::Receiver<BTreeMap<ChitchatId, NodeState>>) {
        let live = live.borrow_and_update();
        let members = self.members.borrow().clone();
        let alive = members.list.iter().filter(|(id, member)| {
            let id = member.probed.map(|p| ids::chitchat_id(**id, p.incarnation));
            id.is_some_and(|id| live.contains_key(&id))
        });
        let changed = self.board.set_alive(alive.map(|m| *m.0).collect());
        drop(live);
        changed.into_iter().filter(|id| *id != self.own.0).for_each(&*self.suspect);
    }

    /// Talks to one of those who are not heard of, each in turn: chitchat finds nobody by itself.
    fn introduce(&mut self) {
        let members = self.members.borrow().clone();
        let silent = |(id, member): &(&MemberId, &GossipMember)| {
            **id != self.own.0 && member.probed.is_some() && !self.board.is_alive(**id)
        };
        let silent: Vec<_> = members.list.iter().filter(silent).map(|m| *m.0).collect();
        self.turn = self.turn.wrapping_add(1);
        if let Some(&id) = silent.get(self.turn % silent.len().max(1)) {
            // An error means that chitchat has ended, which `run` sees.
            let _ = self.chitchat.gossip(ids::address(id));
        }
    }
}
