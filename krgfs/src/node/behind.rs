//! Writes that are under way while their writers go on: only to files that nobody else has open,
//! and never more than are to be lost at once. Whatever asks about such a file waits for them.

use super::core::{Core, DEADLINE, Who};
use fuser::{Errno, INodeNo};
use krg_faf::op::Attr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes that may be under way on one mount.
const BYTES_MAX: usize = 16 << 20;

/// Files are looked through for those that nobody has open when there are this many, and then twice
/// as many as were kept.
const FILES_KEPT: usize = 256;

/// Waits for the writes to a file.
type Waiter = Box<dyn FnOnce(&Arc<Core>) + Send>;

#[derive(Default)]
struct File {
    opens: usize,
    /// Writes need not be waited for.
    lease: bool,
    /// From where to where: the server may do them in any order, so no two may overlap.
    under_way: Vec<(u64, u64)>,
    /// Where the furthest of them ends.
    end: u64,
    /// When the last one was answered.
    settled: u64,
    waiters: Vec<Waiter>,
    /// Nobody has had it open since.
    closed: Option<Instant>,
}

#[derive(Default)]
struct Table {
    files: HashMap<u64, File>,
    bytes: usize,
    /// Counts leases that were taken away: an answer that grants one may come after that.
    recalls: u64,
    /// Counts, so that what was asked before a write was answered is told from what came after.
    time: u64,
    /// As many files as there may be without a look.
    room: usize,
}

impl Table {
    fn sweep(&mut self) {
        if self.files.len() <= self.room.max(FILES_KEPT) {
            return;
        }
        let now = Instant::now();
        let recent = |at: Instant| now.duration_since(at) < DEADLINE;
        self.files.retain(|_, f| !f.under_way.is_empty() || f.closed.is_none_or(recent));
        self.room = self.files.len() * 2;
    }
}

/// Those of one mount.
#[derive(Default)]
pub struct Behind(Mutex<Table>);

impl Behind {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `opened`, before the server is asked.
    pub fn recalls(&self) -> u64 {
        self.table().recalls
    }

    /// A file was opened, perhaps with a lease, which was asked for after so many recalls.
    pub fn opened(&self, ino: INodeNo, lease: bool, recalls: u64) {
        let mut guard = self.table();
        let table = &mut *guard;
        let file = table.files.entry(ino.0).or_default();
        file.opens += 1;
        file.closed = None;
        file.lease = lease && recalls == table.recalls;
    }

    /// And closed. What is known of its length is kept until every answer has come that may not
    /// know it yet.
    pub fn closed(&self, ino: INodeNo) {
        let mut guard = self.table();
        let table = &mut *guard;
        let Some(file) = table.files.get_mut(&ino.0) else { return };
        file.opens = file.opens.saturating_sub(1);
        if file.opens == 0 {
            file.lease = false;
            file.closed = Some(Instant::now());
        }
        table.sweep();
    }

    /// The lease is gone: with it goes the leave to write on without waiting.
    pub fn recalled(&self, of: &[INodeNo]) {
        let mut table = self.table();
        table.recalls += 1;
        for ino in of {
            if let Some(file) = table.files.get_mut(&ino.0) {
                file.lease = false;
            }
        }
    }

    /// All leases are gone.
    pub fn all_recalled(&self) {
        let mut table = self.table();
        table.recalls += 1;
        table.files.values_mut().for_each(|file| file.lease = false);
    }

    /// Its length was set, or others may write to it: what was written here says nothing of it.
    pub fn resized(&self, ino: INodeNo) {
        if let Some(file) = self.table().files.get_mut(&ino.0) {
            file.end = 0;
        }
    }

    /// A write begins: may its writer go on?
    pub fn begin(&self, ino: INodeNo, offset: u64, bytes: usize) -> bool {
        let mut guard = self.table();
        let table = &mut *guard;
        let Some(file) = table.files.get_mut(&ino.0) else { return false };
        let end = offset.saturating_add(bytes as u64);
        let overlaps = file.under_way.iter().any(|(from, to)| offset < *to && *from < end);
        // Who waits for those under way is not to wait for ever.
        if !file.lease || overlaps || !file.waiters.is_empty() {
            return false;
        }
        if table.bytes + bytes > BYTES_MAX {
            return false;
        }
        table.bytes += bytes;
        file.end = file.end.max(end);
        file.under_way.push((offset, end));
        true
    }

    /// Is nothing under way to a file?
    pub fn is_clear(&self, ino: INodeNo) -> bool {
        self.table().files.get(&ino.0).is_none_or(|file| file.under_way.is_empty())
    }

    /// It was answered; who waits for it goes on.
    pub fn done(&self, core: &Arc<Core>, ino: INodeNo, offset: u64, bytes: usize) {
        let mut guard = self.table();
        let table = &mut *guard;
        table.bytes -= bytes;
        table.time += 1;
        let Some(file) = table.files.get_mut(&ino.0) else { return };
        if let Some(at) = file.under_way.iter().position(|(from, _)| *from == offset) {
            file.under_way.swap_remove(at);
        }
        file.settled = table.time;
        let mut waiters = Vec::new();
        if file.under_way.is_empty() {
            waiters = std::mem::take(&mut file.waiters);
        }
        drop(guard);
        waiters.into_iter().for_each(|waiter| waiter(core));
    }

    /// Does `work` when nothing is under way to a file any more.
    pub fn barrier(
        &self,
        core: &Arc<Core>,
        ino: INodeNo,
        work: impl FnOnce(&Arc<Core>) + Send + 'static,
    ) {
        let mut table = self.table();
        match table.files.get_mut(&ino.0) {
            Some(file) if !file.under_way.is_empty() => file.waiters.push(Box::new(work)),
            _ => {
                drop(table);
                work(core);
            }
        }
    }

    /// The same for somebody who may be told to end meanwhile.
    pub fn barrier_for(
        &self,
        core: &Arc<Core>,
        who: &Who,
        ino: INodeNo,
        work: impl FnOnce(&Arc<Core>, Result<(), Errno>) + Send + 'static,
    ) {
        if self.is_clear(ino) {
            return work(core, Ok(()));
        }
        let work = Arc::new(Mutex::new(Some(work)));
        let take =
            |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (ended, ender) = (work.clone(), core.clone());
        let held = core.hold(who, move |errno| {
            if let Some(work) = take(&ended) {
                work(&ender, Err(errno));
            }
        });
        self.barrier(core, ino, move |core| {
            core.let_go(held);
            if let Some(work) = take(&work) {
                work(core, Ok(()));
            }
        });
    }

    /// For `corrected`.
    pub fn now(&self) -> u64 {
        self.table().time
    }

    /// The attributes of a file that were asked for at `asked`. The server may not have known then
    /// of all that was written here.
    pub fn corrected(&self, ino: INodeNo, attr: &Attr, asked: u64) -> Attr {
        let table = self.table();
        match table.files.get(&ino.0) {
            Some(file) if !file.under_way.is_empty() || file.settled > asked => {
                Attr { size: attr.size.max(file.end), ..*attr }
            }
            _ => *attr,
        }
    }
}

/// A write that nobody waited for has failed: who uses the file next is told.
#[derive(Default)]
pub struct Failure(Mutex<Option<Errno>>);

impl Failure {
    fn slot(&self) -> MutexGuard<'_, Option<Errno>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first one counts.
    pub fn set(&self, errno: Errno) {
        self.slot().get_or_insert(errno);
    }

    /// It is told once.
    pub fn take(&self) -> Result<(), Errno> {
        self.slot().take().map_or(Ok(()), Err)
    }
}
