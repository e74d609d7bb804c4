//! Who has locked what of which file: the kernel tells of every descriptor that is closed, and only
//! few of them matter; and a job does not go on to another node with locks that would be lost.

use fuser::INodeNo;
use krg_faf::op::{Lock, LockKind};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of one owner on one file.
#[derive(Default)]
struct Held {
    /// Asked for, and not answered yet.
    asked: u32,
    /// First and last byte of each part, in order, none touching another.
    parts: Vec<(u64, u64)>,
}

impl Held {
    fn take(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end);
        self.parts.retain(|(s, e)| {
            let touches = *s <= end.saturating_add(1) && start <= e.saturating_add(1);
            if touches {
                (start, end) = (start.min(*s), end.max(*e));
            }
            !touches
        });
        self.parts.push((start, end));
        self.parts.sort_unstable();
    }

    fn give(&mut self, start: u64, end: u64) {
        let cut = |(s, e): &(u64, u64)| {
            let before = (*s < start).then(|| (*s, (*e).min(start.saturating_sub(1))));
            let after = (*e > end).then(|| ((*s).max(end.saturating_add(1)), *e));
            [before, after]
        };
        self.parts = self.parts.iter().flat_map(cut).flatten().collect();
    }
}

/// All of a mount, by file and owner.
#[derive(Default)]
pub struct LockOwners(Mutex<HashMap<(u64, u64), Held>>);

impl LockOwners {
    fn table(&self) -> MutexGuard<'_, HashMap<(u64, u64), Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for: from now on its owner may have something.
    pub fn ask(&self, ino: INodeNo, lock: &Lock) {
        if lock.kind != LockKind::Unlock {
            self.table().entry((ino.0, lock.owner)).or_default().asked += 1;
        }
    }

    /// It was answered: whether it holds now.
    pub fn answer(&self, ino: INodeNo, lock: &Lock, holds: bool) {
        let mut table = self.table();
        let Some(held) = table.get_mut(&(ino.0, lock.owner)) else { return };
        if lock.kind != LockKind::Unlock {
            held.asked = held.asked.saturating_sub(1);
        }
        match (lock.kind, holds) {
            (_, false) => {}
            (LockKind::Unlock, _) => held.give(lock.start, lock.end),
            _ => held.take(lock.start, lock.end),
        }
    }

    /// How many have something.
    pub fn count(&self) -> usize {
        self.table().values().filter(|held| held.asked > 0 || !held.parts.is_empty()).count()
    }

    /// It has closed the file, and with it nothing any more; whether it had ever asked.
    pub fn remove(&self, ino: INodeNo, owner: u64) -> bool {
        self.table().remove(&(ino.0, owner)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: INodeNo = INodeNo(7);

    fn lock(kind: LockKind, start: u64, end: u64) -> Lock {
        Lock { owner: 1, kind, start, end }
    }

    #[test]
    fn who_has_given_all_up_has_nothing() {
        let owners = LockOwners::default();
        let (write, none) = (LockKind::Write, LockKind::Unlock);
        for (kind, start, end, count) in [
            (write, 10, 19, 1),
            (LockKind::Read, 20, 29, 1),
            (none, 12, 27, 1),
            (none, 28, u64::MAX, 1),
            (none, 0, 11, 0),
            (write, 5, u64::MAX, 1),
            (none, 0, 4, 1),
            (none, 0, u64::MAX, 0),
        ] {
            owners.ask(FILE, &lock(kind, start, end));
            owners.answer(FILE, &lock(kind, start, end), true);
            assert_eq!(owners.count(), count, "{kind:?} {start} {end}");
        }
        assert!(owners.remove(FILE, 1) && !owners.remove(FILE, 1));
    }

    #[test]
    fn what_may_come_counts_and_what_was_refused_does_not() {
        let owners = LockOwners::default();
        let wanted = lock(LockKind::Write, 0, 9);
        owners.ask(FILE, &wanted);
        assert_eq!(owners.count(), 1);
        owners.answer(FILE, &wanted, false);
        assert_eq!(owners.count(), 0);
        assert!(owners.remove(FILE, 1), "it has to be told that the file is closed");
    }

    #[test]
    fn parts_are_cut_and_joined() {
        let mut held = Held::default();
        held.take(10, 19);
        held.take(30, 39);
        held.take(20, 29);
        assert_eq!(held.parts, [(10, 39)]);
        held.give(15, 24);
        assert_eq!(held.parts, [(10, 14), (25, 39)]);
        held.give(0, 10);
        held.give(39, 100);
        assert_eq!(held.parts, [(11, 14), (25, 38)]);
    }
}
