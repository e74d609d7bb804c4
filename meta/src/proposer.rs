//! Proposals on their way: gathered into batches, sent to whoever leads, sent again until they are
//! answered. Tickets make sure that each is done once.

use crate::clock::ClusterClock;
use crate::codec;
use crate::command::{Batch, Command, Proposal, Reply, Ticket};
use crate::error::MetaError;
use crate::published::Published;
use crate::raft::{Raft, Types};
use crate::wire;
use krg_rpc::dial::Dial;
use krg_rpc::proto::raft::ProposeRequest;
use krg_rpc::proto::raft::raft_client::RaftClient;
use krg_rpc::tonic::transport::Channel;
use krg_types::MemberId;
use krg_types::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX, MESSAGE_BYTES_MAX,
    PROPOSALS_WAITING_MAX,
};
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Batches under way at once: while one is being replicated the next is being written.
const BATCHES_MAX: usize = 4;
/// Between tries while nobody leads; a change of leader ends the wait.
const RETRY: Duration = Duration::from_millis(100);
/// One try of a forwarded batch may take so long.
const FORWARD_MAX: Duration = Duration::from_secs(2);

/// A proposal that waits for its reply.
struct Waiting {
    proposal: Proposal,
    bytes: usize,
    deadline: Instant,
    /// It came from another member, who will look for the leader itself.
    forwarded: bool,
    reply: oneshot::Sender<Result<Reply, MetaError>>,
}

/// What proposals need.
pub struct Proposer {
    own: MemberId,
    group: u32,
    epoch: u64,
    raft: Raft,
    dial: Arc<dyn Dial>,
    published: Arc<Published>,
    clock: ClusterClock,
    queue: mpsc::Sender<Waiting>,
    numbers: AtomicU64,
    /// Numbers whose replies somebody still waits for.
    open: Mutex<BTreeSet<u64>>,
    way: Mutex<Option<(MemberId, Channel)>>,
}

/// Takes a number from those that somebody waits for, however the wait ends.
struct Open<'a>(&'a Proposer, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.0.open).remove(&self.1);
    }
}

impl Proposer {
    /// Starts taking proposals of the life `epoch` of member `own`.
    pub fn start(
        (own, group, epoch): (MemberId, u32, u64),
        raft: Raft,
        dial: Arc<dyn Dial>,
        published: Arc<Published>,
    ) -> Arc<Proposer> {
        let (queue, waiting) = mpsc::channel(PROPOSALS_WAITING_MAX);
        let proposer = Arc::new(Proposer {
            own,
            group,
            epoch,
            raft,
            dial,
            published,
            clock: ClusterClock::default(),
            queue,
            numbers: AtomicU64::new(1),
            open: Mutex::default(),
            way: Mutex::default(),
        });
        tokio::spawn(run(Arc::downgrade(&proposer), waiting));
        proposer
    }

