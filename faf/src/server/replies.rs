//! What was answered to questions that are to be done once, however often they are asked: a client
//! that waits for as long as it takes asks again on each new connection.

use crate::op::Answer;
use krg_types::limits::FILE_REPLIES_MAX;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Default)]
struct Table {
    under_way: HashSet<u64>,
    given: HashMap<u64, Answer>,
    /// The oldest first.
    order: VecDeque<u64>,
}

/// Those of one client, by the number of the question.
#[derive(Default)]
pub struct Replies {
    table: Mutex<Table>,
    changed: Condvar,
}

impl Replies {
    /// Does `work`, unless it was done for this question or is being done: then its answer is what
    /// came of that. Whether it was done now.
    pub fn once(&self, id: u64, work: impl FnOnce() -> Answer) -> (Answer, bool) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while !table.given.contains_key(&id) {
            if table.under_way.insert(id) {
                drop(table);
                return (self.give(id, work()), true);
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        (table.given[&id].clone(), false)
    }

    fn give(&self, id: u64, answer: Answer) -> Answer {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.under_way.remove(&id);
        table.given.insert(id, answer.clone());
        table.order.push_back(id);
        if table.order.len() > FILE_REPLIES_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.given.remove(&oldest);
        }
        self.changed.notify_all();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_is_asked_twice_is_done_once() {
        let (replies, done) = (Replies::default(), AtomicU64::new(0));
        let work = || Answer::Offset(done.fetch_add(1, Ordering::Relaxed));
        assert_eq!(replies.once(7, work), (Answer::Offset(0), true));
        assert_eq!(replies.once(7, work), (Answer::Offset(0), false));
        assert_eq!(replies.once(8, work), (Answer::Offset(1), true));
    }

    #[test]
    fn who_asks_while_it_is_being_done_waits_for_that() {
        let replies = Replies::default();
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let replies = &replies;
            scope.spawn(move || {
                replies.once(7, || {
                    begun.send(()).unwrap();
                    goes.recv().unwrap();
                    Answer::Done
                })
            });
            begins.recv().unwrap();
            let again = scope.spawn(|| replies.once(7, || panic!("it is being done")));
            go.send(()).unwrap();
            assert_eq!(again.join().unwrap(), (Answer::Done, false));
        });
    }

    #[test]
    fn only_the_latest_are_kept() {
        let replies = Replies::default();
        for id in 0..=FILE_REPLIES_MAX as u64 {
            replies.once(id, || Answer::Done);
        }
        assert!(replies.once(0, || Answer::Done).1 && !replies.once(9, || Answer::Done).1);
    }
}
