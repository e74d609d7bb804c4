//! Raft's messages to other members, over gRPC.

use crate::contact::{Contacts, STALE_AFTER};
use crate::log::{Flushed, reached};
use crate::published::Published;
use crate::raft::{LogId, Types, Vote};
use crate::store::StoreError;
use crate::wire;
use krg_rpc::dial::Dial;
use krg_rpc::proto::raft as proto;
use krg_rpc::proto::raft::raft_client::RaftClient;
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::{Code, Status};
use krg_types::MemberId;
use krg_types::limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, Snapshot};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Bytes of entries sent at once over a link that has not shown its speed.
const FIRST_BUDGET_BYTES: usize = 256 << 10;
/// At most so many bytes of entries at once.
const BUDGET_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
/// And at least these: one entry passes in any case.
const BUDGET_BYTES_MIN: usize = 4 << 10;
/// Bytes of one piece of a snapshot.
const PIECE_BYTES: usize = 64 << 10;
/// After so many failures in a row a link is made anew.
const FAILURES_PER_CHANNEL: u32 = 3;
/// Between tries of a member that cannot be reached, ms.
const RETRY_MS: [u64; 3] = [100, 250, 500];

/// Word that something is agreed on waits so long for the own disk.
const FLUSH_WAIT: Duration = Duration::from_millis(50);

/// What all links of one member of one group share.
pub struct Network {
    /// This member.
    pub own: MemberId,
    /// Of this group.
    pub group: u32,
    /// Makes the channels.
    pub dial: Arc<dyn Dial>,
    /// Where members are, as agreed.
    pub published: Arc<Published>,
    /// Who answered when.
    pub contacts: Arc<Contacts>,
    /// Up to where the own log is durable.
    pub flushed: watch::Receiver<Flushed>,
}

impl Network {
    /// The agreed address of a member, or the one it had in Raft's own list.
    fn address(&self, target: MemberId, otherwise: &str) -> String {
        let view = self.published.load();
        view.state.member(target).map_or(otherwise, |n| &n.address).to_owned()
    }
}

impl Network {
    /// Has a majority of the voters answered this member lately, itself included?
    fn has_majority(&self) -> bool {
        let view = self.published.load();
        let heard = |voter: &MemberId| {
            let silent = self.contacts.silent_for(*voter);
            *voter == self.own || silent.is_some_and(|silent| silent < STALE_AFTER)
        };
        let voters: Vec<MemberId> = view.membership.membership().voter_ids().collect();
        2 * voters.iter().filter(|voter| heard(voter)).count() > voters.len()
    }
}

impl RaftNetworkFactory<Types> for Arc<Network> {
    type Network = Link;

    async fn new_client(&mut self, target: MemberId, node: &BasicNode) -> Link {
        Link {
            network: self.clone(),
            target,
            given_address: node.addr.clone(),
            channel: None,
            budget_bytes: FIRST_BUDGET_BYTES,
            failures: 0,
            under_way: false,
        }
    }
}

/// The way to one member.
pub struct Link {
    network: Arc<Network>,
    target: MemberId,
    given_address: String,
    channel: Option<(String, Channel)>,
    budget_bytes: usize,
    failures: u32,
    /// Set while an append waits for its answer; found set at the next one, it ran out of time.
    under_way: bool,
}

