//! Answers the other members' Raft.

use crate::codec;
use crate::command::{Proposal, Reply, SURVIVOR_EPOCH};
use crate::error::MetaError;
use crate::meta::Inner;
use crate::raft::{Types, votes};
use crate::snapshot;
use crate::wire;
use krg_rpc::proto::raft as proto;
use krg_rpc::proto::raft::raft_server::{Raft as RaftService, RaftServer};
use krg_rpc::tls::Caller;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_types::MemberId;
use krg_types::limits::{BATCH_COMMANDS_MAX, MESSAGE_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use std::sync::Arc;
use std::time::Duration;

/// A forwarded proposal may ask for so long, ms.
const TIMEOUT_MS_MAX: u32 = 60_000;

/// The service of one group.
#[derive(Clone)]
pub struct Service(pub(crate) Arc<Inner>);

impl Service {
    /// As a gRPC service.
    pub fn server(self) -> RaftServer<Service> {
        RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Who speaks: a member says so in its certificate, and must not say something else here.
    fn from(
        &self,
        envelope: Option<proto::Envelope>,
        extensions: &tonic::Extensions,
    ) -> Result<MemberId, Status> {
        let from = wire::check(envelope, self.0.group, self.0.own)?;
        match extensions.get::<Caller>() {
            Some(Caller { member: Some(member), .. }) if *member != from => {
                Err(Status::permission_denied(format!("member {member} speaks for {from}")))
            }
            _ => Ok(from),
        }
    }
}

/// A member that led once may go on sending from its log for a while when it already holds what a
/// later leader wrote there. Entries of a leader that this member has not voted for must not get
/// into its log: its own store would look damaged to it.
fn check_leaders(append: &AppendEntriesRequest<Types>) -> Result<(), Status> {
    let leader = append.vote.leader_id;
    match append.entries.iter().find(|entry| entry.log_id.leader_id > leader) {
        None => Ok(()),
        Some(entry) => {
            let id = entry.log_id;
            Err(Status::failed_precondition(format!("{leader} did not write entry {id}")))
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl RaftService for Service {
    async fn append(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendReply>, Status> {
        let (_, extensions, ask) = request.into_parts();
        let from = self.from(ask.envelope, &extensions)?;
        let (vote, majority) = (wire::vote_in(ask.vote)?, ask.majority);
        let append = AppendEntriesRequest::<Types> {
            vote,
            prev_log_id: wire::maybe_log_id_in(ask.prev)?,
            leader_commit: wire::maybe_log_id_in(ask.committed)?,
            entries: ask.entries.into_iter().map(wire::entry_in).collect::<Result<_, _>>()?,
        };
        check_leaders(&append)?;
        let reply = self.0.raft.append_entries(append).await.map_err(failed)?;
        if majority && !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.0.contacts.led_by(from);
        }
        Ok(Response::new(wire::append_out(reply)))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteReply>, Status> {
        let (_, extensions, ask) = request.into_parts();
        self.from(ask.envelope, &extensions)?;
        let vote = wire::vote_in(ask.vote)?;
        let vote = VoteRequest { vote, last_log_id: wire::maybe_log_id_in(ask.last)? };
        let reply = self.0.raft.vote(vote).await.map_err(failed)?;
        Ok(Response::new(wire::voted_out(&reply)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotPiece>>,
    ) -> Result<Response<proto::SnapshotReply>, Status> {
        let (_, extensions, mut pieces) = request.into_parts();
        let none = || Status::invalid_argument("a snapshot without pieces");
        let mut first = pieces.message().await?.ok_or_else(none)?;
        let from = self.from(first.envelope.take(), &extensions)?;
        let vote = wire::vote_in(first.vote)?;
        let meta = wire::snapshot_meta_in(&first.meta)?;
        let (mut data, mut last) = (std::mem::take(&mut first.data), first.last);
        while !last {
            let more = pieces.message().await?;
            let more = more.ok_or_else(|| Status::data_loss("a snapshot without its end"))?;
            if (data.len() + more.data.len()) as u64 > SNAPSHOT_BYTES_MAX {
                return Err(Status::resource_exhausted("a snapshot that is too long"));
            }
            data.extend_from_slice(&more.data);
            last = more.last;
            // A long transfer is a sign of life, too.
            self.0.contacts.led_by(from);
        }
        snapshot::check(&meta, &data).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let snapshot = Snapshot { meta, snapshot: Box::new(data) };
        let reply = self.0.raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
        Ok(Response::new(proto::SnapshotReply { vote: Some(wire::vote_out(&reply.vote)) }))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeReply>, Status> {
        let (_, extensions, ask) = request.into_parts();
        let from = self.from(ask.envelope, &extensions)?;
        if ask.commands.len() > BATCH_COMMANDS_MAX {
            return Err(Status::invalid_argument("too many commands at once"));
        }
        let proposals: Vec<Proposal> = ask
            .commands
            .iter()
            .map(|bytes| codec::decode(bytes))
            .collect::<Result<_, _>>()
            .map_err(|e| Status::invalid_argument(format!("a command cannot be read: {e}")))?;
        let foreign = |p: &Proposal| p.ticket.origin != from || p.ticket.epoch == SURVIVOR_EPOCH;
        if proposals.iter().any(foreign) {
            return Err(Status::permission_denied("a proposal in another member's name"));
        }
        let limit = Duration::from_millis(ask.timeout_ms.min(TIMEOUT_MS_MAX).into());
        let asked = proposals.into_iter().map(|p| self.0.proposer.propose_for(p, limit));
        let replies: Result<Vec<Reply>, MetaError> = all(asked).await;
        match replies {
            Ok(replies) => Ok(Response::new(proto::ProposeReply {
                replies: replies.iter().map(codec::encode).collect(),
                leader: None,
            })),
            Err(MetaError::NotLeader(leader)) => {
                let leader = Some(leader.map_or(0, MemberId::get));
                Ok(Response::new(proto::ProposeReply { replies: Vec::new(), leader }))
            }
            Err(e) => Err(Status::unavailable(e.to_string())),
        }
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexRequest>,
    ) -> Result<Response<proto::ReadIndexReply>, Status> {
        self.from(request.get_ref().envelope, request.extensions())?;
        let reply = match self.0.own_read_index().await {
            Ok(index) => proto::ReadIndexReply { index, leader: None },
            Err(MetaError::NotLeader(leader)) => {
                let leader = Some(leader.map_or(0, MemberId::get));
                proto::ReadIndexReply { index: 0, leader }
            }
            Err(e) => return Err(Status::unavailable(e.to_string())),
        };
        Ok(Response::new(reply))
    }

    async fn authority_keys(
        &self,
        request: Request<proto::AuthorityKeysRequest>,
    ) -> Result<Response<proto::AuthorityKeysReply>, Status> {
        let from = self.from(request.get_ref().envelope, request.extensions())?;
        let metrics = self.0.raft.metrics().borrow().membership_config.clone();
        if !votes(metrics.membership(), from) {
            return Err(Status::permission_denied("only voters keep the authority's key"));
        }
        let keys = (self.0.authority_keys)();
        Ok(Response::new(proto::AuthorityKeysReply { keys }))
    }
}

/// All of them at once; the first error, if there is one.
async fn all(
    asked: impl Iterator<Item = impl Future<Output = Result<Reply, MetaError>>>,
) -> Result<Vec<Reply>, MetaError> {
    futures_util::future::try_join_all(asked).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Entry, LogId, Vote};
    use krg_types::NodeId;
    use openraft::{CommittedLeaderId, EntryPayload};

    #[test]
    fn entries_of_a_later_leader_are_refused() {
        let member = |n| MemberId::new(NodeId::new(n).unwrap(), 1);
        let append = |terms: &[u64]| AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(25, member(1)),
            prev_log_id: None,
            leader_commit: None,
            entries: terms
                .iter()
                .zip(1..)
                .map(|(term, index)| Entry {
                    log_id: LogId::new(CommittedLeaderId::new(*term, member(1)), index),
                    payload: EntryPayload::Blank,
                })
                .collect(),
        };
        assert!(check_leaders(&append(&[])).is_ok());
        assert!(check_leaders(&append(&[1, 24, 25])).is_ok());
        assert!(check_leaders(&append(&[25, 27])).is_err());
    }
}
