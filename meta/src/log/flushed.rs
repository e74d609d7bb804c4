//! How far the log is on the disk. A leader sends its entries on while its own disk still writes
//! them, so that the two take their time together (Ongaro's thesis, 10.2.1). Raft, as it is used
//! here, then believes them to be on this disk already; so nothing comes of that belief before it
//! is true: nothing is applied, and no follower is told that it is agreed on.

use crate::raft::LogId;
use crate::store::StoreError;
use openraft::LogIdOptionExt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A disk that takes longer stalls.
const STALL_MAX: Duration = Duration::from_secs(1);

/// Up to where the log is durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flushed {
    /// The last entry that is.
    pub last: Option<LogId>,
    /// Why no later one will be.
    pub failed: Option<StoreError>,
    /// Since when the disk has made no headway with what was acknowledged before it was there.
    pub waiting_since: Option<Instant>,
}

impl Flushed {
    /// Is this entry durable?
    pub fn reaches(&self, index: u64) -> bool {
        self.last.next_index() > index
    }

    /// Of what is agreed on, as Raft believes, that which is. Nothing of an earlier leader: that
    /// is agreed on only by what this one has added (the Raft paper, figure 8).
    pub fn limit(&self, committed: Option<LogId>) -> Option<LogId> {
        match committed {
            Some(id) if !self.reaches(id.index) => {
                self.last.filter(|last| last.leader_id == id.leader_id)
            }
            committed => committed,
        }
    }

    /// Has the disk made no headway for too long? Then another should lead.
    pub fn stalls(&self) -> bool {
        self.waiting_since.is_some_and(|since| since.elapsed() > STALL_MAX)
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
