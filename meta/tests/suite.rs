//! openraft's own conformance suite, on the store on disk and on the one in memory. The suite
//! makes members from any number, which ours cannot be, so it works on a Raft of its own types and
//! every value is handed through in its stored form.

use krg_meta::command::{Batch, Replies};
use krg_meta::log::LogStore;
use krg_meta::machine::{Builder, Machine};
use krg_meta::memory::MemoryStore;
use krg_meta::open::{Opened, open, open_memory};
use krg_meta::raft::Types;
use openraft::storage::{LogFlushed, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    BasicNode, LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, StorageError, StoredMembership, Vote,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::ops::RangeBounds;
use tempfile::TempDir;

openraft::declare_raft_types!(
    Plain:
        D = Batch,
        R = Replies,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<Plain>,
        SnapshotData = Vec<u8>,
        AsyncRuntime = openraft::TokioRuntime,
);

type Entry = openraft::Entry<Plain>;
type Failed = StorageError<u64>;

fn same<A: Serialize, B: DeserializeOwned>(value: &A) -> B {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

fn all<A: Serialize, B: DeserializeOwned>(values: impl IntoIterator<Item = A>) -> Vec<B> {
    values.into_iter().map(|value| same(&value)).collect()
}

struct Log(LogStore);
struct State(Machine);
struct Making(Builder);

impl RaftLogReader<Plain> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, Failed> {
        let found = self.0.try_get_log_entries(range).await;
        found.map(all).map_err(|e| same(&e))
    }

    async fn limited_get_log_entries(&mut self, a: u64, b: u64) -> Result<Vec<Entry>, Failed> {
        self.0.limited_get_log_entries(a, b).await.map(all).map_err(|e| same(&e))
    }
}

impl RaftLogStorage<Plain> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Plain>, Failed> {
        let LogState { last_purged_log_id, last_log_id } =
            self.0.get_log_state().await.map_err(|e| same::<_, Failed>(&e))?;
        Ok(LogState {
            last_purged_log_id: same(&last_purged_log_id),
            last_log_id: same(&last_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Log {
        Log(self.0.get_log_reader().await)
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failed> {
        self.0.save_vote(&same(vote)).await.map_err(|e| same(&e))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failed> {
        self.0.read_vote().await.map(|v| same(&v)).map_err(|e| same(&e))
    }

    async fn save_committed(&mut self, id: Option<LogId<u64>>) -> Result<(), Failed> {
        self.0.save_committed(same(&id)).await.map_err(|e| same(&e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Failed> {
        self.0.read_committed().await.map(|id| same(&id)).map_err(|e| same(&e))
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Plain>) -> Result<(), Failed>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<openraft::Entry<Types>> = all(entries);
        self.0.blocking_append(entries).await.map_err(|e| same::<_, Failed>(&e))?;
        done.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, id: LogId<u64>) -> Result<(), Failed> {
        self.0.truncate(same(&id)).await.map_err(|e| same(&e))
    }

    async fn purge(&mut self, id: LogId<u64>) -> Result<(), Failed> {
        self.0.purge(same(&id)).await.map_err(|e| same(&e))
    }
}

fn snapshot_out(snapshot: Snapshot<Types>) -> Snapshot<Plain> {
    Snapshot { meta: same(&snapshot.meta), snapshot: snapshot.snapshot }
}

impl RaftSnapshotBuilder<Plain> for Making {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Plain>, Failed> {
        self.0.build_snapshot().await.map(snapshot_out).map_err(|e| same(&e))
    }
}

impl RaftStateMachine<Plain> for State {
    type SnapshotBuilder = Making;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), Failed> {
        self.0.applied_state().await.map(|both| same(&both)).map_err(|e| same(&e))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>, Failed>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<openraft::Entry<Types>> = all(entries);
        self.0.apply(entries).await.map_err(|e| same(&e))
    }

    async fn get_snapshot_builder(&mut self) -> Making {
        Making(self.0.get_snapshot_builder().await)
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, Failed> {
        self.0.begin_receiving_snapshot().await.map_err(|e| same(&e))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), Failed> {
        self.0.install_snapshot(&same(meta), snapshot).await.map_err(|e| same(&e))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Plain>>, Failed> {
        let found = self.0.get_current_snapshot().await;
        found.map(|found| found.map(snapshot_out)).map_err(|e| same(&e))
    }
}

struct OnDisk;
struct InMemory;

impl StoreBuilder<Plain, Log, State, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Log, State), Failed> {
        let dir = TempDir::new().unwrap();
        let Opened { log, machine, .. } = open(&dir.path().join("meta"), 0).unwrap();
        Ok((dir, Log(log), State(machine)))
    }
}

impl StoreBuilder<Plain, Log, State, ()> for InMemory {
    async fn build(&self) -> Result<((), Log, State), Failed> {
        let Opened { log, machine, .. } = open_memory(MemoryStore::new(), 0).unwrap();
        Ok(((), Log(log), State(machine)))
    }
}

#[test]
fn the_store_on_disk_conforms() {
    Suite::test_all(OnDisk).unwrap();
}

#[test]
fn the_store_in_memory_conforms() {
    Suite::test_all(InMemory).unwrap();
}
