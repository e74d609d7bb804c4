//! Opening a log: all of it is read and checked before any of it is believed.

use super::stored::{StoredId, StoredVote};
use super::{Cache, DELETE_ENTRIES_MAX, Flushed, Inner, LogStore, decode_entry};
use crate::codec::{self, Stored};
use crate::keys::Keys;
use crate::store::{Change, Store, StoreError};
use crate::writer::Writer;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Entries read at once.
const STEP: usize = 256;

fn value<T: Stored>(store: &dyn Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    Ok(store.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

impl LogStore {
    /// The log of a group. May block.
    ///
    /// # Errors
    /// `Damaged` when it has holes, does not fit its vote, or cannot be read.
    pub(crate) fn load(writer: Arc<Writer>, group: u32) -> Result<LogStore, StoreError> {
        let keys = Keys(group);
        let store = writer.store().as_ref();
        let purged = value::<StoredId>(store, &keys.purged())?.and_then(|id| id.0);
        let committed = value::<StoredId>(store, &keys.committed())?.and_then(|id| id.0);
        let vote = value::<StoredVote>(store, &keys.vote())?.map(|vote| vote.0);
        let first = purged.map_or(0, |id| id.index + 1);
        let last = purged;
        let mut inner = Inner { vote, committed, purged, last, first, ..Inner::default() };
        remove_purged(store, keys, first)?;
        let mut from = first;
        loop {
            let pairs = store.range(&keys.entry(from), &keys.entries_end(), STEP)?;
            if pairs.is_empty() {
                break;
            }
            for (key, bytes) in pairs {
                take_in(&mut inner, keys, &key, &bytes)?;
            }
            from = inner.end();
        }
        inner.written = inner.end();
        check_vote(&inner)?;
        let flushed = Flushed { last: inner.last, ..Flushed::default() };
        Ok(LogStore {
            keys,
            writer,
            inner: Arc::new(Mutex::new(inner)),
            flushed: Arc::new(watch::Sender::new(flushed)),
            own: None,
            metrics: Arc::default(),
            state: None,
        })
    }
}

fn take_in(inner: &mut Inner, keys: Keys, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
    let damaged = |words: String| Err(StoreError::Damaged(words));
    let entry = decode_entry(bytes)?;
    let (id, wanted) = (entry.log_id, inner.end());
    if keys.index(key) != Some(id.index) || id.index != wanted {
        return damaged(format!("entry {wanted} of the log is missing, {id} was found"));
    }
    if let Some(last) = inner.last
        && last.leader_id > id.leader_id
    {
        return damaged(format!("entry {id} follows {last} in the log"));
    }
    inner.last = Some(id);
    inner.cache.push(entry, bytes.len());
    Cache::shrink(&mut inner.cache, u64::MAX);
    Ok(())
}

/// A member that has entries has voted for the leader that made the last of them, or for a later
/// one. Were the vote older, this member could vote twice.
fn check_vote(inner: &Inner) -> Result<(), StoreError> {
    let Some(last) = inner.last else { return Ok(()) };
    let term = inner.vote.map(|vote| vote.leader_id.term);
    // The very first entry is made before there is any vote.
    let needed = last.leader_id.term;
    if needed == 0 || term.is_some_and(|term| term >= needed) {
        return Ok(());
    }
    let words = format!("its vote {term:?} is older than the last entry {last} of its log");
    Err(StoreError::Damaged(words))
}

/// Removes what a purge that was cut short has left.
fn remove_purged(store: &dyn Store, keys: Keys, first: u64) -> Result<(), StoreError> {
    loop {
        let step = DELETE_ENTRIES_MAX as usize;
        let left = store.range(&keys.entry(0), &keys.entry(first), step)?;
        if left.is_empty() {
            return Ok(());
        }
        store.write(left.into_iter().map(|(key, _)| Change::delete(key)).collect())?;
    }
}
