//! One node's subscription: asked for a sample when a reader finds the last one too old, and once
//! a second while somebody looks.

use super::{SILENCE_MAX, client};
use crate::news::{News, Teller};
use crate::store::NodeView;
use arc_swap::ArcSwap;
use krg_rpc::peers::Peers;
use krg_rpc::proto::proc as wire;
use krg_rpc::status::RpcError;
use krg_rpc::tonic::Streaming;
use krg_rpc::tonic::transport::Channel;
use krg_types::NodeId;
use krg_types::limits::{PROTOCOL_VERSION, WANTS_WAITING_MAX};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// Between two samples while somebody looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Somebody looks if he has asked so short a time ago.
const LOOKS_MAX: Duration = Duration::from_secs(3);
/// A subscription nobody used for so long is ended: no viewer, no work.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// What readers and the subscription of one node share.
pub(super) struct Link {
    node: NodeId,
    pub view: ArcSwap<NodeView>,
    /// What it was before: who has been told of a text may read that one.
    pub before: ArcSwap<NodeView>,
    pub asks: mpsc::Sender<Ask>,
    /// When somebody looked last, ms since `begun`.
    looked_ms: AtomicU64,
    begun: Instant,
    /// Is it known that nobody looks?
    idle: AtomicBool,
    teller: Arc<OnceLock<Arc<Teller>>>,
    edition: Arc<AtomicU64>,
}

/// A reader wants something no older than this.
pub(super) struct Ask {
    pub procs: bool,
    pub files: u64,
    pub max_age: Duration,
    pub texts_max_age: Duration,
    pub done: oneshot::Sender<()>,
}

impl Link {
    pub fn new(
        node: NodeId,
        asks: mpsc::Sender<Ask>,
        teller: Arc<OnceLock<Arc<Teller>>>,
        edition: Arc<AtomicU64>,
    ) -> Link {
        let empty = || ArcSwap::from_pointee(NodeView::new(node));
        let (looked_ms, idle) = (AtomicU64::new(0), AtomicBool::new(true));
        let (view, before, begun) = (empty(), empty(), Instant::now());
        Link { node, view, before, asks, looked_ms, begun, idle, teller, edition }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody looks at this node's processes.
    pub fn look(&self) {
        self.looked_ms.store(self.now_ms(), Ordering::Relaxed);
        self.idle.store(false, Ordering::Relaxed);
    }

    /// Does somebody? The first time that nobody does, it is told.
    fn is_looked_at(&self) -> bool {
        let silent_ms = self.now_ms().saturating_sub(self.looked_ms.load(Ordering::Relaxed));
        let looked_at = u128::from(silent_ms) <= LOOKS_MAX.as_millis();
        if !looked_at {
            self.idle();
        }
        looked_at && !self.idle.load(Ordering::Relaxed)
    }

    fn idle(&self) {
        if !self.idle.swap(true, Ordering::Relaxed) {
            self.tell(News::Idle(self.node));
        }
    }

    fn tell(&self, news: News) {
        if let Some(teller) = self.teller.get() {
            teller.tell(news);
        }
    }

    fn publish(&self, old: &Arc<NodeView>, new: Arc<NodeView>) {
        let other = !Arc::ptr_eq(&old.procs, &new.procs);
        if other {
            self.before.store(old.clone());
        }
        self.view.store(new.clone());
        self.edition.fetch_add(1, Ordering::SeqCst);
        if other {
            self.tell(News::View { old: old.clone(), new });
        }
    }
}

/// Serves the readers' asks of one node: subscribes when the first comes, and again after a
/// failure when the next comes.
pub(super) async fn follow(
    peers: Arc<dyn Peers>,
    node: NodeId,
    link: Arc<Link>,
    mut asks: mpsc::Receiver<Ask>,
) {
    while let Some(first) = asks.recv().await {
        let Some(peer) = peers.get(node).filter(|p| p.up) else { continue };
        let subscription = Subscription {
            node,
            cluster: peers.cluster(),
            link: &link,
            // A new stream starts from nothing; readers keep the old values until it is whole.
            next: NodeView::new(node),
            waiting: BTreeMap::new(),
            last_id: 0,
            heard: Instant::now(),
            sampled: Instant::now(),
            follows: false,
        };
        if let Err(e) = subscription.run(peer.channel, first, &mut asks).await {
            tracing::debug!(node = %node, error = %e, "subscription ended");
            peers.failed(node, &e.to_string());
        }
        link.idle();
    }
}

struct Subscription<'a> {
    node: NodeId,
    cluster: Arc<str>,
    link: &'a Link,
    next: NodeView,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    last_id: u64,
    /// When the node was last heard of on this stream.
    heard: Instant,
    /// When the texts of its processes were last asked for.
    sampled: Instant,
    /// Is it known what of this stream's processes the kernel knows?
    follows: bool,
}

