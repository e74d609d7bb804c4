//! The log against a plain list: random changes, reads with and without the cache, crashes.

use super::*;
use crate::memory::MemoryStore;
use crate::raft::StoredMembership;
use crate::store::{SledStore, Store, lock};
use openraft::storage::RaftLogStorageExt;
use openraft::{CommittedLeaderId, EntryPayload};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tokio::time::Instant;

fn place(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, krg_types::MemberId::default()), index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry { log_id: place(term, index), payload: EntryPayload::Blank }
}

fn load(store: Arc<dyn Store>) -> LogStore {
    LogStore::load(Writer::start(store).unwrap(), 3).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What the log must be: its term, the last purged, the entries after it.
#[derive(Default)]
struct Model {
    term: u64,
    purged: Option<LogId>,
    entries: Vec<LogId>,
}

impl Model {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    fn end(&self) -> u64 {
        self.first() + self.entries.len() as u64
    }

    async fn step(&mut self, log: &mut LogStore, rng: &mut StdRng) {
        match rng.gen_range(0..10) {
            0 => {
                self.term += 1;
                let vote = Vote::new_committed(self.term, krg_types::MemberId::default());
                log.save_vote(&vote).await.unwrap();
            }
            1 if self.entries.len() > 2 => {
                let kept = rng.gen_range(1..self.entries.len());
                log.truncate(self.entries[kept]).await.unwrap();
                self.entries.truncate(kept);
            }
            2 if self.entries.len() > 2 => {
                let gone = rng.gen_range(1..self.entries.len());
                log.purge(self.entries[gone - 1]).await.unwrap();
                self.purged = Some(self.entries[gone - 1]);
                self.entries.drain(..gone);
            }
            3 if rng.gen_bool(0.1) => {
                // A snapshot from far ahead.
                let id = place(self.term, self.end() + 7);
                log.purge(id).await.unwrap();
                (self.purged, self.entries) = (Some(id), Vec::new());
            }
            _ => {
                let new: Vec<Entry> = (0..rng.gen_range(1..400))
                    .map(|n| entry(self.term, self.end() + n))
                    .collect();
                self.entries.extend(new.iter().map(|entry| entry.log_id));
                log.blocking_append(new).await.unwrap();
            }
        }
    }

    async fn compare(&self, log: &mut LogStore, rng: &mut StdRng) {
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, self.purged);
        assert_eq!(state.last_log_id, self.entries.last().copied().or(self.purged));
        let (a, b) = (rng.gen_range(0..=self.end() + 3), rng.gen_range(0..=self.end() + 3));
        let read = log.try_get_log_entries(a..b).await.unwrap();
        let found: Vec<LogId> = read.iter().map(|entry| entry.log_id).collect();
        let wanted = self.entries.iter().filter(|id| (a..b).contains(&id.index));
        assert_eq!(found, wanted.copied().collect::<Vec<_>>(), "{a}..{b}");
        if a >= self.first() && a < b.min(self.end()) {
            let few = log.limited_get_log_entries(a, b).await.unwrap();
            assert!(!few.is_empty() && read.starts_with(&few));
        }
    }
}

async fn steps(log: &mut LogStore, model: &mut Model, rng: &mut StdRng, count: u32) {
    for _ in 0..count {
        model.step(log, rng).await;
        model.compare(log, rng).await;
        // Without the older part of what is kept in memory, or without all of it.
        let forget = rng.gen_range(0..=model.end());
        log.inner().cache.purge(forget);
        model.compare(log, rng).await;
    }
}

