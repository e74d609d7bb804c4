//! How long the durable half takes on this machine's disk. Give it a directory on that disk.

use krg_meta::command::{Batch, Command, Proposal, Ticket};
use krg_meta::log::encode_entry;
use krg_meta::memory::MemoryStore;
use krg_meta::open::{Opened, open, open_memory};
use krg_meta::raft::{Entry, LogId};
use krg_meta::table::config;
use krg_types::{MemberId, NodeId};
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftSnapshotBuilder};
use std::io::Write;
use std::time::{Duration, Instant};

const APPENDS: u64 = 2000;
const COMMANDS: u64 = 100_000;
const KEYS: u64 = 65_536;

fn member() -> MemberId {
    NodeId::new(1).map_or_else(MemberId::default, |node| MemberId::new(node, 1))
}

fn proposal(number: u64, bytes: usize) -> Proposal {
    let settled = number.saturating_sub(100);
    let command = config::Command::Set {
        key: format!("key-{:05}", number % KEYS),
        value: Some("x".repeat(bytes)),
        if_revision: None,
    };
    let ticket = Ticket { origin: member(), epoch: 1, number, settled };
    Proposal { ticket, command: Command::Config(command) }
}

fn entry(index: u64, numbers: std::ops::Range<u64>, bytes: usize) -> Entry {
    let proposals = numbers.map(|number| proposal(number, bytes)).collect();
    let log_id = LogId::new(CommittedLeaderId::new(0, member()), index);
    Entry { log_id, payload: EntryPayload::Normal(Batch { now_ms: index, proposals }) }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.0} us, p99 {:.0} us, max {:.0} us", at(50), at(99), at(100));
}

fn timed<T>(what: &str, began: Instant, value: T) -> T {
    println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    value
}

async fn append(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = std::fs::File::create(dir.join("bare"))?;
    let line = encode_entry(&entry(0, 0..1, 200));
    println!("an entry has {} bytes", line.len());
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let began = Instant::now();
        file.write_all(&line)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    show("bare append and fdatasync", times);
    let mut opened = open(&dir.join("appends"), 0)?;
    let mut times = Vec::new();
    for n in 0..APPENDS {
        let entry = entry(n, n..n + 1, 200);
        let began = Instant::now();
        opened.log.blocking_append([entry]).await?;
        times.push(began.elapsed());
    }
    show("append of one entry", times);
    drop(opened);
    let began = Instant::now();
    drop(timed("closed and opened", began, open(&dir.join("appends"), 0)?));
    Ok(())
}

async fn apply(mut opened: Opened, what: &str) -> Result<Opened, Box<dyn std::error::Error>> {
    for size in [1, 100] {
        let first = if size == 1 { 0 } else { COMMANDS };
        let entries: Vec<Entry> = (0..COMMANDS / size)
            .map(|n| entry(first + n, first + n * size..first + (n + 1) * size, 200))
            .collect();
        let began = Instant::now();
        for entry in entries {
            opened.machine.apply([entry]).await?;
        }
        timed(&format!("{what}: {COMMANDS} commands applied, {size} an entry"), began, ());
    }
    let began = Instant::now();
    let mut builder = opened.machine.get_snapshot_builder().await;
    let snapshot = builder.build_snapshot().await?;
    let size = snapshot.snapshot.len() >> 20;
    timed(&format!("{what}: snapshot of {KEYS} keys ({size} MiB) built"), began, ());
    let dir = std::env::temp_dir().join(format!("krg-measure-{}", std::process::id()));
    let mut other = open(&dir, 0)?;
    let began = Instant::now();
    other.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await?;
    timed(&format!("{what}: snapshot installed on disk"), began, ());
    drop(other);
    let began = Instant::now();
    drop(timed("opened with all keys", began, open(&dir, 0)?));
    std::fs::remove_dir_all(dir)?;
    Ok(opened)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir =
        std::env::args_os().nth(1).ok_or("give it a new directory on the disk to measure")?;
    let dir = std::path::PathBuf::from(dir);
    std::fs::create_dir(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        append(&dir).await?;
        apply(open_memory(MemoryStore::new(), 0)?, "memory").await?;
        apply(open(&dir.join("applies"), 0)?, "disk").await?;
        Ok(())
    })
}
