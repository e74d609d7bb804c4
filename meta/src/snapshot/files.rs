//! Where snapshots are kept: files beside the store, because the store is not made for values as
//! long as these; in a simulation in the store itself, which loses them as it loses the rest.

use crate::keys::Keys;
use crate::store::{Change, Store, StoreError, sync_parent};
use krg_types::limits::SNAPSHOT_BYTES_MAX;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place for snapshots. All calls may block.
pub trait SnapshotFiles: Send + Sync + Debug + 'static {
    /// The indices of those that are there, newest first.
    ///
    /// # Errors
    /// As the disk says.
    fn list(&self) -> Result<Vec<u64>, StoreError>;

    /// One of them.
    ///
    /// # Errors
    /// As the disk says.
    fn read(&self, index: u64) -> Result<Vec<u8>, StoreError>;

    /// Moves a snapshot that cannot be used out of the way.
    ///
    /// # Errors
    /// As the disk says.
    fn put_aside(&self, index: u64) -> Result<(), StoreError>;

    /// Keeps a snapshot: durable at return. Older ones are removed after that.
    ///
    /// # Errors
    /// As the disk says; the others are still there then.
    fn keep(&self, index: u64, bytes: &[u8]) -> Result<(), StoreError>;
}

/// Before the index in a file's name.
const PREFIX: &str = "snapshot-";

/// Snapshots in a directory, `snapshot-<index>` each.
#[derive(Debug)]
pub struct DirFiles {
    dir: PathBuf,
}

impl DirFiles {
    /// Those in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// As the disk says.
    pub fn open(dir: &Path) -> Result<DirFiles, StoreError> {
        let make = || -> io::Result<()> {
            if !dir.try_exists()? {
                fs::create_dir(dir)?;
                sync_parent(dir)?;
            }
            Ok(())
        };
        make().map_err(|e| StoreError::io(dir.display().to_string(), &e))?;
        Ok(DirFiles { dir: dir.to_owned() })
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{index}"))
    }

    fn error(&self, error: &io::Error) -> StoreError {
        StoreError::io(self.dir.display().to_string(), error)
    }
}

impl SnapshotFiles for DirFiles {
    fn list(&self) -> Result<Vec<u64>, StoreError> {
        let mut found: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|e| self.error(&e))? {
            let name = entry.map_err(|e| self.error(&e))?.file_name();
            let index = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            found.extend(index.and_then(|index| index.parse::<u64>().ok()));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    fn read(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(index)).map_err(|e| self.error(&e))?;
        let read = file.take(SNAPSHOT_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.error(&e))?;
        Ok(bytes)
    }

    fn put_aside(&self, index: u64) -> Result<(), StoreError> {
        let aside = self.dir.join(format!("damaged-{PREFIX}{index}"));
        fs::rename(self.path(index), aside).map_err(|e| self.error(&e))
    }

    fn keep(&self, index: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let new = self.dir.join("new");
        let keep = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.path(index))?;
            File::open(&self.dir)?.sync_all()
        };
        keep().map_err(|e| {
            // What is left of it only takes room, which may be what is missing.
            let _ = fs::remove_file(&new);
            self.error(&e)
        })?;
        for old in self.list()?.into_iter().filter(|old| *old < index) {
            if let Err(error) = fs::remove_file(self.path(old)) {
                tracing::warn!(%error, old, "an old snapshot cannot be removed");
            }
        }
        Ok(())
    }
}

/// Snapshots in a store that takes values of any length.
#[derive(Debug)]
pub struct StoreFiles {
    store: Arc<dyn Store>,
    keys: Keys,
}

impl StoreFiles {
    /// Those of a group.
    pub fn new(store: Arc<dyn Store>, group: u32) -> StoreFiles {
        StoreFiles { store, keys: Keys(group) }
    }
}

impl SnapshotFiles for StoreFiles {
    fn list(&self) -> Result<Vec<u64>, StoreError> {
        let (from, to) = self.keys.snapshots();
        let pairs = self.store.range(&from, &to, usize::MAX)?;
        let index = |key: &[u8]| key.last_chunk::<8>().map(|n| u64::from_be_bytes(*n));
        Ok(pairs.iter().rev().filter_map(|(key, _)| index(key)).collect())
    }

    fn read(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let found = self.store.get(&self.keys.snapshot(index))?;
        found.ok_or_else(|| StoreError::Io(format!("there is no snapshot {index}")))
    }

    fn put_aside(&self, index: u64) -> Result<(), StoreError> {
        self.store.write(vec![Change::delete(self.keys.snapshot(index))])
    }

    fn keep(&self, index: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.write(vec![Change::put(self.keys.snapshot(index), bytes.to_vec())])?;
        self.store.sync()?;
        let old = self.list()?.into_iter().filter(|old| *old < index);
        let old: Vec<Change> = old.map(|n| Change::delete(self.keys.snapshot(n))).collect();
        if old.is_empty() { Ok(()) } else { self.store.write(old) }
    }
}
