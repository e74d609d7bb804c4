//! Damaged stores: either all of it is right after all, or it is refused and put aside. Never a
//! panic, never wrong data.

mod support;

use krg_meta::memory::MemoryStore;
use krg_meta::open::{OpenError, Opened, open, open_memory};
use krg_meta::snapshot;
use krg_meta::store::StoreError;
use krg_types::limits::GROUP_MAIN;
use openraft::RaftSnapshotBuilder;
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Entries of the store that is damaged: two snapshots, a purged beginning.
const LAST: u64 = 1500;
/// So many damages; KRG_DAMAGES takes its place.
const DAMAGES: u64 = 160;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

/// Does some damage to one of the files; says what.
fn damage(dir: &Path, rng: &mut StdRng) -> String {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.retain(|path| fs::metadata(path).unwrap().len() > 0);
    // Most of it to the file that holds most.
    let db = all.iter().find(|path| path.ends_with("store/db")).unwrap();
    let path = if rng.gen_bool(0.6) { db } else { &all[rng.gen_range(0..all.len())] };
    let len = fs::metadata(path).unwrap().len();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = rng.gen_range(0..len);
    let how = match rng.gen_range(0..4) {
        0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << rng.gen_range(0..8)], at).unwrap();
            "a bit flipped"
        }
        1 => {
            let count = rng.gen_range(1..8192u64).min(len - at);
            file.write_all_at(&vec![0; count as usize], at).unwrap();
            "zeroes"
        }
        2 => {
            let count = rng.gen_range(1..4096u64).min(len - at);
            let noise: Vec<u8> = (0..count).map(|_| rng.r#gen()).collect();
            file.write_all_at(&noise, at).unwrap();
            "noise"
        }
        _ => {
            file.set_len(at).unwrap();
            "cut off"
        }
    };
    let name = path.strip_prefix(dir).unwrap().display();
    format!("{name} ({len} bytes): {how} at {at}")
}

#[test]
fn damage_is_noticed_or_did_no_harm() {
    let (runtime, temp) = (runtime(), TempDir::new().unwrap());
    let sound = temp.path().join("sound");
    let mut opened = open(&sound, GROUP_MAIN).unwrap();
    runtime.block_on(support::write(&mut opened, LAST, |_| ())).unwrap();
    drop(opened);
    let damages = std::env::var("KRG_DAMAGES").map_or(DAMAGES, |n| n.parse().unwrap());
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..damages {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = temp.path().join(format!("case-{seed}"));
        support::copy(&sound, &dir);
        let what = damage(&dir, &mut rng);
        // Said only when the test fails.
        println!("{seed}: {what}");
        match open(&dir, GROUP_MAIN) {
            Ok(mut opened) => {
                harmless += 1;
                runtime.block_on(support::check(&mut opened, LAST));
                assert_eq!(opened.log.last().unwrap().index, LAST);
            }
            Err(OpenError::Quarantined { from, to, why }) => {
                refused += 1;
                println!("   refused: {why}");
                assert!(!from.exists() && to.join("store").exists());
                fs::remove_dir_all(to).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
        let _ = fs::remove_dir_all(dir);
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > damages / 8 && harmless > 0, "{refused} {harmless}");
}

#[test]
fn a_quarantined_store_is_kept_and_a_new_one_is_fresh() {
    let (runtime, temp) = (runtime(), TempDir::new().unwrap());
    let dir = temp.path().join("meta");
    for n in 1..=2 {
        let mut opened = open(&dir, GROUP_MAIN).unwrap();
        assert!(opened.log.is_fresh());
        runtime.block_on(support::write(&mut opened, 50, |_| ())).unwrap();
        // While it is open nobody else may have it, and it is not put aside for that.
        match open(&dir, GROUP_MAIN) {
            Err(OpenError::Unavailable { error: StoreError::Held(_), .. }) => {}
            other => panic!("{other:?}"),
        }
        drop(opened);
        let opened = open(&dir, GROUP_MAIN).unwrap();
        assert!(!opened.log.is_fresh());
        drop(opened);
        fs::write(dir.join("mark"), "nonsense").unwrap();
        let words = match open(&dir, GROUP_MAIN) {
            Err(e @ OpenError::Quarantined { .. }) => e.to_string(),
            other => panic!("{other:?}"),
        };
        let aside = temp.path().join(format!("meta.quarantined-{n}"));
        assert!(words.contains(&aside.display().to_string()), "{words}");
        assert!(words.contains("join again as a new member"), "{words}");
        assert!(aside.join("store/db").exists());
    }
}

#[test]
fn a_store_that_is_not_ours_is_put_aside() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("meta");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("letter"), "dear reader").unwrap();
    assert!(matches!(open(&dir, GROUP_MAIN), Err(OpenError::Quarantined { .. })));
    assert!(temp.path().join("meta.quarantined-1/letter").exists());
}

