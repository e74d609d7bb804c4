//! The side to which a job comes.

use super::{Event, Whose, Wrote};

/// What is to be done, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A place for it, and this side of what leads out of it.
    Prepare,
    /// It comes. `Done`: all of it, and it stands still there for good.
    Receive,
    /// CRIU brings it back, and holds it.
    Restore,
    /// The source says that it has ended its own, or is not heard any more.
    Hear,
    /// What does the record say?
    Ask,
    /// The record is to say that it is this node's.
    Claim,
    /// It runs.
    Release,
    /// What was made of it is ended.
    Refuse,
    /// The move has ended: it is here.
    Runs,
    /// The move has ended: it is not here.
    NotCome,
    /// It is here by the record, and could not be made to run: it is nowhere.
    Lost,
}

/// It.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target(Step);

impl Default for Target {
    fn default() -> Target {
        Target(Step::Prepare)
    }
}

impl Target {
    /// What is to be done now.
    pub fn step(self) -> Step {
        self.0
    }

    /// What was to be done has gone this way.
    pub fn hear(&mut self, event: Event) {
        self.0 = next(self.0, event);
    }

    /// Has it ended?
    pub fn is_over(self) -> bool {
        matches!(self.0, Step::Runs | Step::NotCome | Step::Lost)
    }
}

fn next(step: Step, event: Event) -> Step {
    match (step, event) {
        (Step::Prepare, Event::Done) => Step::Receive,
        (Step::Receive, Event::Done) => Step::Restore,
        (Step::Restore, Event::Done) => Step::Hear,
        (Step::Prepare | Step::Receive | Step::Restore, _) => Step::Refuse,
        // Who does not run and does not claim is in nobody's way.
        (Step::Hear | Step::Ask | Step::Claim, Event::Died) => Step::Refuse,
        (Step::Hear, Event::Done) => Step::Release,
        (Step::Ask, Event::Read(whose)) => match whose {
            Whose::Target => Step::Release,
            // The source is stopped, and may be dead: all of it is here.
            Whose::Open => Step::Claim,
            Whose::Source | Whose::Passed | Whose::Nobody => Step::Refuse,
        },
        (Step::Claim, Event::Wrote(Wrote::Yes)) => Step::Release,
        (Step::Hear | Step::Ask | Step::Claim, _) => Step::Ask,
        (Step::Release, Event::Done) => Step::Runs,
        (Step::Release, _) => Step::Lost,
        (Step::Refuse, _) => Step::NotCome,
        (over @ (Step::Runs | Step::NotCome | Step::Lost), _) => over,
    }
}
