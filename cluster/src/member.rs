//! The member list: who is configured, where, and what the last probe of each said.

use crate::offset;
use krg_rpc::peers::{BootOffset, Peer, Peers};
use krg_rpc::pool;
use krg_rpc::tonic::transport::Channel;
use krg_types::{NodeId, NodeState};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Where its daemon listens.
    pub address: SocketAddr,
    /// Its hostname, once it has said it.
    pub hostname: String,
    /// When it last answered.
    pub answered: Option<Instant>,
    /// The last question was answered.
    pub up: bool,
    /// Why the last one was not.
    pub why: String,
    /// The last round trip.
    pub rtt: Duration,
    /// Changes when its daemon restarts.
    pub incarnation: u64,
    boot_offset: Option<BootOffset>,
    channel: Channel,
}

impl Member {
    /// Kerrighed's word for it.
    pub fn state(&self) -> NodeState {
        match (self.up, self.answered) {
            (true, _) => NodeState::Online,
            (false, Some(_)) => NodeState::Present,
            (false, None) => NodeState::Possible,
        }
    }
}

/// What a probe learnt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Boot clocks: ours when the question left, theirs, ours when the answer came.
    pub stamps_ns: (u64, u64, u64),
    /// The hostname it gave.
    pub hostname: String,
    /// The incarnation of its daemon.
    pub incarnation: u64,
}

/// All nodes, this one included.
#[derive(Debug)]
pub struct Members {
    own: NodeId,
    cluster: Arc<str>,
    list: RwLock<BTreeMap<NodeId, Member>>,
    /// Counts changes of anybody's state, for those who wait for one.
    changes: watch::Sender<u64>,
    /// Nodes that were thought silent and have asked us something.
    nudges: broadcast::Sender<NodeId>,
}

/// More nudges than nodes are never waiting.
const NUDGES_MAX: usize = 256;

impl Members {
    /// The list as configured; nobody has been seen yet.
    pub fn new(own: NodeId, cluster: &str, nodes: &[(NodeId, SocketAddr)]) -> Members {
        let member = |&(id, address): &(NodeId, SocketAddr)| Member {
            id,
            address,
            hostname: String::new(),
            answered: None,
            up: false,
            why: "not seen yet".into(),
            rtt: Duration::ZERO,
            incarnation: 0,
            boot_offset: None,
            channel: pool::channel(address),
        };
        let list = nodes.iter().map(|n| (n.0, member(n))).collect();
        let changes = watch::Sender::new(0);
        let nudges = broadcast::Sender::new(NUDGES_MAX);
        Members { own, cluster: cluster.into(), list: RwLock::new(list), changes, nudges }
    }

    /// Everybody, lowest number first.
    pub fn list(&self) -> Vec<Member> {
        self.read().values().cloned().collect()
    }

    /// How many answer.
    pub fn online(&self) -> usize {
        self.read().values().filter(|m| m.up).count()
    }

    /// This node asks us something: if it was thought silent, it is worth a probe.
    pub fn heard_of(&self, id: NodeId) {
        if self.get(id).is_some_and(|p| !p.up) {
            let _ = self.nudges.send(id);
        }
    }

    /// Nodes as `heard_of` tells of them.
    pub(crate) fn nudges(&self) -> broadcast::Receiver<NodeId> {
        self.nudges.subscribe()
    }

    /// A probe was answered.
    pub fn answered(&self, id: NodeId, answer: Answer) {
        let (sent, theirs, got) = answer.stamps_ns;
        self.change(id, |m| {
            let restarted = m.incarnation != answer.incarnation;
            let old = m.boot_offset.filter(|_| !restarted);
            m.boot_offset = Some(offset::refine(old, offset::measure(sent, theirs, got)));
            m.rtt = Duration::from_nanos(got.saturating_sub(sent));
            m.hostname = answer.hostname;
            m.incarnation = answer.incarnation;
            m.answered = Some(Instant::now());
            m.up = true;
            m.why.clear();
        });
    }

    fn change(&self, id: NodeId, edit: impl FnOnce(&mut Member)) {
        let mut list = self.write();
        let Some(member) = list.get_mut(&id) else { return };
        let before = member.up;
        edit(member);
        if before != member.up {
            tracing::info!(node = %id, up = member.up, why = %member.why, "node changed");
            drop(list);
            self.changes.send_modify(|n| *n += 1);
        }
    }

    // A panic while the lock was held leaves a list that is still whole: every edit is of one
    // plain value.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Member>> {
        self.list.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Member>> {
        self.list.write().unwrap_or_else(|e| e.into_inner())
    }
}

fn as_peer(m: &Member) -> Peer {
    Peer {
        id: m.id,
        channel: m.channel.clone(),
        up: m.up,
        silent_for: m.answered.map(|at| at.elapsed()),
        boot_offset_ns: m.boot_offset,
    }
}

impl Peers for Members {
    fn own(&self) -> NodeId {
        self.own
    }

    fn cluster(&self) -> Arc<str> {
        self.cluster.clone()
    }

    fn all(&self) -> Vec<Peer> {
        self.read().values().map(as_peer).collect()
    }

    fn get(&self, id: NodeId) -> Option<Peer> {
        self.read().get(&id).map(as_peer)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn failed(&self, id: NodeId, why: &str) {
        self.change(id, |m| {
            m.up = false;
            m.why = why.to_owned();
            // A connection that was cut may stay silent for long after the link has healed.
            m.channel = pool::channel(m.address);
        });
    }
}
