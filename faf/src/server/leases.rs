//! Who may go on after a write without waiting for its answer: the only client that has the file
//! open. When another opens it, the first one is asked to wait for what is under way, and from
//! then on every write is waited for.

use crate::op::Key;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A client that does not give its lease back for so long loses it, and what it has open of the
/// file is of no use to it any more.
const RETURN_MAX: Duration = Duration::from_secs(4);

/// A client's number, of one life of the server.
pub type Serial = u64;

/// Of one file that is open.
#[derive(Default)]
struct File {
    opens: HashMap<Serial, usize>,
    lease: Option<Serial>,
}

/// Those of all files.
#[derive(Default)]
pub struct Leases {
    files: Mutex<HashMap<Key, File>>,
    returned: Condvar,
}

impl Leases {
    fn files(&self) -> MutexGuard<'_, HashMap<Key, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client opens a file. Whoever else has a lease on it is told by `recall`, and by `broken`
    /// if it does not answer. True if the client has the lease now.
    pub fn opened(
        &self,
        file: Key,
        by: Serial,
        writes: bool,
        recall: impl Fn(Serial),
        broken: impl Fn(Serial),
    ) -> bool {
        let mut files = self.files();
        let deadline = Instant::now() + RETURN_MAX;
        let mut asked = None;
        while let Some(holder) = holder(&files, file).filter(|holder| *holder != by) {
            if asked != Some(holder) {
                asked = Some(holder);
                recall(holder);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::info!("a client does not give a lease back");
                broken(holder);
                take(&mut files, file, holder);
                break;
            }
            let waited = self.returned.wait_timeout(files, left);
            files = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let state = files.entry(file).or_default();
        *state.opens.entry(by).or_default() += 1;
        if state.opens.len() == 1 && writes {
            state.lease = Some(by);
        }
        state.lease == Some(by)
    }

    /// And closes it.
    pub fn closed(&self, file: Key, by: Serial) {
        let mut files = self.files();
        let Some(state) = files.get_mut(&file) else { return };
        if let Some(count) = state.opens.get_mut(&by) {
            *count -= 1;
            if *count == 0 {
                state.opens.remove(&by);
                state.lease = state.lease.filter(|holder| *holder != by);
            }
        }
        if state.opens.is_empty() {
            files.remove(&file);
        }
        self.returned.notify_all();
    }

    /// It has nothing under way any more.
    pub fn returned(&self, file: Key, by: Serial) {
        take(&mut self.files(), file, by);
        self.returned.notify_all();
    }
}

fn holder(files: &HashMap<Key, File>, file: Key) -> Option<Serial> {
    files.get(&file)?.lease
}

fn take(files: &mut HashMap<Key, File>, file: Key, from: Serial) {
    if let Some(state) = files.get_mut(&file) {
        state.lease = state.lease.filter(|holder| *holder != from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn only_who_is_alone_has_a_lease() {
        let leases = Leases::default();
        let nobody = |_| panic!("nobody is to be asked");
        assert!(!leases.opened(1, 7, false, nobody, nobody), "it only reads");
        assert!(leases.opened(1, 7, true, nobody, nobody));
        let asked = Cell::new(None);
        let recall = |holder| {
            asked.set(Some(holder));
            // As it is told from elsewhere while the opener waits.
        };
        let before = Instant::now();
        let broken = Cell::new(None);
        assert!(!leases.opened(1, 8, true, recall, |holder| broken.set(Some(holder))));
        assert!(before.elapsed() >= RETURN_MAX);
        assert_eq!((asked.get(), broken.get()), (Some(7), Some(7)));
        leases.closed(1, 8);
        leases.closed(1, 7);
        leases.closed(1, 7);
        assert!(leases.files().is_empty());
        assert!(leases.opened(1, 8, true, nobody, nobody));
    }

    #[test]
    fn a_lease_that_is_returned_lets_the_other_in() {
        let leases = Leases::default();
        let nothing = |_| {};
        assert!(leases.opened(1, 7, true, nothing, nothing));
        std::thread::scope(|scope| {
            let (tx, rx) = std::sync::mpsc::channel();
            let leases = &leases;
            scope.spawn(move || {
                rx.recv().unwrap();
                leases.returned(1, 7);
            });
            let tell = |_| tx.send(()).unwrap();
            assert!(!leases.opened(1, 8, true, tell, |_| panic!("it was returned")));
        });
    }
}
