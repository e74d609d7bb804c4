//! Leases: one owner at a time, until it gives up or its time by the cluster's clock has passed.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use krg_types::MemberId;
use krg_types::limits::{LEASE_MS_MAX, LEASES_MAX, NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What is asked of the leases.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Takes or renews a lease; the reply says who has it now.
    Take {
        /// Of what.
        name: String,
        /// By whom.
        owner: MemberId,
        /// For how long, ms.
        valid_ms: u64,
    },
    /// Gives it back.
    Release {
        /// What.
        name: String,
        /// The owner.
        owner: MemberId,
    },
}

/// One lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub owner: MemberId,
    /// Until then, by the cluster's clock, ms.
    pub expires_ms: u64,
    /// Grows with each change of hands, so that a late word of an earlier owner is known.
    pub fence: u64,
}

impl Stored for Lease {
    const VERSION: u8 = 1;
}

/// Applies one command.
pub fn apply(rows: &mut Rows<Lease>, at: At, command: &Command) -> Reply {
    match command {
        Command::Take { name, owner, valid_ms } => take(rows, at, name, *owner, *valid_ms),
        Command::Release { name, owner } => match rows.get(name) {
            Some(lease) if lease.owner == *owner => {
                // Kept, as one that is over: its fence must not begin anew.
                let over = Lease { expires_ms: at.now_ms, ..*lease };
                rows.put(at, name, over);
                Reply::Done(at.revision)
            }
            _ => Reply::NotNow(rows.row(name).map_or(0, |row| row.revision)),
        },
    }
}

fn take(rows: &mut Rows<Lease>, at: At, name: &str, owner: MemberId, valid_ms: u64) -> Reply {
    let old = rows.get(name).copied();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || valid_ms > LEASE_MS_MAX {
        return Reply::Refused(format!("a lease of {name:?} for {valid_ms} ms cannot be had"));
    }
    if old.is_none() && rows.len() >= LEASES_MAX {
        return Reply::Refused(format!("there are {LEASES_MAX} leases already"));
    }
    let held = |lease: Lease| Reply::Held {
        owner: lease.owner,
        left_ms: lease.expires_ms.saturating_sub(at.now_ms),
        fence: lease.fence,
    };
    let fence = match old {
        Some(lease) if lease.owner == owner && lease.expires_ms > at.now_ms => lease.fence,
        Some(lease) if lease.expires_ms > at.now_ms => return held(lease),
        Some(lease) => lease.fence + 1,
        None => 1,
    };
    let lease = Lease { owner, expires_ms: at.now_ms.saturating_add(valid_ms), fence };
    rows.put(at, name, lease);
    held(lease)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;

    fn member(n: u32) -> MemberId {
        MemberId::new(NodeId::new(n).unwrap(), 1)
    }

    #[test]
    fn one_owner_at_a_time_and_a_fence_between_them() {
        let mut rows = Rows::new("leases");
        let take = |n| Command::Take { name: "x".into(), owner: member(n), valid_ms: 100 };
        let at = |now_ms| At { revision: now_ms, now_ms };
        let held = |n, left_ms, fence| Reply::Held { owner: member(n), left_ms, fence };
        assert_eq!(apply(&mut rows, at(10), &take(1)), held(1, 100, 1));
        assert_eq!(apply(&mut rows, at(60), &take(2)), held(1, 50, 1));
        assert_eq!(apply(&mut rows, at(70), &take(1)), held(1, 100, 1));
        assert_eq!(apply(&mut rows, at(170), &take(2)), held(2, 100, 2));
        let release = Command::Release { name: "x".into(), owner: member(2) };
        assert_eq!(apply(&mut rows, at(180), &release), Reply::Done(180));
        assert_eq!(apply(&mut rows, at(180), &take(1)), held(1, 100, 3));
    }
}
