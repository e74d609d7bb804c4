//! Files of this node's own tree, which the kernel reads and writes without asking: FUSE's
//! passthrough (kernel 6.9). All who have a file open at once must do so by the same backing file
//! or all without one, or the kernel refuses them.

use fuser::{BackingId, INodeNo};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of a file that is open: what backs it, if anything does, and how often it is open.
struct Backed {
    backing: Option<Arc<BackingId>>,
    opens: usize,
}

/// Those of one mount.
#[derive(Default)]
pub struct Backings(Mutex<HashMap<u64, Backed>>);

impl Backings {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, Backed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is opened; `back` makes what backs it, if it is the first.
    pub fn opened(
        &self,
        ino: INodeNo,
        back: impl FnOnce() -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let mut table = self.table();
        let backed = table.entry(ino.0).or_insert_with(|| {
            let made = back();
            if let Err(e) = &made {
                tracing::debug!(error = %e, "a file is not passed through");
            }
            Backed { backing: made.ok().map(Arc::new), opens: 0 }
        });
        backed.opens += 1;
        backed.backing.clone()
    }

    /// And closed.
    pub fn closed(&self, ino: INodeNo) {
        let mut table = self.table();
        if let Some(backed) = table.get_mut(&ino.0) {
            backed.opens -= 1;
            if backed.opens == 0 {
                table.remove(&ino.0);
            }
        }
    }
}
