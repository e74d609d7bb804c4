//! Directories that have just been read: who looks through the same tree again within a second is
//! answered from here, as long as nothing is known to have changed.

use super::core::ATTR_TTL;
use super::opens::Part;
use fuser::INodeNo;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Lines that are kept, of all directories.
const LINES_MAX: usize = 65_536;

struct Listing {
    part: Arc<Part>,
    edits: u64,
}

#[derive(Default)]
struct Table {
    listings: HashMap<u64, Listing>,
    lines: usize,
}

/// Those of one mount.
#[derive(Default)]
pub struct Listings {
    table: Mutex<Table>,
    /// Counts what this node itself has changed.
    edits: AtomicU64,
}

impl Listings {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node changes something: what is kept may be old.
    pub fn edited(&self) {
        self.edits.fetch_add(1, Ordering::AcqRel);
    }

    /// For `keep`, before a directory is read.
    pub fn edits(&self) -> u64 {
        self.edits.load(Ordering::Acquire)
    }

    /// A directory has been read in one go, beginning when so much had been changed.
    pub fn keep(&self, dir: INodeNo, part: &Arc<Part>, edits: u64) {
        let mut guard = self.table();
        let table = &mut *guard;
        if table.lines + part.lines.len() > LINES_MAX {
            *table = Table::default();
        }
        let listing = Listing { part: part.clone(), edits };
        table.lines += part.lines.len();
        if let Some(old) = table.listings.insert(dir.0, listing) {
            table.lines -= old.part.lines.len();
        }
    }

    /// What is still known of a directory, if `is_news` says that nothing was told since.
    pub fn get(&self, dir: INodeNo, is_news: impl Fn(&Part) -> bool) -> Option<Arc<Part>> {
        let mut guard = self.table();
        let table = &mut *guard;
        let listing = table.listings.get(&dir.0)?;
        let part = listing.part.clone();
        if listing.edits == self.edits() && part.age(Instant::now()) < ATTR_TTL && is_news(&part)
        {
            return Some(part);
        }
        table.lines -= part.lines.len();
        table.listings.remove(&dir.0);
        None
    }
}
