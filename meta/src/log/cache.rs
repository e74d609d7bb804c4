//! The newest entries of the log in memory, so that replicating and applying do not read and
//! decode again what was written just now.

use crate::raft::Entry;
use std::collections::VecDeque;

/// Entries kept.
const ENTRIES_MAX: usize = 4096;
/// Bytes of the entries kept, in their stored form.
const BYTES_MAX: usize = 8 << 20;

/// A run of entries without holes, up to the log's last one.
#[derive(Debug, Default)]
pub struct Cache {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Cache {
    /// The index of the first entry kept.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// Adds the log's next entry.
    pub fn push(&mut self, entry: Entry, bytes: usize) {
        let follows = self.entries.back().map(|(last, _)| last.log_id.index + 1);
        if follows.is_some_and(|index| index != entry.log_id.index) {
            *self = Cache::default();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }

    /// Drops the oldest entries that are too many, but none from `written` on: they can be had
    /// nowhere else yet.
    pub fn shrink(&mut self, written: u64) {
        while (self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
            && self.first().is_some_and(|first| first < written)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }

    /// Forgets entries from `index` on.
    pub fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|(last, _)| last.log_id.index >= index) {
            let last = self.entries.pop_back();
            self.bytes -= last.map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Forgets entries up to `index`.
    pub fn purge(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.drop_first();
        }
    }

    /// Entries of `start..end`, which must not begin before the first; no more than one once
    /// they are `bytes_max` long.
    pub fn read(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(skip) = self.first().and_then(|first| start.checked_sub(first)) else {
            return Vec::new();
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (entry, size) in self.entries.iter().skip(skip) {
            if entry.log_id.index >= end || (bytes > 0 && bytes + size > bytes_max) {
                break;
            }
            bytes += size;
            found.push(entry.clone());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LogId;
    use openraft::EntryPayload;

    fn entry(index: u64) -> Entry {
        let log_id = LogId { index, ..LogId::default() };
        Entry { log_id, payload: EntryPayload::Blank }
    }

    fn read(cache: &Cache, start: u64, end: u64, bytes_max: usize) -> Vec<u64> {
        let found = cache.read(start, end, bytes_max);
        found.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn it_gives_what_is_asked_and_at_least_one() {
        let mut cache = Cache::default();
        (5..15).for_each(|n| cache.push(entry(n), 100));
        assert_eq!(read(&cache, 7, 10, usize::MAX), [7, 8, 9]);
        assert_eq!(read(&cache, 7, 99, 250), [7, 8]);
        assert_eq!(read(&cache, 7, 99, 1), [7]);
        assert!(read(&cache, 4, 99, usize::MAX).is_empty());
        cache.truncate(12);
        cache.purge(6);
        assert_eq!(read(&cache, 7, 99, usize::MAX), [7, 8, 9, 10, 11]);
        assert_eq!(cache.bytes, 500);
        // A log that goes on elsewhere, after a snapshot.
        cache.push(entry(50), 7);
        assert_eq!((cache.first(), cache.bytes), (Some(50), 7));
    }

    #[test]
    fn it_is_bounded_but_keeps_what_is_not_written() {
        let mut cache = Cache::default();
        (0..100).for_each(|n| cache.push(entry(n), 1 << 20));
        cache.shrink(0);
        assert_eq!(cache.first(), Some(0));
        cache.shrink(50);
        assert_eq!(cache.first(), Some(50));
        cache.shrink(100);
        assert_eq!((cache.first(), cache.bytes), (Some(92), BYTES_MAX));
    }
}
