//! Keeps what a viewer holds of every node in step with the nodes, while somebody looks.
//!
//! One subscription a node, asked for a sample when a reader finds the last one too old. A node
//! that misses a deadline fails fast until a probe finds it again: readers then get its last
//! known values at once.

mod follow;

use crate::error::ViewError;
use crate::news::Teller;
use crate::store::NodeView;
use arc_swap::ArcSwap;
use follow::{Ask, Link, follow};
use krg_rpc::peers::{Peer, Peers};
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_client::ProcViewClient;
use krg_rpc::status::RpcError;
use krg_rpc::tonic::transport::Channel;
use krg_sys::clock::boot_ns;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION, WANTS_WAITING_MAX};
use krg_types::{NodeId, SystemFile};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// A node that owes an answer and says nothing for so long has missed its deadline.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// A reader waits so long for samples, then takes what there is.
const READER_WAITS_MAX: Duration = Duration::from_millis(800);
/// The texts of processes are at most this old while somebody looks: the period of samples, and
/// what one may take to come.
pub const TEXTS_MAX_AGE: Duration = Duration::from_millis(1_500);
/// A stamp so far ahead of its node's clock, ns, is from before that node was booted again. Less
/// than that is how far two clocks run apart between probes.
const AHEAD_MAX_NS: i128 = 1_000_000_000;

/// All nodes as this viewer knows them.
pub struct Gather {
    peers: Arc<dyn Peers>,
    links: ArcSwap<BTreeMap<NodeId, Arc<Link>>>,
    /// A silent node's processes leave after this.
    forget_after: Duration,
    /// Counts nodes as they are met.
    met: watch::Sender<u64>,
    /// Who is told of changes, if somebody is.
    teller: Arc<OnceLock<Arc<Teller>>>,
    /// Counts the changes of views.
    edition: Arc<AtomicU64>,
}

/// How a node stands with this viewer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It answers.
    Online,
    /// It does not; its last known values are shown.
    Stale,
    /// It does not, and they have left, or there never were any.
    Down,
}

impl Standing {
    /// The word in `nodes/node<N>/state`.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Online => "online",
            Standing::Stale => "stale",
            Standing::Down => "down",
        }
    }
}

impl Gather {
    /// Starts a task for every peer on the current runtime, and for those who join later.
    pub fn start(peers: Arc<dyn Peers>, forget_after: Duration) -> Arc<Gather> {
        let (links, met) = (ArcSwap::default(), watch::Sender::new(0));
        let (teller, edition) = (Arc::default(), Arc::default());
        let gather = Arc::new(Gather { peers, links, forget_after, met, teller, edition });
        gather.relink();
        tokio::spawn(gather.clone().greet());
        gather
    }

    /// From now on tells of every change. There is one who is told.
    pub fn tell(&self, teller: Arc<Teller>) {
        let _ = self.teller.set(teller);
    }