#[test]
fn it_is_what_was_written_through_crashes() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut store = MemoryStore::new();
        let mut model = Model::default();
        let runtime = runtime();
        for _ in 0..4 {
            let mut log = load(store.clone());
            runtime.block_on(async {
                steps(&mut log, &mut model, &mut rng, 20).await;
                // Everything before this is durable; what comes after it may or may not be.
                let vote = Vote::new_committed(model.term, krg_types::MemberId::default());
                log.save_vote(&vote).await.unwrap();
                assert_eq!(store.unsynced(), 0);
                if let Some(last) = model.entries.last() {
                    log.save_committed(Some(*last)).await.unwrap();
                }
            });
            store = store.crash_keeping(rng.gen_range(0..3));
            let mut log = load(store.clone());
            runtime.block_on(model.compare(&mut log, &mut rng));
            let vote = runtime.block_on(log.read_vote()).unwrap();
            assert_eq!(vote.unwrap().leader_id.term, model.term);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_does_not_wait_for_its_disk_and_nothing_comes_of_that_before() {
    const SYNC: Duration = Duration::from_millis(10);
    let own = krg_types::MemberId::default();
    let store = MemoryStore::new();
    store.set_sync_time(SYNC);
    let members =
        openraft::Membership::new(vec![[own].into()], std::collections::BTreeSet::from([own]));
    let stored = StoredMembership::new(Some(place(1, 0)), members.clone());
    let mut metrics = Metrics::new_initial(own);
    metrics.membership_config = Arc::new(stored);
    let mut log = load(store.clone()).of(own);
    log.watch(watch::channel(metrics).1);
    let mut flushed = log.flushed();
    log.save_vote(&Vote::new(1, own)).await.unwrap();
    log.blocking_append([entry(1, 0)]).await.unwrap();
    log.save_vote(&Vote::new_committed(1, own)).await.unwrap();
    let begun = Instant::now();
    log.blocking_append([entry(1, 1)]).await.unwrap();
    assert_eq!((begun.elapsed(), flushed.borrow().last), (Duration::ZERO, Some(place(1, 0))));
    assert_eq!(flushed.borrow().limit(Some(place(1, 1))), Some(place(1, 0)));
    reached(&mut flushed, 1).await.unwrap();
    assert_eq!((begun.elapsed(), flushed.borrow().last), (SYNC, Some(place(1, 1))));
    // Not so with another list of members, nor with what follows it.
    let change = Entry { payload: EntryPayload::Membership(members), ..entry(1, 2) };
    let (mut first, mut second) = (log.clone(), log.clone());
    let (first, second) = tokio::join!(
        biased;
        first.blocking_append([change]),
        second.blocking_append([entry(1, 3)]),
    );
    first.and(second).unwrap();
    assert_eq!(flushed.borrow().last, Some(place(1, 3)));
    // What was sent on but not kept is not there after a crash, and the term is over.
    log.blocking_append([entry(1, 4)]).await.unwrap();
    let mut log = load(store.crash()).of(own);
    assert_eq!(log.last(), Some(place(1, 3)));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(1, own)));
    assert!(matches!(reached(&mut flushed, 4).await, Err(StoreError::Poisoned(_))));
}

#[test]
fn a_crash_between_two_batches_leaves_no_hole() {
    let runtime = runtime();
    let (end, cut) = (3000, 2500);
    for keep in 0..6 {
        for purge in [false, true] {
            let store = MemoryStore::new();
            let mut log = load(store.clone());
            runtime.block_on(async {
                let entries: Vec<Entry> = (0..end).map(|n| entry(0, n)).collect();
                log.blocking_append(entries).await.unwrap();
                if purge {
                    log.purge(place(0, cut)).await.unwrap();
                } else {
                    log.truncate(place(0, end - cut)).await.unwrap();
                }
            });
            let batches = store.unsynced();
            assert!(batches >= 3, "{batches}");
            let mut log = load(store.crash_keeping(keep));
            let found = runtime.block_on(log.try_get_log_entries(..)).unwrap();
            if purge {
                let first = if keep == 0 { 0 } else { cut + 1 };
                assert_eq!(found.first().unwrap().log_id.index, first);
                assert_eq!(found.last().unwrap().log_id.index, end - 1);
            } else {
                let left = end.saturating_sub(1024 * keep as u64).max(end - cut);
                assert_eq!(found.len() as u64, left);
            }
        }
    }
}

#[test]
fn on_disk_it_is_what_was_written() {
    let dir = tempfile::TempDir::new().unwrap();
    let dir = dir.path().join("store");
    let mut rng = StdRng::seed_from_u64(5);
    let mut model = Model::default();
    let runtime = runtime();
    for _ in 0..3 {
        let store = Arc::new(SledStore::open(&dir, lock(&dir).unwrap()).unwrap());
        let mut log = load(store);
        runtime.block_on(async {
            model.compare(&mut log, &mut rng).await;
            steps(&mut log, &mut model, &mut rng, 20).await;
        });
    }
}

#[test]
fn a_hole_or_an_old_vote_is_noticed_at_open() {
    let runtime = runtime();
    let make = || {
        let store = MemoryStore::new();
        let mut log = load(store.clone());
        runtime.block_on(async {
            log.save_vote(&Vote::new_committed(2, krg_types::MemberId::default())).await.unwrap();
            let entries: Vec<Entry> = (0..50).map(|n| entry(2, n)).collect();
            log.blocking_append(entries).await.unwrap();
        });
        store
    };
    let keys = Keys(3);
    let old = codec::encode(&StoredVote(Vote::new(1, krg_types::MemberId::default())));
    for (change, words) in [
        (Change::delete(keys.entry(0)), "entry 0 of the log is missing"),
        (Change::delete(keys.entry(25)), "entry 25 of the log is missing"),
        (Change::put(keys.entry(25), encode_entry(&entry(2, 24))), "entry 25"),
        (Change::put(keys.entry(25), encode_entry(&entry(1, 25))), "follows"),
        (Change::put(keys.entry(25), vec![1, 2, 3]), "too few"),
        (Change::put(keys.vote(), old), "older than the last entry"),
        (Change::delete(keys.vote()), "older than the last entry"),
    ] {
        let store = make();
        store.write(vec![change]).unwrap();
        let writer = Writer::start(store).unwrap();
        match LogStore::load(writer, 3) {
            Err(StoreError::Damaged(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}