impl Subscription<'_> {
    async fn run(
        mut self,
        channel: Channel,
        first: Ask,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> Result<(), RpcError> {
        let (wants, rx) = mpsc::channel(WANTS_WAITING_MAX);
        self.ask(first, &wants);
        let mut client = client(channel);
        let open = timeout(SILENCE_MAX, client.watch(ReceiverStream::new(rx))).await;
        let mut frames = open
            .map_err(|_| self.silent())?
            .map_err(|status| RpcError::from_status(self.node, &status))?
            .into_inner();
        self.heard = Instant::now();
        loop {
            let waits = !self.waiting.is_empty();
            let until = self.heard + if waits { SILENCE_MAX } else { IDLE_MAX };
            let next = self.sampled + PERIOD;
            tokio::select! {
                () = sleep_until(next), if !waits && self.link.is_looked_at() => {
                    self.sample(&wants);
                }
                ask = asks.recv() => match ask {
                    Some(ask) => self.ask(ask, &wants),
                    None => return Ok(()),
                },
                frame = frames.message() => self.take(frame)?,
                () = sleep_until(until) => match waits {
                    true => self.last_look(&mut frames).await?,
                    false => return Ok(()),
                },
            }
        }
    }

    fn silent(&self) -> RpcError {
        let ms = u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(0);
        RpcError::deadline(self.node, ms)
    }

    /// The deadline has passed by our clock; if we were the ones who slept (stopped, or
    /// starved of the processor), the answer may be here already.
    async fn last_look(&mut self, frames: &mut Streaming<wire::Frame>) -> Result<(), RpcError> {
        match timeout(Duration::from_millis(1), frames.message()).await {
            Ok(frame) => self.take(frame),
            Err(_) => Err(self.silent()),
        }
    }

    fn ask(&mut self, ask: Ask, wants: &mpsc::Sender<wire::Want>) {
        self.last_id += 1;
        let want = wire::Want {
            version: PROTOCOL_VERSION,
            cluster: self.cluster.to_string(),
            id: self.last_id,
            procs: ask.procs,
            files: ask.files,
            max_age_ms: millis(ask.max_age),
            texts_max_age_ms: millis(ask.texts_max_age),
            shared_texts: true,
        };
        if ask.procs {
            self.sampled = Instant::now();
        }
        if self.waiting.is_empty() {
            self.heard = Instant::now();
        }
        if wants.try_send(want).is_ok() {
            self.waiting.insert(self.last_id, ask.done);
        }
    }

    /// Asks for what has changed, on its own account. Another viewer's sample will do.
    fn sample(&mut self, wants: &mpsc::Sender<wire::Want>) {
        let (done, _) = oneshot::channel();
        let age = PERIOD - PERIOD / 20;
        self.ask(Ask { procs: true, files: 0, max_age: age, texts_max_age: age, done }, wants);
        self.sampled = Instant::now();
    }

    fn take(
        &mut self,
        frame: Result<Option<wire::Frame>, krg_rpc::tonic::Status>,
    ) -> Result<(), RpcError> {
        let frame = frame
            .map_err(|status| RpcError::from_status(self.node, &status))?
            .ok_or_else(|| RpcError::Unreachable(self.node, "it ended the stream".into()))?;
        self.heard = Instant::now();
        let (answers, more) = (frame.answers, frame.more);
        self.next
            .apply(frame)
            .map_err(|e| RpcError::Refused(self.node, format!("bad frame: {e}")))?;
        if !more {
            self.publish();
        }
        if let Some(done) = self.waiting.remove(&answers) {
            let _ = done.send(());
        }
        Ok(())
    }

    /// Readers see whole answers only. What this stream has not been asked for yet stays as the
    /// stream before it left it.
    fn publish(&mut self) {
        let old = self.link.view.load_full();
        if self.next.procs_stamp_ns != 0 && !self.follows {
            self.next.follow(&old);
            self.follows = true;
        }
        let mut new = self.next.clone();
        if new.procs_stamp_ns == 0 {
            new.procs_stamp_ns = old.procs_stamp_ns;
            new.list_stamp_ns = old.list_stamp_ns;
            new.procs = old.procs.clone();
            new.numbers = old.numbers.clone();
        }
        for (new, old) in new.files.iter_mut().zip(&old.files) {
            if new.stamp_ns == 0 {
                *new = old.clone();
            }
        }
        self.link.publish(&old, Arc::new(new));
    }
}

fn millis(age: Duration) -> u32 {
    u32::try_from(age.as_millis()).unwrap_or(u32::MAX)
}
