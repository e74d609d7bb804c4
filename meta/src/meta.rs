//! One member's part in the agreement: the handle that the rest of the daemon holds.

use crate::command::{Command, Reply};
use crate::contact::{Contacts, STALE_AFTER};
use crate::error::MetaError;
use crate::log::LogStore;
use crate::network::Network;
use crate::open::Opened;
use crate::proposer::Proposer;
use crate::published::{Published, View};
use crate::raft::{Metrics, Raft};
use crate::reconcile;
use crate::serve::Service;
use crate::watch::{Feed, Subscription};
use crate::wire;
use krg_rpc::dial::Dial;
use krg_rpc::proto::raft::ReadIndexRequest;
use krg_rpc::proto::raft::raft_client::RaftClient;
use krg_types::MemberId;
use krg_types::limits::MESSAGE_BYTES_MAX;
use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::{BasicNode, ServerState, SnapshotPolicy};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The leader says this often that it is there, ms.
const HEARTBEAT_MS: u64 = 200;
/// Without a word of the leader for between these times (plus the longer of them, for which it
/// holds its lease) a voter stands for election, ms.
const ELECTION_MS: (u64, u64) = (400, 700);
/// Entries of the log between snapshots.
const ENTRIES_PER_SNAPSHOT: u64 = 10_000;
/// Entries kept for members that lag, when there is a snapshot of them.
const ENTRIES_KEPT: u64 = 2_000;
/// A read that must be up to date waits so long for the leader.
const READ_MAX: Duration = Duration::from_secs(2);

/// What a member needs to take part.
pub struct Options {
    /// Which membership.
    pub member: MemberId,
    /// Of which group.
    pub group: u32,
    /// Changes with each start of the daemon, and grows.
    pub epoch: u64,
    /// Makes channels to members.
    pub dial: Arc<dyn Dial>,
    /// 32 new random bytes as hexadecimal text, for a key.
    pub new_key: Arc<dyn Fn() -> String + Send + Sync>,
    /// The keys of the authorities that this member can sign for, PEM.
    pub authority_keys: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Tells members that they are none any more, while they can still be told.
    pub farewell: Farewell,
}

/// When the log is shortened. A simulation asks for it sooner, so that it happens at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// Entries of the log between snapshots.
    pub entries_per_snapshot: u64,
    /// Entries kept for members that lag, when there is a snapshot of them.
    pub entries_kept: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { entries_per_snapshot: ENTRIES_PER_SNAPSHOT, entries_kept: ENTRIES_KEPT }
    }
}

/// Tells the members in the list, each with its address, that their membership ends.
pub type Farewell = Arc<
    dyn Fn(Vec<(MemberId, String)>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// Everything that the tasks of one member share.
pub struct Inner {
    pub(crate) own: MemberId,
    pub(crate) group: u32,
    pub(crate) raft: Raft,
    pub(crate) published: Arc<Published>,
    pub(crate) contacts: Arc<Contacts>,
    pub(crate) network: Arc<Network>,
    pub(crate) log: LogStore,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) new_key: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) authority_keys: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    pub(crate) farewell: Farewell,
    feed: Arc<Feed>,
}

/// A member's part in one group.
#[derive(Clone)]
pub struct Meta(Arc<Inner>);

/// How the agreement stands, as seen from here.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Raft's own numbers.
    pub raft: Metrics,
    /// Who leads, as far as is known here.
    pub leader: Option<MemberId>,
    /// Since the leader was heard; on the leader: since a majority answered.
    pub leader_age: Option<Duration>,
    /// What is read here may be older than what others have acknowledged.
    pub stale: bool,
}

fn config(group: u32, tuning: Tuning) -> Result<openraft::Config, MetaError> {
    let config = openraft::Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 256,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(tuning.entries_per_snapshot),
        max_in_snapshot_log_to_keep: tuning.entries_kept,
        purge_batch_size: 256,
        ..openraft::Config::default()
    };
    config.validate().map_err(|e| MetaError::Failed(e.to_string()))
}

