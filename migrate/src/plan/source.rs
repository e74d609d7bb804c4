//! The side that a job leaves.

use super::{Event, Whose, Wrote};

/// What is to be done, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The target makes ready.
    Announce,
    /// CRIU saves the job, and holds it.
    Dump,
    /// Its processes are stopped, so that they stay where they are whoever dies.
    Fence,
    /// What is on its way into the job and out of it is taken back.
    TakeBack,
    /// The last of it goes to the target: from here on that may take it.
    Send,
    /// The target has all of it whole.
    Hear,
    /// The record is to say that it is the target's.
    Commit,
    /// The record is to say that it is not.
    Undo,
    /// What does the record say?
    Ask,
    /// Its processes go on here.
    LetGo,
    /// They are ended here.
    End,
    /// The target is told so.
    SayGo,
    /// They are ended here, and run nowhere.
    Lose,
    /// The move has ended: it is there.
    Moved,
    /// The move has ended: it is here, as before.
    Stayed,
    /// It is nowhere: its home has ended it.
    Lost,
}

/// It.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source(Step);

impl Default for Source {
    fn default() -> Source {
        Source(Step::Announce)
    }
}

impl Source {
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
        matches!(self.0, Step::Moved | Step::Stayed | Step::Lost)
    }
}

fn next(step: Step, event: Event) -> Step {
    match (step, event) {
        (Step::Announce, Event::Done) => Step::Dump,
        (Step::Announce, _) => Step::Stayed,
        (Step::Dump, Event::Done) => Step::Fence,
        (Step::Fence, Event::Done) => Step::TakeBack,
        (Step::TakeBack, Event::Done) => Step::Send,
        // The target does not have all of it, and cannot take it.
        (Step::Dump | Step::Fence | Step::TakeBack, _) => Step::LetGo,
        (Step::Send, Event::Done) => Step::Hear,
        (Step::Hear, Event::Done) => Step::Commit,
        // It may have it, and take it: only the record tells.
        (Step::Send | Step::Hear, _) => Step::Undo,
        (Step::Commit, Event::Wrote(Wrote::Yes)) => Step::End,
        (Step::Undo, Event::Wrote(Wrote::Yes)) => Step::LetGo,
        (Step::Ask, Event::Read(whose)) => match whose {
            // What was written may still come to hold: it must not any more.
            Whose::Open => Step::Undo,
            Whose::Source => Step::LetGo,
            Whose::Target | Whose::Passed => Step::End,
            Whose::Nobody => Step::Lose,
        },
        (Step::Commit | Step::Undo | Step::Ask, _) => Step::Ask,
        (Step::LetGo, _) => Step::Stayed,
        (Step::End, _) => Step::SayGo,
        (Step::SayGo, _) => Step::Moved,
        (Step::Lose, _) => Step::Lost,
        (over @ (Step::Moved | Step::Stayed | Step::Lost), _) => over,
    }
}