    /// Another number whenever a view has changed.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::SeqCst)
    }

    /// Who is told of changes.
    pub fn teller(&self) -> Option<&Arc<Teller>> {
        self.teller.get()
    }

    /// One link for every peer, and none for who is no peer any more.
    fn relink(&self) {
        let old = self.links.load_full();
        let all = self.peers.all();
        if all.len() == old.len() && all.iter().all(|peer| old.contains_key(&peer.id)) {
            return;
        }
        let link = |id: NodeId| {
            let (asks, queue) = mpsc::channel(WANTS_WAITING_MAX);
            let link = Arc::new(Link::new(id, asks, self.teller.clone(), self.edition.clone()));
            tokio::spawn(follow(self.peers.clone(), id, link.clone(), queue));
            link
        };
        let kept = |id: NodeId| old.get(&id).cloned().unwrap_or_else(|| link(id));
        self.links.store(Arc::new(all.iter().map(|peer| (peer.id, kept(peer.id))).collect()));
    }

    /// Waits until every node was met, or for `patience`; returns how many answer now.
    pub async fn settle(&self, patience: Duration) -> usize {
        let mut changes = self.met.subscribe();
        let all = async {
            let everybody = || self.nodes().iter().all(|id| self.has_met(*id));
            while !everybody() && changes.changed().await.is_ok() {}
        };
        let _ = timeout(patience, all).await;
        self.peers.all().iter().filter(|p| p.up && self.has_met(p.id)).count()
    }

    fn has_met(&self, id: NodeId) -> bool {
        self.view(id).is_some_and(|v| v.procs_stamp_ns != 0)
    }

    /// Asks every node for everything once, when it is first seen: should it die before anybody
    /// looks, its last known values are there all the same. A sample that another viewer had
    /// made will do.
    async fn greet(self: Arc<Self>) {
        const ANY_AGE: Duration = Duration::from_secs(600);
        let everything = SystemFile::ALL.iter().fold(0, |bits, f| bits | f.bit());
        let mut changes = self.peers.changes();
        loop {
            changes.mark_unchanged();
            self.relink();
            for peer in self.peers.all().iter().filter(|p| p.up && !self.has_met(p.id)) {
                self.refresh(Some(peer.id), true, everything, ANY_AGE).await;
            }
            self.met.send_modify(|n| *n += 1);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// This node.
    pub fn own(&self) -> NodeId {
        self.peers.own()
    }

    /// The cluster's name.
    pub fn cluster(&self) -> Arc<str> {
        self.peers.cluster()
    }

    /// Every member.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.links.load().keys().copied().collect()
    }

    /// One node's values, whatever its standing.
    pub fn view(&self, node: NodeId) -> Option<Arc<NodeView>> {
        self.links.load().get(&node).map(|l| l.view.load_full())
    }

    /// The same before its last change.
    pub fn view_before(&self, node: NodeId) -> Option<Arc<NodeView>> {
        self.links.load().get(&node).map(|l| l.before.load_full())
    }

    /// How a node stands.
    pub fn standing(&self, node: NodeId) -> Standing {
        match self.peers.get(node) {
            Some(peer) => self.standing_of(&peer),
            None => Standing::Down,
        }
    }

    fn standing_of(&self, peer: &Peer) -> Standing {
        match peer.silent_for {
            _ if peer.up => Standing::Online,
            Some(silent) if silent < self.forget_after => Standing::Stale,
            _ => Standing::Down,
        }
    }

    /// The values of all nodes that are not down, with their peers, lowest number first.
    pub fn shown(&self) -> Vec<(Peer, Arc<NodeView>)> {
        let peers = self.peers.all().into_iter();
        let shown = peers.filter(|p| self.standing_of(p) != Standing::Down);
        let with_view = shown.filter_map(|peer| self.view(peer.id).map(|view| (peer, view)));
        with_view.collect()
    }

    /// The age of a value taken at `stamp_ns` of the node's clock, ns; never understated, and
    /// `None` while the clocks have not been compared, if there is no value, or if it is of the
    /// clock that the node had before it was booted again.
    pub fn age_ns(&self, peer: &Peer, stamp_ns: u64) -> Option<u64> {
        let offset = peer.boot_offset_ns?.most_ns;
        let now = i128::from(boot_ns()) + i128::from(offset);
        let age = now - i128::from(stamp_ns);
        let known = stamp_ns != 0 && age > -AHEAD_MAX_NS;
        known.then(|| u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }

    /// The same for a node's number.
    pub fn age_of(&self, node: NodeId, stamp_ns: u64) -> Option<u64> {
        self.age_ns(&self.peers.get(node)?, stamp_ns)
    }

    fn is_young(&self, peer: &Peer, stamp_ns: u64, max_age: Duration) -> bool {
        self.age_ns(peer, stamp_ns).is_some_and(|age| u128::from(age) <= max_age.as_nanos())
    }

    /// What of a request a node's values are too old for.
    fn missing(&self, peer: &Peer, procs: bool, files: u64, max_age: Duration) -> (bool, u64) {
        let Some(view) = self.view(peer.id) else { return (false, 0) };
        let procs = procs
            && !(self.is_young(peer, view.list_stamp_ns, max_age)
                && self.is_young(peer, view.procs_stamp_ns, TEXTS_MAX_AGE));
        let old = SystemFile::ALL.into_iter().filter(|f| {
            let stamp = view.files[f.id() as usize].stamp_ns;
            files & f.bit() != 0 && !self.is_young(peer, stamp, max_age)
        });
        (procs, old.fold(0, |bits, f| bits | f.bit()))
    }

    /// As `refresh`, and that the kernel no longer keeps what was there before. Not for what the
    /// kernel asks while it holds a process's directory: it must let it go to be told.
    pub async fn refresh_told(
        &self,
        only: Option<NodeId>,
        procs: bool,
        files: u64,
        max_age: Duration,
    ) {
        self.refresh(only, procs, files, max_age).await;
        if let Some(teller) = self.teller() {
            teller.caught_up().await;
        }
    }

    /// Sees to it that values are no older than `max_age`, of all nodes or of one, where the
    /// nodes answer in time; the others keep their last known ones. Of processes it is the age of
    /// their list; their texts are sampled once a second from then on, until nobody has asked for
    /// a while.
    pub async fn refresh(
        &self,
        only: Option<NodeId>,
        procs: bool,
        files: u64,
        max_age: Duration,
    ) {
        let mut waiting = Vec::new();
        // A file of one process asks for its node alone, and is opened often.
        let peers = match only {
            Some(node) => self.peers.get(node).into_iter().collect(),
            None => self.peers.all(),
        };
        for peer in peers.into_iter().filter(|p| p.up) {
            let Some(link) = self.links.load().get(&peer.id).cloned() else { continue };
            if procs {
                link.look();
            }
            let (procs, files) = self.missing(&peer, procs, files, max_age);
            if !procs && files == 0 {
                continue;
            }
            let (done, answered) = oneshot::channel();
            let ask = Ask { procs, files, max_age, texts_max_age: TEXTS_MAX_AGE, done };
            if link.asks.try_send(ask).is_ok() {
                waiting.push(answered);
            }
        }
        if waiting.is_empty() {
            return;
        }
        let all = async {
            for answered in waiting {
                // An error is a node that failed: its last known values will do.
                let _ = answered.await;
            }
        };
        let _ = timeout(READER_WAITS_MAX, all).await;
    }

    /// One file of one process, read now.
    ///
    /// # Errors
    /// EHOSTDOWN at once for a node that fails fast; the owner's kernel's errno.
    pub async fn live(
        &self,
        node: NodeId,
        mut ask: wire::LiveRequest,
    ) -> Result<wire::LiveReply, ViewError> {
        let peer = self.peers.get(node).ok_or(ViewError::NoEntry)?;
        if !peer.up {
            return Err(RpcError::Unreachable(node, "it is down".into()).into());
        }
        ask.version = PROTOCOL_VERSION;
        ask.cluster = self.peers.cluster().to_string();
        let mut client = client(peer.channel);
        let failed = |e: RpcError| {
            self.peers.failed(node, &e.to_string());
            ViewError::from(e)
        };
        let deadline_ms = u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(0);
        let reply = timeout(SILENCE_MAX, client.live(ask))
            .await
            .map_err(|_| failed(RpcError::deadline(node, deadline_ms)))?
            .map_err(|status| failed(RpcError::from_status(node, &status)))?
            .into_inner();
        match reply.errno {
            0 => Ok(reply),
            errno => Err(ViewError::from_owner(errno)),
        }
    }
}

fn client(channel: Channel) -> ProcViewClient<Channel> {
    ProcViewClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
