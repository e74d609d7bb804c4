//! What is shown and told of what is applied, and when rows reach the store.

use super::*;
use crate::command::{Batch, Command, Proposal, Reply, Ticket};
use crate::memory::MemoryStore;
use crate::open::open_memory;
use crate::store::{Change, Store};
use crate::table::config;
use crate::watch::Notice;
use krg_types::{MemberId, NodeId};
use openraft::CommittedLeaderId;

fn member() -> MemberId {
    MemberId::new(NodeId::new(1).unwrap(), 1)
}

fn set(number: u64, value: &str) -> Proposal {
    let ticket = Ticket { origin: member(), epoch: 1, number, settled: 0 };
    let (key, value) = (format!("k{number}"), Some(value.to_owned()));
    let command = Command::Config(config::Command::Set { key, value, if_revision: None });
    Proposal { ticket, command }
}

fn entry(index: u64, proposals: Vec<Proposal>) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(1, member()), index);
    Entry {
        log_id,
        payload: EntryPayload::Normal(Batch { now_ms: index, proposals: proposals.into() }),
    }
}

#[tokio::test]
async fn each_command_is_told_once_and_its_own_writes_are_shown() {
    let mut opened = open_memory(MemoryStore::new(), 0).unwrap();
    let mut reader = opened.feed.subscribe(1);
    let mut applied = opened.published.applied();
    let refused = set(3, &"x".repeat(10_000));
    let entries = [
        entry(0, vec![set(1, "a"), set(2, "b")]),
        // One that was done before, and one that changes nothing but the sessions.
        entry(1, vec![set(1, "a"), refused, set(4, "c")]),
    ];
    let replies = opened.machine.apply(entries).await.unwrap();
    let view = opened.published.load();
    assert_eq!(replies[0].0, [Reply::Done(1), Reply::Done(2)]);
    assert_eq!((&replies[1].0[0], &replies[1].0[2]), (&Reply::Done(1), &Reply::Done(4)));
    assert!(matches!(replies[1].0[1], Reply::Refused(_)));
    assert_eq!(view.state.config.get("k4"), Some(&config::Text("c".into())));
    assert_eq!(*applied.borrow_and_update(), 1);
    for (revision, key) in [(1, "k1"), (2, "k2"), (4, "k4")] {
        let Some(Notice::Event(event)) = reader.next().await else { panic!("a gap") };
        let keys: Vec<_> = event.changes.iter().map(|c| (c.table, c.key.as_str())).collect();
        assert_eq!((event.revision, keys), (revision, vec![("config", key)]));
    }
    drop(opened);
    assert!(reader.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn rows_are_written_late_and_with_all_that_belongs_to_them() {
    let store = MemoryStore::new();
    let mut opened = open_memory(store.clone(), 0).unwrap();
    opened.machine.apply([entry(0, vec![set(1, "a")])]).await.unwrap();
    assert_eq!(store.unsynced(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    opened.machine.apply([entry(1, vec![set(2, "b")])]).await.unwrap();
    assert_eq!(store.unsynced(), 1);
    let many = (3..1003).map(|n| set(n, "c")).collect();
    opened.machine.apply([entry(2, many)]).await.unwrap();
    assert_eq!(store.unsynced(), 2);
    // Each batch is whole: rows, place, membership.
    let (_, view) = Rows::load(store.as_ref(), 0).unwrap();
    assert_eq!((view.applied_index(), view.state.revision, view.state.now_ms), (2, 1002, 2));
    assert_eq!(view.state.stored(), opened.published.load().state.stored());
    let kept = store.crash_keeping(1);
    let (_, view) = Rows::load(kept.as_ref(), 0).unwrap();
    assert_eq!((view.applied_index(), view.state.revision, view.state.now_ms), (1, 2, 1));
}

#[tokio::test]
async fn a_row_that_is_lost_or_old_or_too_much_is_noticed() {
    let store = MemoryStore::new();
    let mut opened = open_memory(store.clone(), 0).unwrap();
    let proposals = (1..20).map(|n| set(n, "a")).collect();
    opened.machine.apply([entry(0, proposals)]).await.unwrap();
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let keys = crate::keys::Keys(0);
    let (first, end) = keys.rows();
    let before = store.range(&first, &end, 5).unwrap();
    let again =
        vec![Proposal { ticket: Ticket { number: 50, ..set(1, "").ticket }, ..set(1, "b") }];
    opened.machine.apply([entry(1, again)]).await.unwrap();
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert!(Rows::load(store.as_ref(), 0).is_ok());
    let after = store.range(&first, &end, 5).unwrap();
    let old = before.iter().find(|pair| !after.contains(pair)).unwrap().clone();
    let (key, value) = before[3].clone();
    let other = [&key[..], b"x"].concat();
    for change in [Change::delete(key), Change::put(old.0, old.1), Change::put(other, value)] {
        let found = store.crash_keeping(9);
        found.write(vec![change]).unwrap();
        let noticed = Rows::load(found.as_ref(), 0);
        assert!(matches!(noticed, Err(StoreError::Damaged(_))), "{noticed:?}");
    }
}
