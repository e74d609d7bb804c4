//! What clients asked, when, and what they were told.

use krg_types::MemberId;
use std::time::Duration;

/// One question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets a key of the configuration, perhaps only at a revision.
    Set { key: String, value: String, if_revision: Option<u64> },
    /// Reads a key from an up-to-date view.
    Read { key: String },
    /// Takes one number of a shared sequence.
    Take { name: String },
    /// Takes one number of a sequence that nobody else uses.
    Once { name: String },
    /// Takes or renews a lease.
    Lease { name: String, owner: MemberId, valid_ms: u64 },
}

/// One answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nobody knows whether it was done.
    Unknown(String),
    /// It was surely not done.
    NotDone(String),
    /// Done, at a revision.
    Done(u64),
    /// The condition did not hold: the key was at this revision.
    NotNow(u64),
    Number(u64),
    Held {
        owner: MemberId,
        left_ms: u64,
        fence: u64,
    },
    /// The state's revision; the key's value and its revision.
    Read(u64, Option<(String, u64)>),
}

/// A question with its answer, if one came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// One after the other asks under this number.
    pub client: u64,
    pub op: Op,
    pub invoked: Duration,
    pub returned: Option<(Duration, Outcome)>,
}

impl Asked {
    pub fn outcome(&self) -> Option<&Outcome> {
        self.returned.as_ref().map(|(_, outcome)| outcome)
    }
}

/// Everything that was asked, in the order of asking.
#[derive(Default)]
pub struct History {
    pub all: Vec<Asked>,
}

impl History {
    pub fn invoke(&mut self, client: u64, op: Op, now: Duration) -> usize {
        self.all.push(Asked { client, op, invoked: now, returned: None });
        self.all.len() - 1
    }

    pub fn answer(&mut self, index: usize, outcome: Outcome, now: Duration) {
        self.all[index].returned = Some((now, outcome));
    }
}
