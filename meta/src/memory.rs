//! A store in memory, for simulations: it loses at a crash what was not synced, and its disk
//! fills up or fails on demand. No threads, no clock: the same calls give the same.

use crate::store::{Change, Pace, Pair, Store, StoreError};
use imbl::OrdMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

type Image = OrdMap<Vec<u8>, Vec<u8>>;

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    durable: Image,
    /// After each batch that is not durable yet, oldest first.
    unsynced: VecDeque<Image>,
    /// Bytes that still fit.
    room_bytes: Option<u64>,
    syncs_fail: bool,
    sync_time: Duration,
    poison: Option<String>,
}

impl Inner {
    fn now(&self) -> &Image {
        self.unsynced.back().unwrap_or(&self.durable)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.poison.clone().map_or(Ok(()), |why| Err(StoreError::Poisoned(why)))
    }

    fn fail<T>(&mut self, error: StoreError) -> Result<T, StoreError> {
        self.poison = Some(error.to_string());
        Err(error)
    }
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Arc<MemoryStore> {
        Arc::default()
    }

    /// The power fails: the store as it is found again. What was not synced is lost, and whoever
    /// still holds this one can do nothing with it any more.
    pub fn crash(&self) -> Arc<MemoryStore> {
        self.crash_keeping(0)
    }

    /// As `crash`, but so many of the batches that were not synced had reached the disk.
    pub fn crash_keeping(&self, batches: usize) -> Arc<MemoryStore> {
        let mut inner = self.inner();
        let kept = batches.min(inner.unsynced.len()).checked_sub(1);
        let durable = kept.and_then(|n| inner.unsynced.get(n)).unwrap_or(&inner.durable).clone();
        inner.poison = Some("its machine has crashed".into());
        let (room_bytes, sync_time) = (inner.room_bytes, inner.sync_time);
        let found = Inner { durable, room_bytes, sync_time, ..Inner::default() };
        Arc::new(MemoryStore(Mutex::new(found)))
    }

    /// Batches that are not durable.
    pub fn unsynced(&self) -> usize {
        self.inner().unsynced.len()
    }

    /// The disk is full after so many more bytes; `None`: never. What failed stays failed until
    /// a crash.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.inner().room_bytes = bytes;
    }

    /// From now on syncs fail, or do not.
    pub fn set_syncs_fail(&self, fail: bool) {
        self.inner().syncs_fail = fail;
    }

    /// So long a sync takes from now on; zero, as it is at first, must not change while the store
    /// is in use.
    pub fn set_sync_time(&self, time: Duration) {
        self.inner().sync_time = time;
    }

    // A panic while it was held leaves whole images.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.inner().now().get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], count_max: usize) -> Result<Vec<Pair>, StoreError> {
        let inner = self.inner();
        let range = inner.now().range(from.to_vec()..to.to_vec());
        Ok(range.take(count_max).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.check()?;
        let size = |c: &Change| c.key.len() + c.value.as_ref().map_or(0, Vec::len);
        let bytes: usize = changes.iter().map(size).sum();
        if let Some(room) = inner.room_bytes {
            let Some(left) = room.checked_sub(bytes as u64) else {
                return inner.fail(StoreError::Full(format!("{room} bytes are left")));
            };
            inner.room_bytes = Some(left);
        }
        let mut image = inner.now().clone();
        for Change { key, value } in changes {
            match value {
                Some(value) => image.insert(key, value),
                None => image.remove(&key),
            };
        }
        inner.unsynced.push_back(image);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.check()?;
        if inner.syncs_fail {
            return inner.fail(StoreError::Io("a sync failed".into()));
        }
        if let Some(newest) = inner.unsynced.pop_back() {
            inner.durable = newest;
            inner.unsynced.clear();
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        Pace::Feigned(self.inner().sync_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(n: u8) -> Vec<Change> {
        vec![Change::put(vec![n], vec![n; 10])]
    }

    fn keys(store: &MemoryStore) -> Vec<u8> {
        let pairs = store.range(&[0], &[255], 99).unwrap();
        pairs.iter().map(|(key, _)| key[0]).collect()
    }

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let store = MemoryStore::new();
        store.write(put(1)).unwrap();
        store.sync().unwrap();
        for n in 2..5 {
            store.write(put(n)).unwrap();
        }
        assert_eq!((keys(&store), store.unsynced()), (vec![1, 2, 3, 4], 3));
        assert_eq!(keys(&store.crash_keeping(2)), [1, 2, 3]);
        let found = store.crash();
        assert_eq!(keys(&found), [1]);
        assert!(matches!(store.write(put(9)), Err(StoreError::Poisoned(_))));
        found.write(put(9)).unwrap();
    }

    #[test]
    fn what_failed_stays_failed() {
        let store = MemoryStore::new();
        store.set_room(Some(20));
        store.write(put(1)).unwrap();
        assert!(matches!(store.write(put(2)), Err(StoreError::Full(_))));
        store.set_room(None);
        assert!(matches!(store.sync(), Err(StoreError::Poisoned(_))));
        let found = store.crash();
        found.set_room(None);
        found.write(put(3)).unwrap();
        found.set_syncs_fail(true);
        assert!(matches!(found.sync(), Err(StoreError::Io(_))));
        found.set_syncs_fail(false);
        assert!(matches!(found.sync(), Err(StoreError::Poisoned(_))));
        assert!(keys(&found.crash()).is_empty());
    }
}