    /// Proposes a command and waits for its reply.
    ///
    /// # Errors
    /// As `MetaError` says; `NoMajority` leaves open whether it was done.
    pub async fn propose(&self, command: Command, limit: Duration) -> Result<Reply, MetaError> {
        let (needed, common) =
            (command.since(), self.published.load().state.info().state_version);
        if needed > common.max(1) {
            return Err(MetaError::TooNew { needed, common });
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (_open, settled) = self.open(number);
        let ticket = Ticket { origin: self.own, epoch: self.epoch, number, settled };
        self.ask(Proposal { ticket, command }, Instant::now() + limit, false).await
    }

    /// Proposes what another member has forwarded.
    ///
    /// # Errors
    /// `NotLeader` if this member does not lead; else as `propose`.
    pub async fn propose_for(
        &self,
        proposal: Proposal,
        limit: Duration,
    ) -> Result<Reply, MetaError> {
        self.ask(proposal, Instant::now() + limit, true).await
    }

    fn open(&self, number: u64) -> (Open<'_>, u64) {
        let mut open = lock(&self.open);
        open.insert(number);
        let settled = open.first().copied().unwrap_or(number);
        (Open(self, number), settled)
    }

    async fn ask(
        &self,
        proposal: Proposal,
        deadline: Instant,
        forwarded: bool,
    ) -> Result<Reply, MetaError> {
        let begun = Instant::now();
        let bytes = codec::encode(&proposal).len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(MetaError::TooLong { bytes, max: COMMAND_BYTES_MAX });
        }
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { proposal, bytes, deadline, forwarded, reply };
        self.queue.try_send(waiting).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => MetaError::Busy,
            mpsc::error::TrySendError::Closed(_) => MetaError::Failed("it has ended".into()),
        })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(MetaError::Failed("it has ended".into())),
            Err(_) => Err(MetaError::NoMajority(begun.elapsed().as_millis() as u64)),
        }
    }

    /// The cluster's clock, ms; within a term it must be asked once for it to go on.
    pub(crate) fn clock_ms(&self) -> u64 {
        let term = self.raft.metrics().borrow().current_term;
        self.clock.now_ms(term, self.published.load().state.now_ms)
    }

    fn leader(&self) -> Option<MemberId> {
        self.raft.metrics().borrow().current_leader
    }

    /// A channel to whoever leads.
    pub(crate) fn way_to(&self, leader: MemberId) -> Option<Channel> {
        let mut way = lock(&self.way);
        if let Some((to, channel)) = way.as_ref()
            && *to == leader
        {
            return Some(channel.clone());
        }
        let address = self.published.load().state.member(leader).map(|n| n.address.clone());
        let address = address.or_else(|| {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let members = metrics.membership_config.membership();
            members.get_node(&leader).map(|node| node.addr.clone())
        })?;
        let channel = self.dial.channel(leader, &address);
        *way = Some((leader, channel.clone()));
        Some(channel)
    }
}

// A panic while it was held leaves plain values that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Gathers what waits into batches and sends them on, until the proposer is gone.
async fn run(proposer: std::sync::Weak<Proposer>, mut waiting: mpsc::Receiver<Waiting>) {
    let under_way = Arc::new(Semaphore::new(BATCHES_MAX));
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        let (mut batch, mut bytes) = (vec![first], 0);
        while batch.len() < BATCH_COMMANDS_MAX {
            let Ok(more) = waiting.try_recv() else { break };
            bytes += more.bytes;
            if bytes + batch[0].bytes > BATCH_BYTES_MAX {
                next = Some(more);
                break;
            }
            batch.push(more);
        }
        let Some(proposer) = proposer.upgrade() else { return };
        batch.retain(|w| !w.reply.is_closed() && w.deadline > Instant::now());
        if batch.is_empty() {
            continue;
        }
        if proposer.leader() == Some(proposer.own) {
            // Handed over here, not in a task of its own: batches keep their order.
            let answer = proposer.raft.client_write_ff(as_entry(&proposer, &batch)).await;
            tokio::spawn(async move {
                match answer {
                    Ok(answer) => proposer.await_answer(batch, answer).await,
                    Err(e) => fail(batch, &MetaError::Failed(e.to_string())),
                }
                drop(permit);
            });
        } else {
            tokio::spawn(async move {
                proposer.forward(batch).await;
                drop(permit);
            });
        }
    }
}

fn as_entry(proposer: &Proposer, batch: &[Waiting]) -> Batch {
    let now_ms = proposer.clock_ms();
    Batch { now_ms, proposals: batch.iter().map(|w| w.proposal.clone()).collect() }
}

fn fail(batch: Vec<Waiting>, error: &MetaError) {
    for waiting in batch {
        // Who asked may have given up.
        let _ = waiting.reply.send(Err(error.clone()));
    }
}

fn answer(batch: Vec<Waiting>, replies: Vec<Reply>) {
    for (waiting, reply) in batch.into_iter().zip(replies) {
        let _ = waiting.reply.send(Ok(reply));
    }
}

