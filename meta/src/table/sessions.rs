//! What was answered to whom, so that a proposal that is sent again is not done again (the client
//! sessions of the Raft dissertation, 6.3).

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::{Reply, Ticket};
use krg_types::limits::REPLIES_KEPT_MAX;
use serde::{Deserialize, Serialize};

/// A proposer's session, or one of its replies.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// Under the proposer's number: its present life, and what it has settled.
    Origin {
        /// Which life.
        epoch: u64,
        /// Replies below this number have been dropped.
        settled: u64,
        /// The highest number seen.
        newest: u64,
    },
    /// Under the proposer's number and the proposal's.
    Answer(Reply),
}

impl Stored for Session {
    const VERSION: u8 = 1;
}

/// What is to be done with a proposal.
#[derive(Clone, PartialEq, Debug)]
pub enum Known {
    /// It is new.
    New,
    /// It was done, with this reply.
    Done(Reply),
    /// It was done, or never will be: the reply is no longer kept.
    Over,
}

fn origin_key(ticket: &Ticket) -> String {
    format!("{:016x}", ticket.origin.get())
}

fn answer_key(ticket: &Ticket, number: u64) -> String {
    format!("{:016x}/{number:016x}", ticket.origin.get())
}

/// Has this proposal been done?
pub fn look(rows: &Rows<Session>, ticket: &Ticket) -> Known {
    match rows.get(&origin_key(ticket)) {
        Some(Session::Origin { epoch, .. }) if ticket.epoch > *epoch => Known::New,
        Some(Session::Origin { epoch, .. }) if ticket.epoch < *epoch => Known::Over,
        Some(Session::Origin { settled, .. }) if ticket.number < *settled => Known::Over,
        _ => match rows.get(&answer_key(ticket, ticket.number)) {
            Some(Session::Answer(reply)) => Known::Done(reply.clone()),
            _ => Known::New,
        },
    }
}

/// Keeps the reply to a proposal that was new, and drops those that nobody will ask for.
pub fn keep(rows: &mut Rows<Session>, at: At, ticket: &Ticket, reply: &Reply) {
    let key = origin_key(ticket);
    let (old, newest) = match rows.get(&key) {
        Some(Session::Origin { epoch, settled, newest }) if *epoch == ticket.epoch => {
            (*settled, (*newest).max(ticket.number))
        }
        Some(_) => {
            forget(rows, ticket);
            (0, ticket.number)
        }
        None => (0, ticket.number),
    };
    // A proposer that settles nothing is bounded all the same.
    let least = newest.saturating_sub(REPLIES_KEPT_MAX);
    let settled = old.max(ticket.settled.min(newest)).max(least);
    // A settled number was answered, so it is dropped once; what lies between was never asked.
    let first = old.max(settled.saturating_sub(2 * REPLIES_KEPT_MAX));
    for number in first..settled {
        rows.delete(&answer_key(ticket, number));
    }
    rows.put(at, &key, Session::Origin { epoch: ticket.epoch, settled, newest });
    if ticket.number >= settled {
        rows.put(at, &answer_key(ticket, ticket.number), Session::Answer(reply.clone()));
    }
}

/// Drops everything kept for a proposer.
pub fn forget(rows: &mut Rows<Session>, ticket: &Ticket) {
    let prefix = origin_key(ticket);
    let keys: Vec<String> = rows.with_prefix(&prefix).map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        rows.delete(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::{MemberId, NodeId};

    fn ticket(epoch: u64, number: u64, settled: u64) -> Ticket {
        let origin = MemberId::new(NodeId::new(1).unwrap(), 1);
        Ticket { origin, epoch, number, settled }
    }

    #[test]
    fn a_proposal_is_new_once() {
        let mut rows = Rows::new("sessions");
        let at = At { revision: 1, now_ms: 0 };
        assert_eq!(look(&rows, &ticket(5, 1, 0)), Known::New);
        keep(&mut rows, at, &ticket(5, 1, 0), &Reply::Done(1));
        keep(&mut rows, at, &ticket(5, 3, 0), &Reply::Done(2));
        assert_eq!(look(&rows, &ticket(5, 1, 0)), Known::Done(Reply::Done(1)));
        assert_eq!(look(&rows, &ticket(5, 2, 0)), Known::New);
        keep(&mut rows, at, &ticket(5, 4, 2), &Reply::Done(3));
        assert_eq!(look(&rows, &ticket(5, 1, 0)), Known::Over);
        assert_eq!(look(&rows, &ticket(5, 3, 0)), Known::Done(Reply::Done(2)));
        // The proposer has restarted: what its earlier life sent comes too late.
        assert_eq!(look(&rows, &ticket(6, 1, 0)), Known::New);
        keep(&mut rows, at, &ticket(6, 1, 0), &Reply::Done(4));
        assert_eq!(look(&rows, &ticket(5, 3, 0)), Known::Over);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut rows = Rows::new("sessions");
        let at = At { revision: 1, now_ms: 0 };
        for number in 0..3 * REPLIES_KEPT_MAX {
            keep(&mut rows, at, &ticket(1, number, 0), &Reply::Done(number));
        }
        assert!(rows.len() as u64 <= REPLIES_KEPT_MAX + 2, "{}", rows.len());
    }
}
