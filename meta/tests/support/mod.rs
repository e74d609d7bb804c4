//! A log whose every entry follows from its index, a writer that appends and applies it, and a
//! check that finds out whether a store holds what was acknowledged.

#![allow(dead_code, reason = "each test uses its part")]

use krg_meta::command::{Batch, Command, Proposal, Ticket};
use krg_meta::open::Opened;
use krg_meta::raft::{Entry, LogId, Vote};
use krg_meta::state::{State, apply};
use krg_meta::table::config;
use krg_types::{MemberId, NodeId};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{
    BasicNode, CommittedLeaderId, EntryPayload, Membership, RaftLogReader, RaftSnapshotBuilder,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Entries of one term.
const TERM: u64 = 300;
/// Entries between snapshots, and those kept behind one.
const SNAPSHOT: (u64, u64) = (700, 200);

pub fn member() -> MemberId {
    MemberId::new(NodeId::new(1).unwrap(), 1)
}

/// The place of entry `index`.
pub fn place(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1 + index / TERM, member()), index)
}

fn set(index: u64, n: u64) -> Proposal {
    // A few entries are far longer than one value of the store may be.
    let len = if index % 11 == 7 { 7000 } else { 300 };
    let value = format!("{index}.{n}.").repeat(len / 6);
    let command = config::Command::Set {
        key: format!("k{}", (index * 7 + n) % 500),
        value: (index % 13 != 5).then_some(value),
        if_revision: None,
    };
    let number = index * 10 + n;
    let ticket =
        Ticket { origin: member(), epoch: 1, number, settled: number.saturating_sub(20) };
    Proposal { ticket, command: Command::Config(command) }
}

pub fn batch(index: u64) -> Batch {
    let count = if index % 11 == 7 { 6 } else { 1 };
    Batch { now_ms: index * 10, proposals: (0..count).map(|n| set(index, n)).collect() }
}

/// Entry `index`.
pub fn entry(index: u64) -> Entry {
    let payload = if index == 0 {
        let node = BasicNode { addr: "127.0.0.1:7600".into() };
        let nodes = BTreeMap::from([(member(), node)]);
        EntryPayload::Membership(Membership::new(vec![[member()].into()], nodes))
    } else {
        EntryPayload::Normal(batch(index))
    };
    Entry { log_id: place(index), payload }
}

/// The state when entries up to `index` are applied.
pub fn state(index: u64) -> State {
    let mut state = State::default();
    for n in 1..=index {
        apply(&mut state, &batch(n));
    }
    state
}

/// Appends and applies entries up to `last`; tells each index when it is acknowledged.
pub async fn write(opened: &mut Opened, last: u64, acked: impl FnMut(u64)) -> Result<(), String> {
    write_with(opened, last, true, acked).await
}

/// The same; `shorten`: with snapshots, behind which the log is dropped.
pub async fn write_with(
    opened: &mut Opened,
    last: u64,
    shorten: bool,
    mut acked: impl FnMut(u64),
) -> Result<(), String> {
    let text = |e: krg_meta::raft::StorageError| e.to_string();
    let Opened { log, machine, .. } = opened;
    let mut next = log.last().map_or(0, |id| id.index + 1);
    let applied = machine.applied_state().await.map_err(text)?.0.map_or(0, |id| id.index + 1);
    let late = log.try_get_log_entries(applied..next).await.map_err(text)?;
    machine.apply(late).await.map_err(text)?;
    while next <= last {
        if next % TERM == 0 {
            let term = 1 + next / TERM;
            log.save_vote(&Vote::new_committed(term, member())).await.map_err(text)?;
        }
        if next % 97 == 1 {
            // What another leader had begun and this one takes back.
            let wrong = [0, 1].map(|n| Entry { payload: EntryPayload::Blank, ..entry(next + n) });
            log.blocking_append(wrong).await.map_err(text)?;
            log.truncate(place(next)).await.map_err(text)?;
        }
        log.blocking_append([entry(next)]).await.map_err(text)?;
        acked(next);
        machine.apply([entry(next)]).await.map_err(text)?;
        log.save_committed(Some(place(next))).await.map_err(text)?;
        if shorten && next % SNAPSHOT.0 == 0 && next > 0 {
            let mut builder = machine.get_snapshot_builder().await;
            builder.build_snapshot().await.map_err(text)?;
            log.purge(place(next - SNAPSHOT.1)).await.map_err(text)?;
        }
        next += 1;
    }
    Ok(())
}

/// Removes what stands behind entry `last`, which nobody acknowledged.
pub async fn cut(opened: &mut Opened, last: u64) {
    opened.log.truncate(place(last + 1)).await.unwrap();
}

/// Panics unless the store holds every acknowledged entry and nothing else; `acked` is the last
/// one. Applies what is not applied yet.
pub async fn check(opened: &mut Opened, acked: u64) {
    let Opened { log, machine, published, .. } = opened;
    let ids = log.get_log_state().await.unwrap();
    let first = ids.last_purged_log_id.map_or(0, |id| id.index + 1);
    let last = ids.last_log_id.unwrap().index;
    assert!(last >= acked, "the log ends with {last}, {acked} was acknowledged");
    let entries = log.try_get_log_entries(first..=acked).await.unwrap();
    assert_eq!(entries.len() as u64, acked + 1 - first, "a gap");
    for (found, n) in entries.iter().zip(first..) {
        let wanted = entry(n);
        assert_eq!(found.log_id, wanted.log_id);
        assert!(found.payload == wanted.payload, "entry {n} is another one");
    }
    let vote = log.read_vote().await.unwrap().unwrap();
    assert!(vote.leader_id.term > acked / TERM, "a vote of {acked} was lost: {vote}");
    let applied = machine.applied_state().await.unwrap().0.map_or(0, |id| id.index + 1);
    assert!(applied <= last + 1 && applied >= first, "{first} {applied} {last}");
    if applied <= acked {
        let late = log.try_get_log_entries(applied..=acked).await.unwrap();
        machine.apply(late).await.unwrap();
    }
    let view = published.load();
    let wanted = state(view.applied_index());
    assert!(view.applied_index() >= acked);
    assert_eq!(view.state.revision, wanted.revision);
    assert_eq!(view.state.now_ms, wanted.now_ms);
    assert!(view.state.stored() == wanted.stored(), "the rows are other ones");
    assert_eq!(view.membership.voter_ids().collect::<Vec<_>>(), [member()]);
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(source, target).unwrap();
        }
    }
}