impl Proposer {
    /// Waits for what becomes of a batch, but no longer than those who asked: Raft answers never
    /// if this member stopped leading and a snapshot took the place of the entry.
    async fn await_answer(
        &self,
        batch: Vec<Waiting>,
        answer: impl Future<Output = Result<ClientWriteResult<Types>, impl Sized>>,
    ) {
        let until = batch.iter().map(|w| w.deadline).max().unwrap_or_else(Instant::now);
        let begun = Instant::now();
        match timeout_at(until, answer).await {
            Ok(answer) => self.settle(batch, answer.ok()).await,
            Err(_) => {
                let waited_ms = begun.elapsed().as_millis() as u64;
                fail(batch, &MetaError::NoMajority(waited_ms));
            }
        }
    }

    /// What became of a batch that this member proposed as the leader.
    async fn settle(&self, batch: Vec<Waiting>, result: Option<ClientWriteResult<Types>>) {
        match result {
            Some(Ok(done)) => answer(batch, done.data.0),
            Some(Err(ClientWriteError::ForwardToLeader(to))) => {
                self.again(batch, to.leader_id).await;
            }
            Some(Err(e)) => fail(batch, &MetaError::Failed(e.to_string())),
            None => match self.raft.metrics().borrow().running_state.clone() {
                Err(e) => fail(batch, &MetaError::Failed(e.to_string())),
                Ok(()) => fail(batch, &MetaError::Failed("it has ended".into())),
            },
        }
    }

    /// Sends a batch to the leader, if there is one.
    async fn forward(&self, batch: Vec<Waiting>) {
        let (forwarded, own): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.forwarded);
        fail(forwarded, &MetaError::NotLeader(self.leader()));
        if own.is_empty() {
            return;
        }
        let leader = self.leader().filter(|leader| *leader != self.own);
        let Some((leader, channel)) = leader.and_then(|to| Some((to, self.way_to(to)?))) else {
            return self.again(own, None).await;
        };
        let until = own.iter().map(|w| w.deadline).max().unwrap_or_else(Instant::now);
        let until = until.min(Instant::now() + FORWARD_MAX);
        let request = ProposeRequest {
            envelope: Some(wire::envelope(self.group, self.own, leader)),
            commands: own.iter().map(|w| codec::encode(&w.proposal)).collect(),
            timeout_ms: until.saturating_duration_since(Instant::now()).as_millis() as u32,
        };
        let mut client = RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let reply = match timeout_at(until, client.propose(request)).await {
            Ok(Ok(reply)) => reply.into_inner(),
            _ => {
                *lock(&self.way) = None;
                return self.again(own, None).await;
            }
        };
        let replies: Result<Vec<Reply>, _> =
            reply.replies.iter().map(|bytes| codec::decode(bytes)).collect();
        match replies {
            Ok(replies) if replies.len() == own.len() => answer(own, replies),
            _ => self.again(own, reply.leader.and_then(MemberId::from_u64)).await,
        }
    }

    /// Waits for a leader, then puts a batch back into the queue. `hint` leads, as somebody says.
    async fn again(&self, batch: Vec<Waiting>, hint: Option<MemberId>) {
        let (forwarded, own): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.forwarded);
        fail(forwarded, &MetaError::NotLeader(hint));
        let mut metrics = self.raft.metrics();
        let before = metrics.borrow_and_update().current_leader;
        let changed = async {
            while metrics.changed().await.is_ok() {
                let now = metrics.borrow_and_update().current_leader;
                if now.is_some() && now != before {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            () = changed => {}
            () = sleep_until(Instant::now() + RETRY) => {}
        }
        for waiting in own.into_iter().filter(|w| !w.reply.is_closed()) {
            if let Err(e) = self.queue.try_send(waiting) {
                // Not `Busy`: an earlier try may have been done.
                fail(vec![e.into_inner()], &MetaError::NoMajority(RETRY.as_millis() as u64));
            }
        }
    }
}