impl Link {
    fn client(&mut self) -> RaftClient<Channel> {
        let address = self.network.address(self.target, &self.given_address);
        let usable = self.failures < FAILURES_PER_CHANNEL;
        if self.channel.as_ref().is_none_or(|(at, _)| *at != address || !usable) {
            let channel = self.network.dial.channel(self.target, &address);
            self.channel = Some((address, channel));
            self.failures = 0;
        }
        let (_, channel) = self.channel.clone().unwrap_or_else(|| unreachable!("just set"));
        RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn envelope(&self) -> Option<proto::Envelope> {
        Some(wire::envelope(self.network.group, self.network.own, self.target))
    }

    /// What the other may apply: a leader's Raft believes its own entries to be on its disk before
    /// they are. With entries nothing waits, as another message follows when these are agreed on.
    async fn committed(&self, rpc: &AppendEntriesRequest<Types>) -> Option<LogId> {
        let mut flushed = self.network.flushed.clone();
        if let (Some(id), true) = (rpc.leader_commit, rpc.entries.is_empty()) {
            let _ = timeout(FLUSH_WAIT, reached(&mut flushed, id.index)).await;
        }
        flushed.borrow().limit(rpc.leader_commit)
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.network.contacts.answered(self.target);
    }

    /// Entries up to the link's budget, and whether that is all of them.
    fn cut(&self, rpc: &AppendEntriesRequest<Types>) -> (Vec<proto::Entry>, bool) {
        let mut entries = Vec::with_capacity(rpc.entries.len().min(1024));
        let mut bytes = 0;
        for entry in &rpc.entries {
            let entry = wire::entry_out(entry);
            bytes += entry.payload.len();
            if bytes > self.budget_bytes && !entries.is_empty() {
                return (entries, false);
            }
            entries.push(entry);
        }
        (entries, true)
    }
}

/// What a status means to Raft: try again at once, or after a while.
fn failure<E: std::error::Error>(status: &Status) -> RPCError<MemberId, BasicNode, E> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

type RaftRpcError<E = RaftError<MemberId>> = RPCError<MemberId, BasicNode, E>;

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, RaftRpcError> {
        if self.network.flushed.borrow().stalls() {
            // Who leads and can keep nothing falls silent, so that others elect another.
            let stalled = StoreError::Io("this leader's own disk does not answer".into());
            return Err(RPCError::Unreachable(Unreachable::new(&stalled)));
        }
        if std::mem::replace(&mut self.under_way, true) {
            // A slow link gets through with less at once.
            self.budget_bytes = (self.budget_bytes / 2).max(BUDGET_BYTES_MIN);
            self.failures += 1;
        }
        let committed = self.committed(&rpc).await;
        let (entries, all) = self.cut(&rpc);
        let sent = entries.len();
        let request = proto::AppendRequest {
            envelope: self.envelope(),
            vote: Some(wire::vote_out(&rpc.vote)),
            prev: rpc.prev_log_id.as_ref().map(wire::log_id_out),
            committed: committed.as_ref().map(wire::log_id_out),
            entries,
            majority: self.network.has_majority(),
        };
        let reply = self.client().append(request).await;
        self.under_way = false;
        let reply = reply.and_then(|reply| wire::append_in(reply.into_inner()));
        let reply = reply.map_err(|status| {
            self.failures += 1;
            failure(&status)
        })?;
        self.succeeded();
        if sent > 0 {
            self.budget_bytes = (self.budget_bytes * 2).min(BUDGET_BYTES_MAX);
        }
        match reply {
            AppendEntriesResponse::Success if !all => {
                let last = rpc.entries.get(sent - 1).map(|entry| entry.log_id);
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            reply => Ok(reply),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MemberId>, RaftRpcError> {
        let request = proto::VoteRequest {
            envelope: self.envelope(),
            vote: Some(wire::vote_out(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(wire::log_id_out),
        };
        let reply = self.client().vote(request).await;
        let reply = reply.and_then(|reply| wire::voted_in(reply.into_inner()));
        let reply = reply.map_err(|status| failure(&status))?;
        self.succeeded();
        Ok(reply)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, Fatal<MemberId>>> {
        let first = proto::SnapshotPiece {
            envelope: self.envelope(),
            vote: Some(wire::vote_out(&vote)),
            meta: wire::snapshot_meta_out(&snapshot.meta),
            ..proto::SnapshotPiece::default()
        };
        let data = *snapshot.snapshot;
        let pieces = data.len().div_ceil(PIECE_BYTES).max(1);
        let stream = tokio_stream::iter((0..pieces).map(move |n| {
            let range = n * PIECE_BYTES..data.len().min((n + 1) * PIECE_BYTES);
            let head = if n == 0 { first.clone() } else { proto::SnapshotPiece::default() };
            proto::SnapshotPiece { data: data[range].to_vec(), last: n + 1 == pieces, ..head }
        }));
        let mut client = self.client();
        let sent = tokio::select! {
            reply = client.snapshot(stream) => reply,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let unreachable = |status: Status| StreamingError::Unreachable(Unreachable::new(&status));
        let reply = sent.map_err(unreachable)?.into_inner();
        self.succeeded();
        Ok(SnapshotResponse { vote: wire::vote_in(reply.vote).map_err(unreachable)? })
    }

    fn backoff(&self) -> Backoff {
        let last = RETRY_MS[RETRY_MS.len() - 1];
        let pauses = RETRY_MS.into_iter().chain(std::iter::repeat(last));
        Backoff::new(pauses.map(Duration::from_millis))
    }
}

// One entry never exceeds what a message may hold.
const _: () = assert!(2 * BATCH_BYTES_MAX < MESSAGE_BYTES_MAX);
