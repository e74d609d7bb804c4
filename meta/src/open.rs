//! Opening what a member holds. It is believed only when all of it fits together; otherwise it is
//! put aside, because a member with half of its log or an old vote could undo what was agreed.

use crate::log::LogStore;
use crate::machine::{Machine, newest};
use crate::memory::MemoryStore;
use crate::published::{Published, View};
use crate::rows::Rows;
use crate::snapshot::{DirFiles, SnapshotFiles, StoreFiles};
use crate::store::{SledStore, Store, StoreError, beside, lock, sync_parent};
use crate::watch::Feed;
use crate::writer::Writer;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stores put aside in one place.
const QUARANTINED_MAX: u32 = 10_000;

/// One group's log and state, opened and checked.
#[derive(Debug)]
pub struct Opened {
    /// For Raft. `log.is_fresh()` tells that nothing was ever in it.
    pub log: LogStore,
    /// For Raft.
    pub machine: Machine,
    /// Where the state is shown.
    pub published: Arc<Published>,
    /// Where its changes are told.
    pub feed: Arc<Feed>,
}

/// Why a member's store cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The store was damaged and is out of the way now.
    #[error(
        "the store {from} cannot be trusted and was moved to {to}, where nothing will touch it: \
         {why}. Agreed data is safe on the other nodes; this one must join again as a new member"
    )]
    Quarantined {
        /// Where it was.
        from: PathBuf,
        /// Where it is.
        to: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store is damaged and could not even be moved.
    #[error("the store {dir} cannot be trusted ({why}) and cannot be moved away: {error}")]
    Stuck {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Why it is still there.
        error: String,
    },
    /// The store may be whole, but it cannot be had now.
    #[error("the store {dir} cannot be opened: {error}")]
    Unavailable {
        /// Where it is.
        dir: PathBuf,
        /// Why not: the disk is full, it fails, another daemon has it.
        error: StoreError,
    },
}

/// Opens the store in `dir` for one group; makes it if there is none. Blocks, for as long as it
/// takes to read all of it.
///
/// # Errors
/// As `OpenError` says. What is damaged is moved away, never deleted.
pub fn open(dir: &Path, group: u32) -> Result<Opened, OpenError> {
    let unavailable = |error| OpenError::Unavailable { dir: dir.to_owned(), error };
    let lock = lock(dir).map_err(unavailable)?;
    let kept = lock.try_clone();
    let kept = kept.map_err(|e| unavailable(StoreError::io("the store's lock", &e)))?;
    match open_dir(dir, group, lock) {
        Ok(opened) => Ok(opened),
        Err(StoreError::Damaged(why)) => Err(put_aside(dir, why, kept)),
        Err(error) => Err(unavailable(error)),
    }
}

fn open_dir(dir: &Path, group: u32, lock: File) -> Result<Opened, StoreError> {
    let store = Arc::new(SledStore::open(dir, lock)?);
    let files = DirFiles::open(&dir.join(format!("group-{group}")))?;
    open_store(store, Arc::new(files), group)
}

/// Opens a store in memory for one group.
///
/// # Errors
/// `Damaged` when what is in it does not fit together.
pub fn open_memory(store: Arc<MemoryStore>, group: u32) -> Result<Opened, StoreError> {
    let files = Arc::new(StoreFiles::new(store.clone(), group));
    open_store(store, files, group)
}

fn open_store(
    store: Arc<dyn Store>,
    files: Arc<dyn SnapshotFiles>,
    group: u32,
) -> Result<Opened, StoreError> {
    let writer = Writer::start(store.clone())?;
    let log = LogStore::load(writer.clone(), group)?;
    let (rows, view) = Rows::load(store.as_ref(), group)?;
    let snapshot = newest(files.as_ref())?.map(|(view, _)| view);
    let (rows, view) = choose(&log, (rows, view), snapshot)?;
    let machine = Machine::new((rows, view), writer, files);
    let (published, feed) = (machine.published(), machine.feed());
    Ok(Opened { log, machine, published, feed })
}

/// The state to go on with: that of the rows, or of a snapshot whose installation was cut short.
fn choose(
    log: &LogStore,
    (rows, view): (Rows, View),
    snapshot: Option<View>,
) -> Result<(Rows, View), StoreError> {
    let newer = snapshot.as_ref().is_some_and(|s| s.applied > view.applied);
    let snapshot_index = snapshot.as_ref().and_then(|s| s.applied).map(|id| id.index);
    let view = match snapshot {
        Some(snapshot) if newer => snapshot,
        _ => view,
    };
    let (last, purged) = (log.last().map(|id| id.index), log.purged().map(|id| id.index));
    let applied = view.applied.map(|id| id.index);
    // What is applied was in the log, durable, before; or it came by a snapshot.
    if applied > last && applied > snapshot_index {
        return Err(StoreError::Damaged(format!(
            "its state has entry {applied:?}, its log ends with {last:?}"
        )));
    }
    if purged > applied {
        return Err(StoreError::Damaged(format!(
            "its log begins after entry {purged:?}, its state ends with {applied:?}"
        )));
    }
    let rows = if newer { rows.behind(&view) } else { rows };
    Ok((rows, view))
}

fn put_aside(dir: &Path, why: String, lock: File) -> OpenError {
    let moved = quarantine(dir);
    // Held until now: nobody else opens it meanwhile.
    drop(lock);
    let from = dir.to_owned();
    match moved {
        Ok(to) => {
            tracing::error!(from = %from.display(), to = %to.display(), why, "store put aside");
            OpenError::Quarantined { from, to, why }
        }
        Err(error) => OpenError::Stuck { dir: from, why, error: error.to_string() },
    }
}

/// Renames a store to `<dir>.quarantined-<n>` with the first `n` that is free; never deletes.
///
/// # Errors
/// As the file system says.
pub fn quarantine(dir: &Path) -> Result<PathBuf, StoreError> {
    let error = |e: &std::io::Error| StoreError::io(dir.display().to_string(), e);
    for n in 1..=QUARANTINED_MAX {
        let to = beside(dir, &format!("quarantined-{n}"));
        if fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        fs::rename(dir, &to).map_err(|e| error(&e))?;
        sync_parent(dir).map_err(|e| error(&e))?;
        return Ok(to);
    }
    Err(StoreError::Io(format!("{QUARANTINED_MAX} stores were put aside here already")))
}