#[test]
fn a_damaged_snapshot_from_a_peer_changes_nothing() {
    runtime().block_on(async {
        let mut from = open_memory(MemoryStore::new(), 0).unwrap();
        support::write(&mut from, 400, |_| ()).await.unwrap();
        let made = from.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        let store = MemoryStore::new();
        let mut to = open_memory(store.clone(), 0).unwrap();
        support::write(&mut to, 20, |_| ()).await.unwrap();
        let bytes = *made.snapshot;
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..300 {
            let mut bad = bytes.clone();
            match rng.gen_range(0..3) {
                0 => bad[rng.gen_range(0..bytes.len())] ^= 1 << rng.gen_range(0..8),
                1 => bad.truncate(rng.gen_range(0..bytes.len())),
                _ => bad.push(0),
            }
            assert!(snapshot::check(&made.meta, &bad).is_err());
            assert!(to.machine.install_snapshot(&made.meta, Box::new(bad)).await.is_err());
        }
        let mut other = made.meta.clone();
        other.last_log_id = Some(support::place(401));
        assert!(to.machine.install_snapshot(&other, Box::new(bytes.clone())).await.is_err());
        support::check(&mut to, 20).await;
        to.machine.install_snapshot(&made.meta, Box::new(bytes)).await.unwrap();
        assert!(to.published.load().state.stored() == support::state(400).stored());
        drop(to);
        // It is durable, and what it left behind of the log is no hole.
        let again = open_memory(store.crash(), 0).unwrap();
        assert_eq!(again.published.load().applied, Some(support::place(400)));
    });
}

#[test]
fn a_crash_at_any_moment_of_an_installation_leaves_the_old_or_the_new() {
    runtime().block_on(async {
        let mut from = open_memory(MemoryStore::new(), 0).unwrap();
        support::write(&mut from, 400, |_| ()).await.unwrap();
        let made = from.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        let (mut old, mut new) = (0, 0);
        // The disk is full after so many bytes: the call fails there, and there it crashes.
        for room in (0..).map(|n| n * 20_000) {
            let store = MemoryStore::new();
            let mut to = open_memory(store.clone(), 0).unwrap();
            support::write(&mut to, 20, |_| ()).await.unwrap();
            store.set_room(Some(room));
            let done = to.machine.install_snapshot(&made.meta, made.snapshot.clone()).await;
            for keep in 0..=store.unsynced() {
                let found = store.crash_keeping(keep);
                found.set_room(None);
                let mut found = open_memory(found, 0).unwrap();
                let view = found.published.load();
                if view.applied == made.meta.last_log_id {
                    new += 1;
                    assert!(view.state.stored() == support::state(400).stored());
                    let next = [support::entry(401)];
                    found.machine.apply(next).await.unwrap();
                    found.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
                } else {
                    old += 1;
                    support::check(&mut found, 20).await;
                }
            }
            if done.is_ok() {
                break;
            }
        }
        assert!(old > 3 && new > 1, "{old} {new}");
    });
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    runtime().block_on(async {
        let store = MemoryStore::new();
        let mut opened = open_memory(store.clone(), 0).unwrap();
        support::write(&mut opened, 30, |_| ()).await.unwrap();
        store.set_syncs_fail(true);
        assert!(opened.log.blocking_append([support::entry(31)]).await.is_err());
        store.set_syncs_fail(false);
        let words = opened.log.blocking_append([support::entry(32)]).await;
        let words = words.unwrap_err().to_string();
        assert!(words.contains("a sync failed"), "{words}");
        let Opened { .. } = opened;
        let mut found = open_memory(store.crash(), 0).unwrap();
        support::check(&mut found, 30).await;
        assert_eq!(found.log.last(), Some(support::place(30)));
    });
}
