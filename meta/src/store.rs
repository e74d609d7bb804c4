//! What the log and the rows are kept in: ordered keys, atomic batches, and one call that makes
//! everything written before it durable.

mod disk;
mod journal;
mod parts;

pub use disk::{SledStore, beside, lock};

use crate::codec::CodecError;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes it durable that a file or directory has this name.
///
/// # Errors
/// As the disk says.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// One key of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which.
    pub key: Vec<u8>,
    /// What it becomes; absent: deleted.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Sets a key.
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Change {
        Change { key, value: Some(value) }
    }

    /// Deletes a key.
    pub fn delete(key: Vec<u8>) -> Change {
        Change { key, value: None }
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What calls of a store cost, and so where they may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// They take the time of a disk: only where blocking is allowed.
    Blocks,
    /// None takes time, but a sync is to take this much, by the clock of its runtime.
    Feigned(Duration),
}

/// Keys and values on something that survives.
pub trait Store: Send + Sync + Debug + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first `count_max` pairs of `from..to`, in the order of the keys.
    ///
    /// # Errors
    /// When one of them is damaged or cannot be read.
    fn range(&self, from: &[u8], to: &[u8], count_max: usize) -> Result<Vec<Pair>, StoreError>;

    /// Does all of it or nothing. Readers see it at return; it is not durable yet. Batches become
    /// durable in the order in which they were written.
    ///
    /// # Errors
    /// When it may not have been done; then nothing more is taken.
    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// When it may not be; then nothing more is taken, because a later success would prove
    /// nothing about what was lost now.
    fn sync(&self) -> Result<(), StoreError>;

    /// What calls cost.
    fn pace(&self) -> Pace;
}

/// Why the disk's half of the agreement failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left.
    #[error("the disk is full ({0}): make room, then start krgd again")]
    Full(String),
    /// The disk or the file system failed.
    #[error("the disk failed: {0}")]
    Io(String),
    /// What is stored is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A newer krgd wrote it.
    #[error("the store is too new: {0}")]
    TooNew(String),
    /// Another daemon has it open.
    #[error("another krgd has {0} open")]
    Held(PathBuf),
    /// A write or a sync failed before.
    #[error("the store takes nothing more until krgd starts again, because {0}")]
    Poisoned(String),
}

impl StoreError {
    /// From an error of the file system, with what it was about.
    pub fn io(what: impl Into<String>, error: &io::Error) -> StoreError {
        let text = format!("{}: {error}", what.into());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
            _ => StoreError::Io(text),
        }
    }
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> StoreError {
        match error {
            CodecError::Version { found, known } if found > known => {
                StoreError::TooNew(error.to_string())
            }
            _ => StoreError::Damaged(error.to_string()),
        }
    }
}
