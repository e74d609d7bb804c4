//! Questions that nobody waits for any more, and that are not being worked on yet: they are still
//! to come on another connection, or wait for a thread.

use krg_types::limits::FILE_CANCELS_MAX;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those of one client, by number.
#[derive(Default)]
pub struct Cancelled {
    /// The oldest first.
    questions: Mutex<VecDeque<u64>>,
    /// So that who asks need not lock: mostly there is none.
    count: AtomicUsize,
}

impl Cancelled {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one need not be answered. Of too many the oldest is forgotten: it was answered long
    /// ago, or will be.
    pub fn add(&self, question: u64) {
        let mut questions = self.lock();
        if questions.len() >= FILE_CANCELS_MAX {
            questions.pop_front();
        }
        questions.push_back(question);
        self.count.store(questions.len(), Ordering::Release);
    }

    /// Is this one of them? It is not from now on.
    pub fn take(&self, question: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut questions = self.lock();
        let at = questions.iter().position(|q| *q == question);
        at.map(|at| questions.remove(at));
        self.count.store(questions.len(), Ordering::Release);
        at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once() {
        let cancelled = Cancelled::default();
        assert!(!cancelled.take(1));
        cancelled.add(1);
        cancelled.add(2);
        assert!(cancelled.take(2) && !cancelled.take(2) && !cancelled.take(3));
        assert!(cancelled.take(1) && !cancelled.take(1));
    }

    #[test]
    fn only_the_latest_are_kept() {
        let cancelled = Cancelled::default();
        (0..=FILE_CANCELS_MAX as u64).for_each(|question| cancelled.add(question));
        assert!(!cancelled.take(0) && cancelled.take(1));
    }
}
