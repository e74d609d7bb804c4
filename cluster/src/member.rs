//! The member list: who is a member, where, and what the last probe of each said.

use crate::offset;
use krg_rpc::dial::Dial;
use krg_rpc::peers::{BootOffset, Peer, Peers};
use krg_rpc::tonic::transport::Channel;
use krg_types::{MemberId, NodeId, NodeState};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Which membership of that number.
    pub member: MemberId,
    /// Where its daemon listens, `host:port`.
    pub address: String,
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
    /// Its wall clock less ours, ms.
    pub skew_ms: i64,
    /// Its program's version.
    pub release: String,
    boot_offset: Option<BootOffset>,
    channel: Channel,
}

impl Member {
    /// Its boot clock less ours, once a probe has told.
    pub fn boot_offset(&self) -> Option<BootOffset> {
        self.boot_offset
    }

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
    /// Its wall clock less ours, ms.
    pub skew_ms: i64,
    /// Its program's version.
    pub release: String,
}

/// All nodes, this one included.
#[derive(Debug)]
pub struct Members {
    own: NodeId,
    cluster: Arc<str>,
    dial: Arc<dyn Dial>,
    list: RwLock<BTreeMap<NodeId, Member>>,
    /// Counts changes of the list and of anybody's state, for those who wait for one.
    changes: watch::Sender<u64>,
    /// Nodes that were thought silent and have asked us something.
    nudges: broadcast::Sender<NodeId>,
}

/// More nudges than nodes are never waiting.
const NUDGES_MAX: usize = 256;

impl Members {
    /// An empty list.
    pub fn new(own: NodeId, cluster: &str, dial: Arc<dyn Dial>) -> Members {
        let changes = watch::Sender::new(0);
        let nudges = broadcast::Sender::new(NUDGES_MAX);
        let list = RwLock::default();
        Members { own, cluster: cluster.into(), dial, list, changes, nudges }
    }

    /// Sets who is a member, and where; what is known of those who stay is kept. Must be called
    /// within a tokio runtime.
    pub fn set(&self, nodes: &[(MemberId, String)]) {
        let mut list = self.write();
        let before = list.len();
        list.retain(|_, m| nodes.iter().any(|(id, at)| *id == m.member && *at == m.address));
        let mut changed = list.len() != before;
        for (member, address) in nodes {
            let Some(id) = member.node().filter(|id| !list.contains_key(id)) else { continue };
            list.insert(id, self.newcomer(id, *member, address.clone()));
            changed = true;
        }
        drop(list);
        if changed {
            self.changes.send_modify(|n| *n += 1);
        }
    }

    fn newcomer(&self, id: NodeId, member: MemberId, address: String) -> Member {
        Member {
            id,
            member,
            hostname: String::new(),
            answered: None,
            up: false,
            why: "not seen yet".into(),
            rtt: Duration::ZERO,
            incarnation: 0,
            skew_ms: 0,
            release: String::new(),
            boot_offset: None,
            channel: self.dial.channel(member, &address),
            address,
        }
    }

    /// What is known of one member.
    pub fn member(&self, id: NodeId) -> Option<Member> {
        self.read().get(&id).cloned()
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

    /// Others say that something has happened to this member: only a probe can tell.
    pub fn suspect(&self, member: MemberId) {
        if let Some(id) = member.node() {
            let _ = self.nudges.send(id);
        }
    }

    /// Nodes as `heard_of` and `suspect` tell of them.
    pub(crate) fn nudges(&self) -> broadcast::Receiver<NodeId> {
        self.nudges.subscribe()
    }

    /// A probe was answered.
    pub fn answered(&self, id: NodeId, answer: Answer) {
        let (sent, theirs, got) = answer.stamps_ns;
        // This node's own clock is not measured over a round trip: it is the same one.
        let measured = if id == self.own { (0, 0) } else { offset::measure(sent, theirs, got) };
        self.change(id, |m| {
            let restarted = m.incarnation != answer.incarnation;
            let old = m.boot_offset.filter(|_| !restarted);
            m.boot_offset = Some(offset::refine(old, measured));
            m.rtt = Duration::from_nanos(got.saturating_sub(sent));
            m.hostname = answer.hostname;
            m.incarnation = answer.incarnation;
            m.skew_ms = answer.skew_ms;
            m.release = answer.release;
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
            m.channel = self.dial.channel(m.member, &m.address);
        });
    }
}
