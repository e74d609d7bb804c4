//! What is asked of the state, and how it answers.

use crate::codec::Stored;
use crate::table::{admission, config, leases, nodes, sequences, sets, tokens, trust};
use krg_types::MemberId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One change of the state. A new kind is added at the end, with the state version that knows it
/// (`since`): it is not proposed while a member is older.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The configuration.
    Config(config::Command),
    /// Named sets of nodes.
    Sets(sets::Command),
    /// Sequence numbers.
    Sequences(sequences::Command),
    /// Leases.
    Leases(leases::Command),
    /// Records of nodes, and the map.
    Nodes(nodes::Command),
    /// Join tokens.
    Tokens(tokens::Command),
    /// Authorities, gossip keys, certificates.
    Trust(trust::Command),
    /// Joining and leaving, which touch several tables at once.
    Admission(admission::Command),
}

impl Command {
    /// The first state version that knows this command.
    pub fn since(&self) -> u32 {
        1
    }
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done; the revision that did it.
    Done(u64),
    /// The condition did not hold: the key's revision (0: it is not there).
    NotNow(u64),
    /// A number that was given out.
    Number(u64),
    /// A lease: it is held by this owner for so many ms more.
    Held {
        /// Who.
        owner: MemberId,
        /// How long still, ms of the cluster's clock.
        left_ms: u64,
        /// Grows with each change of hands.
        fence: u64,
    },
    /// A join was admitted under this membership.
    Admitted(MemberId),
    /// Refused, and why, in words for a user.
    Refused(String),
}

/// In this life speaks who goes on alone after the others were lost: nobody else does, and it is
/// above all that there were, and all that will be asked.
pub const SURVIVOR_EPOCH: u64 = u64::MAX;

/// Names one proposal, so that it is done once however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Who proposes.
    pub origin: MemberId,
    /// Changes when the proposer restarts.
    pub epoch: u64,
    /// Counts the proposer's proposals.
    pub number: u64,
    /// The proposer has the replies of all numbers below this one.
    pub settled: u64,
}

/// A command with its ticket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Which.
    pub ticket: Ticket,
    /// What.
    pub command: Command,
}

impl Stored for Proposal {
    const VERSION: u8 = 1;
}

/// One entry of the log: proposals that are agreed on together.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's reading of the cluster's clock, ms.
    pub now_ms: u64,
    /// In this order. Entries are copied on their way to the disk, to each member and to the state.
    pub proposals: Arc<[Proposal]>,
}

/// The answers to a batch, in its order.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Replies(pub Vec<Reply>);

impl Stored for Reply {
    const VERSION: u8 = 1;
}
