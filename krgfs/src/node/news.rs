//! What a server has told of lately. An answer may have been given before something was told, and
//! come after it: then it is old, and the kernel is not to keep it.

use krg_faf::op::{Key, Notice};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many are remembered; before that, everything counts as told of.
const KEPT: usize = 128;

/// The latest of one mount.
#[derive(Default)]
pub struct News {
    count: AtomicU64,
    /// What was told of, the last one last; `None`: anything.
    latest: Mutex<VecDeque<Option<Key>>>,
}

impl News {
    /// Something is told of.
    pub fn note(&self, notice: &Notice) {
        let key = match notice {
            Notice::Changed { file } | Notice::Recall { file } => Some(*file),
            Notice::Name { dir, .. } => Some(*dir),
            Notice::Everything | Notice::Root { .. } => None,
        };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(key);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Was this told of, after there had been `count`?
    pub fn since(&self, count: u64, key: Key) -> bool {
        if self.count() == count {
            return false;
        }
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = usize::try_from(self.count() - count).unwrap_or(usize::MAX);
        newer > latest.len()
            || latest.iter().rev().take(newer).any(|told| told.is_none_or(|told| told == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_told_of_meanwhile_is_old() {
        let news = News::default();
        news.note(&Notice::Changed { file: 1 });
        let asked = news.count();
        assert!(!news.since(asked, 1) && news.since(0, 1) && !news.since(0, 2));
        news.note(&Notice::Changed { file: 2 });
        assert!(!news.since(asked, 1) && news.since(asked, 2));
        news.note(&Notice::Everything);
        assert!(news.since(asked, 3));
        let asked = news.count();
        for _ in 0..=KEPT {
            news.note(&Notice::Changed { file: 4 });
        }
        assert!(news.since(asked, 5), "it is not known any more");
        assert!(!news.since(news.count(), 4));
    }
}
