//! Raft's log and vote over a store. A vote is durable before it is cast, and an append before it
//! is acknowledged; except a leader's own, of which `flushed` tells more.

mod cache;
mod flushed;
mod load;
mod stored;
#[cfg(test)]
mod tests;

pub use flushed::{Flushed, reached};
pub use stored::{check_membership, decode_entry, decode_payload, encode_entry, encode_payload};

use crate::codec;
use crate::keys::Keys;
use crate::machine::Durable;
use crate::raft::{Entry, LogId, Metrics, StorageError, Types, Vote, votes};
use crate::store::{Change, StoreError};
use crate::writer::Writer;
use cache::Cache;
use krg_types::MemberId;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, EntryPayload, LogIdOptionExt, LogState, OptionalSend, RaftLogReader, StorageIOError,
};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use stored::{StoredId, StoredVote};
use tokio::sync::watch;
use tokio::time::Instant;

/// Entries that are read for replication at once, bytes.
const READ_BYTES_MAX: usize = 1 << 20;
/// Entries read from the store at once.
const READ_ENTRIES_MAX: u64 = 256;
/// Entries deleted in one batch.
const DELETE_ENTRIES_MAX: u64 = 1024;
/// Reading again after the log was cut meanwhile.
const READ_TRIES_MAX: u32 = 3;

/// The log of one group. Copies are the same log.
#[derive(Clone, Debug)]
pub struct LogStore {
    keys: Keys,
    writer: Arc<Writer>,
    inner: Arc<Mutex<Inner>>,
    flushed: Arc<watch::Sender<Flushed>>,
    /// Whose log it is, once that is known.
    own: Option<MemberId>,
    /// Raft's own view of who votes, once it is there.
    metrics: Arc<OnceLock<watch::Receiver<Metrics>>>,
    /// Up to where the state does without the log, if that is to be waited for.
    state: Option<watch::Receiver<Durable>>,
}

#[derive(Debug, Default)]
struct Inner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The last entry, or the last one purged.
    last: Option<LogId>,
    /// The index of the first entry.
    first: u64,
    /// Entries below this index are in the store.
    written: u64,
    /// The end of the last append that was acknowledged only when it was durable.
    held: u64,
    cache: Cache,
}

