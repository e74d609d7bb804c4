//! Why the agreement did not give what was asked of it.

use krg_types::MemberId;

/// An error of a proposal or a read.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum MetaError {
    /// Nobody agreed in time. It may have been done all the same, or be done a little later.
    #[error(
        "no majority of the voters answered within {0} ms; whether it was done is not known \
         (krg cluster status tells who is missing)"
    )]
    NoMajority(u64),
    /// Too many proposals are under way.
    #[error("too many changes are under way on this node: try again")]
    Busy,
    /// The command is longer than an entry may be.
    #[error("a change of {bytes} bytes is too long (at most {max})")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Some member does not know this command yet.
    #[error(
        "not every node runs a krgd that knows this: state version {needed} is needed, \
         {common} is what all have"
    )]
    TooNew {
        /// The version that knows it.
        needed: u32,
        /// What all members know.
        common: u32,
    },
    /// The state machine says no, in words for a user.
    #[error("{0}")]
    Refused(String),
    /// Asked of somebody who does not lead; who does, if that is known.
    #[error("this node does not lead")]
    NotLeader(Option<MemberId>),
    /// The store or Raft itself has failed: this daemon cannot go on agreeing.
    #[error("the store of this node has failed: {0}")]
    Failed(String),
}
