//! The types that this project gives to openraft.

use crate::command::{Batch, Replies};
use krg_types::MemberId;

openraft::declare_raft_types!(
    /// What is agreed on: batches of commands, between memberships.
    pub Types:
        D = Batch,
        R = Replies,
        NodeId = MemberId,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Vec<u8>,
        AsyncRuntime = crate::runtime::Runtime,
);

/// A Raft of these types.
pub type Raft = openraft::Raft<Types>;
/// One entry of the log.
pub type Entry = openraft::Entry<Types>;
/// The place of an entry in the log.
pub type LogId = openraft::LogId<MemberId>;
/// A vote, or the leader's title.
pub type Vote = openraft::Vote<MemberId>;
/// Raft's own numbers.
pub type Metrics = openraft::RaftMetrics<MemberId, openraft::BasicNode>;
/// Raft's own list of members.
pub type Members = openraft::Membership<MemberId, openraft::BasicNode>;
/// Members as an entry of the log gives them.
pub type StoredMembership = openraft::StoredMembership<MemberId, openraft::BasicNode>;
/// An error of the store, as openraft wants it.
pub type StorageError = openraft::StorageError<MemberId>;

/// Does this member vote, as the list has it?
pub fn votes(list: &Members, member: MemberId) -> bool {
    list.voter_ids().any(|voter| voter == member)
}
