//! Questions that are not answered yet.

use super::Interrupted;
use crate::op::Answer;
use bytes::Bytes;
use krg_rpc::frame::Frame;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What came of a question: an answer with its bytes, or an errno.
pub type Reply = Result<(Answer, Bytes), i32>;
/// Takes it.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// Counts pairs of connections.
pub(super) type Generation = u64;

/// What an answer finds.
pub(super) enum Found {
    /// Who waits for it.
    Waiting(Pending),
    /// The question has been asked again, or will be: another answer counts.
    AskedAgain,
    /// Nobody.
    Nobody,
}

/// One question.
pub(super) struct Pending {
    pub(super) done: Done,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    pub(super) interrupted: Option<Interrupted>,
    /// What is asked, while it may have to be sent: of who waits for as long as it takes, also
    /// after it was.
    pub(super) frame: Option<Frame>,
    /// On which connections; none yet, or not on those that there are now.
    pub(super) sent: Option<Generation>,
    /// Who asks waits for as long as it takes.
    pub(super) waits: bool,
}

impl Pending {
    /// Of a question that is asked now, and has not been sent.
    pub(super) fn new(
        done: Done,
        timeout: Duration,
        interrupted: Option<Interrupted>,
    ) -> Pending {
        let began = Instant::now();
        let (deadline, frame, sent) = (began + timeout, None, None);
        Pending { done, began, deadline, interrupted, frame, sent, waits: false }
    }
}

/// All of them, by number.
#[derive(Default)]
pub(super) struct Table(Mutex<HashMap<u64, Pending>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: u64, pending: Pending) {
        self.lock().insert(id, pending);
    }

    pub(super) fn take(&self, id: u64) -> Option<Pending> {
        self.lock().remove(&id)
    }

    /// Who waits for the answer that has come on these connections.
    pub(super) fn answered(&self, id: u64, on: Generation) -> Found {
        let mut table = self.lock();
        match table.get(&id).map(|p| p.sent == Some(on)) {
            Some(true) => table.remove(&id).map_or(Found::Nobody, Found::Waiting),
            Some(false) => Found::AskedAgain,
            None => Found::Nobody,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What has not been sent, in the order in which it was asked; it is going to be.
    pub(super) fn to_send(&self, on: Generation) -> Vec<Frame> {
        let mut table = self.lock();
        let unsent = table.values_mut().filter(|p| p.sent.is_none());
        let mut frames: Vec<Frame> = unsent
            .filter_map(|p| {
                p.sent = Some(on);
                if p.waits { p.frame.clone() } else { p.frame.take() }
            })
            .collect();
        frames.sort_by_key(|frame| frame.id);
        frames
    }

    /// It has not been sent on these connections, and has to be on the next.
    pub(super) fn unsend(&self, id: u64, on: Generation) {
        if let Some(pending) = self.lock().get_mut(&id).filter(|p| p.sent == Some(on)) {
            pending.sent = None;
        }
    }

    /// The connections are gone. Those that wait are to be sent again; the others.
    pub(super) fn break_off(&self) -> Vec<Pending> {
        let mut table = self.lock();
        table.values_mut().for_each(|p| p.sent = None);
        table.extract_if(|_, p| !p.waits).map(|(_, p)| p).collect()
    }

    /// All of them.
    pub(super) fn drain(&self) -> Vec<Pending> {
        self.lock().drain().map(|(_, pending)| pending).collect()
    }

    /// Those whose deadline has passed; and whether the server was given as much time as it may
    /// take. Who waits goes on waiting.
    pub(super) fn late(&self, now: Instant, enough: Duration) -> (Vec<(u64, Pending)>, bool) {
        let (mut table, mut silent) = (self.lock(), false);
        for pending in table.values_mut().filter(|p| p.deadline <= now) {
            let span = pending.deadline.duration_since(pending.began);
            // Who waits for a moment only says nothing against the server.
            let asked = pending.sent.is_some() && (pending.frame.is_some() || !pending.waits);
            silent |= asked && span >= enough;
            if pending.waits {
                (pending.began, pending.deadline) = (now, now + span);
            }
        }
        (table.extract_if(|_, p| p.deadline <= now).collect(), silent)
    }

    /// Those older than `age` whose caller has been told to end.
    pub(super) fn interrupted(&self, now: Instant, age: Duration) -> Vec<(u64, Pending)> {
        let gone = |p: &Pending| {
            now.duration_since(p.began) >= age && p.interrupted.as_ref().is_some_and(|i| i())
        };
        self.lock().extract_if(|_, p| gone(p)).collect()
    }
}
