//! What each side of a move does next, and why a job runs once whatever dies. No I/O: each side
//! does what it is told here, and says how that went. `tests/moves.rs` has them do so in a
//! simulated cluster.
//!
//! The record of a job (`cluster::Record`) is written only by who has read its revision, and no two
//! writes of one revision hold. A move has one revision, which both sides know. At that one
//! the source may write that the job is the target's (or that it is not), and the target, which has
//! all of it whole, that it is its own: whoever is first has decided. The source's processes stand
//! still, for good, before the target has all of it; they go on only when the record says that the
//! target's will never run. So nobody has to be heard for the other to go on.

pub mod keep;
pub mod source;
pub mod target;

use crate::cluster::Record;
use krg_rpc::proto::job::Begin;

/// A move, as both its sides know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// Where the job was started.
    pub home: u32,
    /// Where it is.
    pub from: u32,
    /// Where it is to go.
    pub to: u32,
    /// How many its moves are with this one.
    pub moves: u32,
    /// Its name: no other move has it.
    pub trace: String,
    /// Of the record that it changes.
    pub revision: u64,
}

/// Whose a job is, as its record says to one of the sides of a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Nobody has decided.
    Open,
    /// The target's, by this move.
    Target,
    /// It has moved on since, or by another move: whoever has taken part in this one has nothing of
    /// it any more.
    Passed,
    /// The source's: what this move would still write does not hold.
    Source,
    /// Nobody's: it has ended.
    Nobody,
}

/// How a write has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    /// It holds.
    Yes,
    /// It does not, and never will.
    No,
    /// It may, now or later.
    Unknown,
}

/// How what was to be done has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Well.
    Done,
    /// Not; or what was waited for has not come, and will not.
    Failed,
    /// Of a write.
    Wrote(Wrote),
    /// Of a question whose it is.
    Read(Whose),
    /// That could not be asked.
    Unread,
    /// CRIU, which held what it has brought back, has died: that can never run.
    Died,
}

impl Move {
    /// As the source has told it to node `to`.
    pub fn of(begin: &Begin, to: u32) -> Move {
        Move {
            home: begin.home,
            from: begin.from,
            to,
            moves: begin.moves,
            trace: begin.trace.clone(),
            revision: begin.revision,
        }
    }

    /// What is written when it is the target's.
    pub fn committed(&self) -> Record {
        let Move { home, to, moves, trace, .. } = self.clone();
        Record { home, holder: to, trace, moves, lost: None }
    }

    /// What is written when it stays the source's.
    pub fn undone(&self) -> Record {
        let trace = format!("{}-undone", self.trace);
        let (home, holder, moves) = (self.home, self.from, self.moves.saturating_sub(1));
        Record { home, holder, trace, moves, lost: None }
    }

    /// Whose the job is when this is its record, of this revision.
    pub fn whose(&self, record: Option<&Record>, revision: u64) -> Whose {
        match record {
            None => Whose::Nobody,
            Some(record) if record.lost.is_some() => Whose::Nobody,
            Some(record) if record.trace == self.trace && record.moves == self.moves => {
                Whose::Target
            }
            // The source has moved it no other way before it has known how this has ended.
            Some(record) if record.moves >= self.moves => Whose::Passed,
            Some(_) if revision == self.revision => Whose::Open,
            Some(_) => Whose::Source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Lost;

    #[test]
    fn a_record_says_whose_the_job_is() {
        let (trace, home, from, to) = ("a".to_owned(), 1, 1, 2);
        let this = Move { home, from, to, moves: 3, trace, revision: 7 };
        let before = Record { home, holder: from, trace: "0".into(), moves: 2, lost: None };
        assert_eq!(this.whose(Some(&before), 7), Whose::Open);
        assert_eq!(this.whose(Some(&before), 8), Whose::Source);
        assert_eq!(this.whose(Some(&this.undone()), 8), Whose::Source);
        assert_eq!(this.whose(Some(&this.committed()), 8), Whose::Target);
        let on = Record { holder: 3, trace: "b".into(), moves: 4, ..this.committed() };
        assert_eq!(this.whose(Some(&on), 9), Whose::Passed);
        let lost = Record { lost: Some(Lost::Home), ..this.committed() };
        assert_eq!(this.whose(Some(&lost), 9), Whose::Nobody);
        assert_eq!(this.whose(None, 0), Whose::Nobody);
    }
}
