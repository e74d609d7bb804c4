//! How far the log is on the disk. A leader sends its entries on while its own disk still writes
//! them, so that the two take their time together (Ongaro's thesis, 10.2.1). Raft, as it is used
//! here, then believes them to be on this disk already; so nothing comes of that belief before it
//! is true: nothing is applied, and no follower is told that it is agreed on.

use crate::raft::LogId;
use crate::store::StoreError;
use openraft::LogIdOptionExt;
use tokio::sync::watch;

/// Up to where the log is durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flushed {
    /// The last entry that is.
    pub last: Option<LogId>,
    /// Why no later one will be.
    pub failed: Option<StoreError>,
}

impl Flushed {
    /// Is this entry durable?
    pub fn reaches(&self, index: u64) -> bool {
        self.last.next_index() > index
    }

    /// Of what is agreed on, as Raft believes, that which is.
    pub fn limit(&self, committed: Option<LogId>) -> Option<LogId> {
        match committed {
            Some(id) if !self.reaches(id.index) => self.last,
            committed => committed,
        }
    }
}

/// Waits until this entry is durable.
///
/// # Errors
/// When it will never be.
pub async fn reached(
    flushed: &mut watch::Receiver<Flushed>,
    index: u64,
) -> Result<(), StoreError> {
    let over = |flushed: &Flushed| flushed.reaches(index) || flushed.failed.is_some();
    let ended = || StoreError::Poisoned("its log is closed".into());
    let now = flushed.wait_for(over).await.map_err(|_| ended())?;
    if now.reaches(index) { Ok(()) } else { Err(now.failed.clone().unwrap_or_else(ended)) }
}
