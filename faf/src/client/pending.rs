//! Questions that are not answered yet.

use super::Interrupted;
use crate::op::Answer;
use bytes::Bytes;
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

    /// All of them.
    pub(super) fn drain(&self) -> Vec<Pending> {
        self.lock().drain().map(|(_, pending)| pending).collect()
    }

    /// Those whose deadline has passed.
    pub(super) fn late(&self, now: Instant) -> Vec<Pending> {
        self.lock().extract_if(|_, p| p.deadline <= now).map(|(_, p)| p).collect()
    }

    /// Those older than `age` whose caller has been told to end.
    pub(super) fn interrupted(&self, now: Instant, age: Duration) -> Vec<Pending> {
        let gone = |p: &Pending| {
            now.duration_since(p.began) >= age && p.interrupted.as_ref().is_some_and(|i| i())
        };
        self.lock().extract_if(|_, p| gone(p)).map(|(_, p)| p).collect()
    }
}