/// Nobody else can vote: it waits for no election.
async fn elect_alone(raft: &Raft, own: MemberId) -> Result<(), MetaError> {
    let failed = |e: String| MetaError::Failed(e);
    // Not by the metrics: they come a little later.
    let is_alone = raft.with_raft_state(move |state| {
        state.membership_state.effective().membership().voter_ids().eq([own])
    });
    if is_alone.await.map_err(|e| failed(e.to_string()))? {
        raft.trigger().elect().await.map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

impl Meta {
    /// Takes up a member's part with what its store holds. A store that is new waits for the
    /// leader's word, or for `found`.
    ///
    /// # Errors
    /// When the store fails at once.
    pub async fn start(opened: Opened, options: Options) -> Result<Meta, MetaError> {
        Meta::start_tuned(opened, options, Tuning::default()).await
    }

    /// As `start`, with other numbers.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_tuned(
        opened: Opened,
        options: Options,
        tuning: Tuning,
    ) -> Result<Meta, MetaError> {
        let Options { member, group, epoch, dial, new_key, authority_keys, farewell } = options;
        let Opened { log, machine, published, feed } = opened;
        let log = log.of(member).behind(machine.durable());
        let same_log = log.clone();
        let machine = machine.after(log.flushed());
        let contacts = Arc::new(Contacts::default());
        let network = Arc::new(Network {
            own: member,
            group,
            dial: dial.clone(),
            published: published.clone(),
            contacts: contacts.clone(),
            flushed: log.flushed(),
        });
        let config = Arc::new(config(group, tuning)?);
        let raft = Raft::new(member, config, network.clone(), log, machine)
            .await
            .map_err(|e| MetaError::Failed(e.to_string()))?;
        same_log.watch(raft.metrics());
        elect_alone(&raft, member).await?;
        let names = (member, group, epoch);
        let proposer = Proposer::start(names, raft.clone(), dial, published.clone());
        let inner = Arc::new(Inner {
            own: member,
            group,
            raft,
            published,
            contacts,
            network,
            log: same_log,
            proposer,
            new_key,
            authority_keys,
            farewell,
            feed,
        });
        tokio::spawn(reconcile::run(Arc::downgrade(&inner)));
        Ok(Meta(inner))
    }

    /// Makes a group of this member alone. Does nothing if the store holds one already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn found(&self, address: &str) -> Result<(), MetaError> {
        let fatal = |e: String| MetaError::Failed(e);
        if self.0.raft.is_initialized().await.map_err(|e| fatal(e.to_string()))? {
            return Ok(());
        }
        let alone = BTreeMap::from([(self.0.own, BasicNode { addr: address.to_owned() })]);
        self.0.raft.initialize(alone).await.map_err(|e| fatal(e.to_string()))
    }

    /// Which member this is.
    pub fn own(&self) -> MemberId {
        self.0.own
    }

    /// The service for the other members.
    pub fn service(&self) -> Service {
        Service(self.0.clone())
    }

    /// This member's copy of what is agreed. No lock, no message.
    pub fn view(&self) -> Arc<View> {
        self.0.published.load()
    }

    /// Wakes when more has been applied here.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.0.published.applied()
    }

    /// Wakes when something changes in who is a member, who votes, or whom to trust.
    pub fn members(&self) -> watch::Receiver<()> {
        self.0.published.members()
    }

    /// A copy that holds everything acknowledged anywhere before this question.
    ///
    /// # Errors
    /// `NoMajority` when that cannot be had now.
    pub async fn view_linearizable(&self) -> Result<Arc<View>, MetaError> {
        let none = || MetaError::NoMajority(READ_MAX.as_millis() as u64);
        timeout(READ_MAX, async {
            let index = self.0.read_index().await?;
            let mut applied = self.0.published.applied();
            let reached = applied.wait_for(|applied| *applied >= index).await;
            reached.map_err(|_| MetaError::Failed("it has ended".into()))?;
            Ok(self.view())
        })
        .await
        .map_err(|_| none())?
    }

    /// Proposes a command; the reply comes when it is agreed and this member's leader has applied
    /// it. Waits at most `limit`.
    ///
    /// # Errors
    /// As `MetaError` says. A refusal of the state machine is `Refused`.
    pub async fn propose(&self, command: Command, limit: Duration) -> Result<Reply, MetaError> {
        match self.0.proposer.propose(command, limit).await? {
            Reply::Refused(words) => Err(MetaError::Refused(words)),
            reply => Ok(reply),
        }
    }

    /// Waits until this member's own copy holds a revision.
    ///
    /// # Errors
    /// `NoMajority` after `limit`.
    pub async fn wait_revision(&self, revision: u64, limit: Duration) -> Result<(), MetaError> {
        let mut applied = self.0.published.applied();
        let reached = async {
            while self.view().state.revision < revision {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let none = |_| MetaError::NoMajority(limit.as_millis() as u64);
        timeout(limit, reached).await.map_err(none)
    }

    /// Changes from a revision on, each once, in order; 0: from now on.
    pub fn watch(&self, from: u64) -> Subscription {
        self.0.feed.subscribe(from)
    }

    /// Wakes when Raft's own numbers change.
    pub fn metrics(&self) -> watch::Receiver<Metrics> {
        self.0.raft.metrics()
    }

    /// How the agreement stands.
    pub fn standing(&self) -> Standing {
        let raft = self.0.raft.metrics().borrow().clone();
        let leads = raft.state == ServerState::Leader;
        let heard = self.0.contacts.leader();
        let leader_age = if leads {
            let alone = raft.membership_config.membership().voter_ids().eq([self.0.own]);
            let acked = raft.millis_since_quorum_ack.map(Duration::from_millis);
            if alone { Some(Duration::ZERO) } else { acked }
        } else {
            heard.map(|(_, age)| age)
        };
        let stale = leader_age.is_none_or(|age| age > STALE_AFTER);
        let leader = raft.current_leader.filter(|_| !stale);
        Standing { leader, leader_age, stale, raft }
    }

    /// The cluster's clock as seen from here, ms: it stands still while nobody leads.
    pub fn clock_ms(&self) -> u64 {
        match self.standing().stale {
            true => self.view().state.now_ms,
            false => self.0.proposer.clock_ms(),
        }
    }

    /// Since this member answered us; `None` if it never did.
    pub fn silent_for(&self, member: MemberId) -> Option<Duration> {
        self.0.contacts.silent_for(member)
    }

    /// Has a snapshot made now.
    ///
    /// # Errors
    /// When Raft has ended.
    pub async fn snapshot_now(&self) -> Result<(), MetaError> {
        let made = self.0.raft.trigger().snapshot().await;
        made.map_err(|e| MetaError::Failed(e.to_string()))
    }

    /// Returns when this member's part has failed, with the reason.
    pub async fn failure(&self) -> String {
        let mut flushed = self.0.log.flushed();
        let failed = async {
            let failed = flushed.wait_for(|flushed| flushed.failed.is_some()).await;
            failed.ok().and_then(|flushed| flushed.failed.as_ref().map(ToString::to_string))
        };
        tokio::select! {
            why = self.ended() => why,
            Some(why) = failed => why,
        }
    }

    async fn ended(&self) -> String {
        let mut metrics = self.0.raft.metrics();
        loop {
            if let Err(e) = &metrics.borrow_and_update().running_state {
                return e.to_string();
            }
            if metrics.changed().await.is_err() {
                return "it has ended".to_owned();
            }
        }
    }

    /// Ends this member's part; its store is closed when all handles are gone.
    pub async fn stop(&self) {
        if let Err(e) = self.0.raft.shutdown().await {
            tracing::warn!(error = %e, "the agreement did not end well");
        }
    }
}

impl Inner {
    /// The index that a reader on the leader itself must have applied.
    pub(crate) async fn own_read_index(&self) -> Result<u64, MetaError> {
        match self.raft.get_read_log_id().await {
            Ok((read, _)) => Ok(read.map_or(0, |id| id.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                Err(MetaError::NotLeader(to.leader_id))
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(MetaError::NoMajority(READ_MAX.as_millis() as u64))
            }
            Err(RaftError::Fatal(e)) => Err(MetaError::Failed(e.to_string())),
        }
    }

    /// The same, asked of whoever leads.
    async fn read_index(&self) -> Result<u64, MetaError> {
        let none = || MetaError::NoMajority(READ_MAX.as_millis() as u64);
        let leader = match self.own_read_index().await {
            Err(MetaError::NotLeader(leader)) => leader.ok_or_else(none)?,
            done => return done,
        };
        let channel = self.proposer.way_to(leader).ok_or_else(none)?;
        let mut client = RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let envelope = Some(wire::envelope(self.group, self.own, leader));
        let reply = client.read_index(ReadIndexRequest { envelope }).await;
        let reply = reply.map_err(|_| none())?.into_inner();
        match reply.leader {
            None => Ok(reply.index),
            Some(_) => Err(none()),
        }
    }
}
