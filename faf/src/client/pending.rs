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

/// One question.
pub(super) struct Pending {
    pub(super) done: Done,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    pub(super) interrupted: Option<Interrupted>,
    /// What is asked, while it may have to be sent: of who waits for as long as it takes, also
    /// after it was.
    pub(super) frame: Option<Frame>,
    /// On the connections that there are now.
    pub(super) sent: bool,
    /// Who asks waits for as long as it takes.
    pub(super) waits: bool,
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

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What has not been sent, in the order in which it was asked; it is going to be.
    pub(super) fn to_send(&self) -> Vec<Frame> {
        let mut table = self.lock();
        let unsent = table.values_mut().filter(|p| !p.sent);
        let mut frames: Vec<Frame> = unsent
            .filter_map(|p| {
                p.sent = true;
                if p.waits { p.frame.clone() } else { p.frame.take() }
            })
            .collect();
        frames.sort_by_key(|frame| frame.id);
        frames
    }

    /// It has to be sent again, if it may be.
    pub(super) fn unsend(&self, id: u64) {
        if let Some(pending) = self.lock().get_mut(&id) {
            pending.sent = false;
        }
    }

    /// The connections are gone. Those that wait are to be sent again; the others.
    pub(super) fn break_off(&self) -> Vec<Pending> {
        let mut table = self.lock();
        table.values_mut().for_each(|p| p.sent = false);
        table.extract_if(|_, p| !p.waits).map(|(_, p)| p).collect()
    }

    /// All of them.
    pub(super) fn drain(&self) -> Vec<Pending> {
        self.lock().drain().map(|(_, pending)| pending).collect()
    }

    /// Those whose deadline has passed; and whether the server was given as much time as it may
    /// take. Who waits goes on waiting.
    pub(super) fn late(&self, now: Instant, enough: Duration) -> (Vec<Pending>, bool) {
        let (mut table, mut silent) = (self.lock(), false);
        for pending in table.values_mut().filter(|p| p.deadline <= now) {
            let span = pending.deadline.duration_since(pending.began);
            // Who waits for a moment only says nothing against the server.
            let asked = pending.sent && (pending.frame.is_some() || !pending.waits);
            silent |= asked && span >= enough;
            if pending.waits {
                (pending.began, pending.deadline) = (now, now + span);
            }
        }
        let late = table.extract_if(|_, p| p.deadline <= now);
        (late.map(|(_, p)| p).collect(), silent)
    }

    /// Those older than `age` whose caller has been told to end.
    pub(super) fn interrupted(&self, now: Instant, age: Duration) -> Vec<Pending> {
        let gone = |p: &Pending| {
            now.duration_since(p.began) >= age && p.interrupted.as_ref().is_some_and(|i| i())
        };
        self.lock().extract_if(|_, p| gone(p)).map(|(_, p)| p).collect()
    }
}
