//! Raft's words and those of raft.proto: from one to the other. What a peer sends is checked here.

use crate::codec::{self, Stored};
use crate::log::{decode_payload, encode_payload};
use crate::raft::{Entry, LogId, Vote};
use krg_rpc::proto::raft as proto;
use krg_rpc::tonic::Status;
use krg_types::MemberId;
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::version::understood;
use openraft::raft::{AppendEntriesResponse, VoteResponse};
use openraft::{BasicNode, CommittedLeaderId, LeaderId};
use serde::{Deserialize, Serialize};

/// Who is being spoken to, as which member of which group.
pub fn envelope(group: u32, from: MemberId, to: MemberId) -> proto::Envelope {
    proto::Envelope { version: PROTOCOL_VERSION, group, from: from.get(), to: to.get() }
}

/// A message for this member of this group; who sent it.
///
/// # Errors
/// FAILED_PRECONDITION: it is for another membership of this node, or of another group or version.
pub fn check(
    envelope: Option<proto::Envelope>,
    group: u32,
    own: MemberId,
) -> Result<MemberId, Status> {
    let refuse = |words: String| Err(Status::failed_precondition(words));
    let Some(envelope) = envelope else { return refuse("a message without its envelope".into()) };
    if !understood(envelope.version) {
        let theirs = envelope.version;
        return refuse(format!("protocol version {theirs}, this node speaks {PROTOCOL_VERSION}"));
    }
    if envelope.group != group {
        return refuse(format!("no group {} is here", envelope.group));
    }
    if envelope.to != own.get() {
        return refuse(format!("this node is member {own} now"));
    }
    match MemberId::from_u64(envelope.from) {
        Some(from) => Ok(from),
        None => refuse("nobody's message".into()),
    }
}

fn member(n: u64) -> Result<MemberId, Status> {
    MemberId::from_u64(n).ok_or_else(|| Status::invalid_argument(format!("{n} is no member")))
}

/// A vote for the wire.
pub fn vote_out(vote: &Vote) -> proto::Vote {
    let LeaderId { term, node_id } = vote.leader_id;
    proto::Vote { term, member: node_id.get(), committed: vote.committed }
}

/// A vote from the wire.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn vote_in(vote: Option<proto::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("a message without a vote"))?;
    let leader_id = LeaderId::new(vote.term, member(vote.member)?);
    Ok(Vote { leader_id, committed: vote.committed })
}

/// A place in the log for the wire.
pub fn log_id_out(id: &LogId) -> proto::LogId {
    let LeaderId { term, node_id } = id.leader_id;
    proto::LogId { term, member: node_id.get(), index: id.index }
}

/// A place in the log from the wire. The place before everything, which a new cluster's first
/// entry has, names nobody.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn log_id_in(id: proto::LogId) -> Result<LogId, Status> {
    let nobody = id.member == 0 && id.term == 0 && id.index == 0;
    let leader = if nobody { MemberId::default() } else { member(id.member)? };
    Ok(LogId::new(CommittedLeaderId::new(id.term, leader), id.index))
}

/// The same for one that may be absent.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn maybe_log_id_in(id: Option<proto::LogId>) -> Result<Option<LogId>, Status> {
    id.map(log_id_in).transpose()
}

/// An entry for the wire, in its stored form.
pub fn entry_out(entry: &Entry) -> proto::Entry {
    let payload = encode_payload(&entry.payload);
    proto::Entry { id: Some(log_id_out(&entry.log_id)), payload }
}

/// An entry from the wire.
///
/// # Errors
/// INVALID_ARGUMENT: its bytes are not an entry's.
pub fn entry_in(entry: proto::Entry) -> Result<Entry, Status> {
    let id = entry.id.ok_or_else(|| Status::invalid_argument("an entry without its place"))?;
    let payload = decode_payload(&entry.payload)
        .map_err(|e| Status::invalid_argument(format!("an entry cannot be read: {e}")))?;
    Ok(Entry { log_id: log_id_in(id)?, payload })
}

/// The answer to an append, for the wire.
pub fn append_out(reply: AppendEntriesResponse<MemberId>) -> proto::AppendReply {
    use proto::append_reply::Outcome;
    let (outcome, matching, vote) = match reply {
        AppendEntriesResponse::Success => (Outcome::Success, None, None),
        AppendEntriesResponse::PartialSuccess(id) => (Outcome::Partial, id, None),
        AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
        AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
    };
    proto::AppendReply {
        outcome: outcome.into(),
        matching: matching.as_ref().map(log_id_out),
        vote: vote.as_ref().map(vote_out),
    }
}

/// The answer to an append, from the wire.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn append_in(reply: proto::AppendReply) -> Result<AppendEntriesResponse<MemberId>, Status> {
    use proto::append_reply::Outcome;
    Ok(match reply.outcome() {
        Outcome::Success => AppendEntriesResponse::Success,
        Outcome::Partial => {
            AppendEntriesResponse::PartialSuccess(maybe_log_id_in(reply.matching)?)
        }
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::HigherVote => AppendEntriesResponse::HigherVote(vote_in(reply.vote)?),
    })
}

/// The answer to a vote, for the wire.
pub fn voted_out(reply: &VoteResponse<MemberId>) -> proto::VoteReply {
    proto::VoteReply {
        vote: Some(vote_out(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(log_id_out),
    }
}

/// The answer to a vote, from the wire.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn voted_in(reply: proto::VoteReply) -> Result<VoteResponse<MemberId>, Status> {
    Ok(VoteResponse {
        vote: vote_in(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: maybe_log_id_in(reply.last)?,
    })
}

type SnapshotMeta = openraft::SnapshotMeta<MemberId, BasicNode>;

/// What a snapshot holds, in its stored form.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Described(SnapshotMeta);

impl Stored for Described {
    const VERSION: u8 = 1;
}

/// A snapshot's description for the wire.
pub fn snapshot_meta_out(meta: &SnapshotMeta) -> Vec<u8> {
    codec::encode(&Described(meta.clone()))
}

/// A snapshot's description from the wire.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn snapshot_meta_in(bytes: &[u8]) -> Result<SnapshotMeta, Status> {
    let words = |e| Status::invalid_argument(format!("a snapshot's description: {e}"));
    codec::decode::<Described>(bytes).map(|described| described.0).map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;

    fn someone() -> MemberId {
        MemberId::new(NodeId::new(3).unwrap(), 9)
    }

    #[test]
    fn words_come_back_as_they_went() {
        let id = LogId::new(CommittedLeaderId::new(4, someone()), 17);
        let vote = Vote::new_committed(5, someone());
        assert_eq!(log_id_in(log_id_out(&id)).unwrap(), id);
        assert_eq!(log_id_in(log_id_out(&LogId::default())).unwrap(), LogId::default());
        assert_eq!(vote_in(Some(vote_out(&vote))).unwrap(), vote);
        for reply in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(id)),
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ] {
            let words = format!("{reply:?}");
            assert_eq!(format!("{:?}", append_in(append_out(reply)).unwrap()), words);
        }
    }

    #[test]
    fn a_message_for_somebody_else_is_refused() {
        let other = MemberId::new(NodeId::new(3).unwrap(), 8);
        let good = envelope(0, other, someone());
        assert_eq!(check(Some(good), 0, someone()).unwrap(), other);
        for bad in [
            None,
            Some(envelope(1, other, someone())),
            Some(envelope(0, someone(), other)),
            Some(proto::Envelope { version: 99, ..good }),
            Some(proto::Envelope { from: 0, ..good }),
        ] {
            assert!(check(bad, 0, someone()).is_err(), "{bad:?}");
        }
    }
}