impl Inner {
    fn end(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn leads(&self, own: MemberId) -> bool {
        let vote = self.vote.filter(Vote::is_committed);
        vote.is_some_and(|vote| vote.leader_id().voted_for() == Some(own))
    }
}

fn cannot_read(error: &StoreError) -> StorageError {
    StorageIOError::read_logs(AnyError::new(error)).into()
}

fn cannot_write(error: &StoreError) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

fn as_io(error: StoreError) -> io::Error {
    let kind = match &error {
        StoreError::Full(_) => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl LogStore {
    // A panic while it was held leaves values that are whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// From now on nothing is purged before the state is durable without it. Raft purges what a
    /// snapshot stands for as soon as it has begun to install it.
    pub fn behind(mut self, state: watch::Receiver<Durable>) -> LogStore {
        self.state = Some(state);
        self
    }

    /// This is the log of `own`. From now on it acknowledges what it appends as a leader that votes
    /// at once: nobody may rely on that without a look at `flushed`. If it led in its last life,
    /// it leads no more: others may hold entries of its term that its own disk does not, and in
    /// the same term it would give their places to others.
    pub fn of(mut self, own: MemberId) -> LogStore {
        self.own = Some(own);
        {
            let mut inner = self.inner();
            if inner.leads(own)
                && let Some(vote) = &mut inner.vote
            {
                vote.committed = false;
            }
        }
        self
    }

    /// Tells from where it is to be seen whether this member votes.
    pub fn watch(&self, metrics: watch::Receiver<Metrics>) {
        // It is told once.
        let _ = self.metrics.set(metrics);
    }

    fn votes(&self) -> bool {
        let metrics = self.metrics.get().map(|metrics| metrics.borrow());
        let list = metrics.as_ref().map(|metrics| metrics.membership_config.membership());
        list.zip(self.own).is_some_and(|(list, own)| votes(list, own))
    }

    /// Up to where it is durable, and later.
    pub fn flushed(&self) -> watch::Receiver<Flushed> {
        self.flushed.subscribe()
    }

    /// May these be acknowledged before they are durable? Not a change of the members, nor what
    /// follows it: who is asked for a majority depends on it.
    fn is_early(&self, entries: &[Entry]) -> bool {
        let is_change = |e: &Entry| matches!(e.payload, EntryPayload::Membership(_));
        let votes = self.votes();
        let mut inner = self.inner();
        let leads = self.own.is_some_and(|own| inner.leads(own));
        let early = leads
            && votes
            && !entries.iter().any(is_change)
            && self.flushed.borrow().last.next_index() >= inner.held;
        if let (false, Some(last)) = (early, entries.last()) {
            inner.held = last.log_id.index + 1;
        }
        early
    }

    /// Waits until the state is durable up to this entry.
    async fn wait_state(&self, index: u64) -> Result<(), StoreError> {
        let Some(mut state) = self.state.clone() else { return Ok(()) };
        let there = state.wait_for(|d| d.is_none_or(|durable| durable >= index)).await;
        match there.map(|durable| *durable) {
            Ok(Some(_)) => Ok(()),
            _ => Err(StoreError::Io("a snapshot could not be kept".into())),
        }
    }

    /// Nothing was ever written: no vote, no entry.
    pub fn is_fresh(&self) -> bool {
        let inner = self.inner();
        inner.vote.is_none() && inner.last.is_none()
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogId> {
        self.inner().purged
    }

    /// The last entry, or the last one that was purged.
    pub fn last(&self) -> Option<LogId> {
        self.inner().last
    }

    /// Entries of `start..end` that are there, without holes, from the first that is there; at
    /// least one if there is one, and no more once they are `bytes_max` long.
    async fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        for _ in 0..READ_TRIES_MAX {
            let (from, to, cached) = {
                let inner = self.inner();
                let (from, to) = (start.max(inner.first), end.min(inner.end()));
                let cached = inner.cache.first().map_or(to, |first| first.min(to));
                (from, to, cached)
            };
            if from >= to {
                return Ok(Vec::new());
            }
            let mut found = Vec::new();
            let mut bytes = 0;
            if from < cached {
                let log = self.clone();
                let stored = self.writer.aside(move || log.stored(from, cached, bytes_max));
                (found, bytes) = stored.await?;
            }
            let reached = found.last().map_or(from, |entry| entry.log_id.index + 1);
            if reached >= cached && (bytes == 0 || bytes < bytes_max) {
                let inner = self.inner();
                found.extend(inner.cache.read(reached, to, bytes_max - bytes));
            }
            // It may have been cut, or purged, between the two.
            let first = found.first().map(|entry| entry.log_id.index);
            let whole = found.iter().zip(from..).all(|(entry, n)| entry.log_id.index == n);
            if first == Some(from) && whole {
                return Ok(found);
            }
        }
        Err(StoreError::Damaged(format!("entries {start} to {end} of the log are not whole")))
    }

    /// Entries of `start..end` in the store, up to a bound, and their bytes.
    fn stored(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), StoreError> {
        let (mut found, mut bytes, mut from) = (Vec::new(), 0, start);
        while from < end && (bytes == 0 || bytes < bytes_max) {
            let to = end.min(from + READ_ENTRIES_MAX);
            let (first, last) = (self.keys.entry(from), self.keys.entry(to));
            let pairs = self.writer.store().range(&first, &last, READ_ENTRIES_MAX as usize)?;
            for (_, value) in pairs {
                if bytes > 0 && bytes + value.len() > bytes_max {
                    return Ok((found, bytes_max));
                }
                bytes += value.len();
                found.push(decode_entry(&value)?);
            }
            from = to;
        }
        Ok((found, bytes))
    }

    fn to_append(&self, entries: Vec<Entry>) -> Result<(Vec<Change>, u64), StoreError> {
        let mut changes = Vec::with_capacity(entries.len());
        let mut inner = self.inner();
        for entry in entries {
            let index = entry.log_id.index;
            // It is agreed, applied and gone.
            if inner.purged.is_some_and(|purged| index <= purged.index) {
                continue;
            }
            if inner.last.is_some_and(|last| last.index + 1 != index) {
                let end = inner.end();
                let words = format!("entry {index} was to follow, the log ends at {end}");
                return Err(StoreError::Io(words));
            }
            if inner.last.is_none() {
                inner.first = index;
            }
            let value = encode_entry(&entry);
            inner.last = Some(entry.log_id);
            inner.cache.push(entry, value.len());
            changes.push(Change::put(self.keys.entry(index), value));
        }
        Ok((changes, inner.end()))
    }

    /// Deletes entries `from..end` in batches that are not too long; `first` goes with the first.
    async fn delete(&self, from: u64, end: u64, first: Vec<Change>) -> Result<(), StoreError> {
        let (mut changes, mut from) = (first, from);
        loop {
            let to = end.min(from.saturating_add(DELETE_ENTRIES_MAX));
            changes.extend((from..to).map(|n| Change::delete(self.keys.entry(n))));
            self.writer.write(std::mem::take(&mut changes), false).await?;
            if to >= end {
                return Ok(());
            }
            from = to;
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await.map_err(|e| cannot_read(&e))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let found = self.read(start, end, READ_BYTES_MAX).await.map_err(|e| cannot_read(&e))?;
        if start < end && found.first().map(|entry| entry.log_id.index) != Some(start) {
            let gone = StoreError::Io(format!("entry {start} is not in the log"));
            return Err(cannot_read(&gone));
        }
        Ok(found)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let inner = self.inner();
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: inner.last })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let change = Change::put(self.keys.vote(), codec::encode(&StoredVote(*vote)));
        let written = self.writer.write(vec![change], true).await;
        written.map_err(|e| StorageIOError::write_vote(AnyError::new(&e)))?;
        self.inner().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.inner().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.inner().committed = committed;
        let change = Change::put(self.keys.committed(), codec::encode(&StoredId(committed)));
        // It only saves time after a restart. If it cannot be written, the next append tells.
        self.writer.submit(vec![change], false, |_| ()).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.inner().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        if let Some(error) = &self.flushed.borrow().failed {
            return Err(cannot_write(error));
        }
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let early = self.is_early(&entries);
        let (changes, end) = self.to_append(entries).map_err(|e| cannot_write(&e))?;
        let (now, later) = if early { (Some(callback), None) } else { (None, Some(callback)) };
        let (inner, flushed) = (self.inner.clone(), self.flushed.clone());
        let done = move |result: Result<(), StoreError>| {
            match &result {
                Ok(()) => {
                    let mut inner = inner.lock().unwrap_or_else(|e| e.into_inner());
                    inner.written = end.min(inner.end());
                    let written = inner.written;
                    inner.cache.shrink(written);
                    let waits = written < inner.end();
                    flushed.send_modify(|flushed| {
                        flushed.last = flushed.last.max(Some(last));
                        flushed.waiting_since = waits.then(Instant::now);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, entry = %last, "the log cannot be written");
                    flushed.send_modify(|flushed| flushed.failed = Some(error.clone()));
                }
            }
            if let Some(callback) = later {
                callback.log_io_completed(result.map_err(as_io));
            }
        };
        if early {
            self.flushed.send_if_modified(|flushed| {
                flushed.waiting_since.get_or_insert_with(Instant::now);
                // Nobody waits for this.
                false
            });
        }
        self.writer.submit(changes, true, done).await;
        if let Some(callback) = now {
            callback.log_io_completed(Ok(()));
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let (from, end) = (log_id.index, self.inner().end());
        if from >= end {
            return Ok(());
        }
        let before = match from.checked_sub(1) {
            None => None,
            Some(index) => {
                let found = self.read(index, from, usize::MAX).await;
                let found = found.map_err(|e| cannot_read(&e))?.pop().map(|entry| entry.log_id);
                found.or(self.inner().purged)
            }
        };
        {
            let mut inner = self.inner();
            inner.cache.truncate(from);
            inner.last = before;
            inner.written = inner.written.min(from);
        }
        self.flushed.send_if_modified(|flushed| {
            let cut = flushed.reaches(from);
            flushed.last = if cut { before } else { flushed.last };
            cut
        });
        // The newest first: if this is cut short, what is left has no hole.
        let mut to = end;
        while to > from {
            let start = from.max(to.saturating_sub(DELETE_ENTRIES_MAX));
            let deleted = self.delete(start, to, Vec::new()).await;
            deleted.map_err(|e| cannot_write(&e))?;
            to = start;
        }
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.wait_state(log_id.index).await.map_err(|e| cannot_write(&e))?;
        let (from, end) = {
            let mut inner = self.inner();
            let (from, end) = (inner.first, inner.end());
            if inner.purged.is_some_and(|purged| purged.index >= log_id.index) {
                return Ok(());
            }
            inner.purged = Some(log_id);
            inner.first = log_id.index + 1;
            inner.cache.purge(log_id.index);
            if end <= log_id.index + 1 {
                inner.last = Some(log_id);
                inner.written = log_id.index + 1;
            }
            (from, end.min(log_id.index + 1))
        };
        self.flushed.send_if_modified(|flushed| {
            let behind = !flushed.reaches(log_id.index);
            flushed.last = if behind { Some(log_id) } else { flushed.last };
            behind
        });
        // First that they are gone, then they go: what a crash leaves over is known as such.
        let purged = codec::encode(&StoredId(Some(log_id)));
        let purged = vec![Change::put(self.keys.purged(), purged)];
        self.delete(from, end, purged).await.map_err(|e| cannot_write(&e))
    }
}
