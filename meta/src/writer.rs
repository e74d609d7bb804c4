//! Who writes into the store: one thread, which makes what has gathered durable with one sync.
//! A store that does not block is written on the spot instead, or by a task if its syncs are to
//! take time, so that simulations repeat.

use crate::store::{Change, Pace, Store, StoreError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Writes that wait; whoever brings more waits too.
const WRITES_WAITING_MAX: usize = 256;

/// Batches that wait become one, up to so many bytes.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Is told the outcome.
type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One batch, and whether it must be durable before its outcome is told.
struct Job {
    changes: Vec<Change>,
    sync: bool,
    done: Done,
}

/// The way into a store, shared by all that write there.
#[derive(Debug)]
pub struct Writer {
    store: Arc<dyn Store>,
    /// None for a store that takes no time.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts writing into a store.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(store: Arc<dyn Store>) -> Result<Arc<Writer>, StoreError> {
        let (jobs, waiting) = mpsc::channel(WRITES_WAITING_MAX);
        let into = store.clone();
        let (jobs, thread) = match store.pace() {
            Pace::Blocks => {
                let thread = std::thread::Builder::new()
                    .name("krg-store".into())
                    .spawn(move || run(into.as_ref(), waiting))
                    .map_err(|e| StoreError::io("the store's thread", &e))?;
                (Some(jobs), Some(thread))
            }
            Pace::Feigned(Duration::ZERO) => (None, None),
            Pace::Feigned(_) => {
                tokio::spawn(feign(into, waiting));
                (Some(jobs), None)
            }
        };
        Ok(Arc::new(Writer { store, jobs, thread }))
    }

    /// The store, for reading where blocking is allowed.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Hands a batch over. Batches are written in the order in which they are handed over; `done`
    /// is called when this one is written, or with `sync` when it is durable.
    pub async fn submit(
        &self,
        changes: Vec<Change>,
        sync: bool,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let job = Job { changes, sync, done: Box::new(done) };
        match &self.jobs {
            None => run_all(self.store.as_ref(), vec![job]),
            Some(jobs) => {
                if let Err(mpsc::error::SendError(job)) = jobs.send(job).await {
                    (job.done)(Err(ended()));
                }
            }
        }
    }

    /// Hands a batch over without waiting for anything; it may be lost.
    pub fn offer(&self, changes: Vec<Change>) {
        let job = Job { changes, sync: false, done: Box::new(|_| ()) };
        match &self.jobs {
            None => run_all(self.store.as_ref(), vec![job]),
            Some(jobs) => drop(jobs.try_send(job)),
        }
    }

    /// Writes a batch and waits until that is done, or durable.
    ///
    /// # Errors
    /// As the store says.
    pub async fn write(&self, changes: Vec<Change>, sync: bool) -> Result<(), StoreError> {
        let (tell, told) = oneshot::channel();
        // Who waited may be gone.
        self.submit(changes, sync, |result| drop(tell.send(result))).await;
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Does something that may block, where that is allowed.
    ///
    /// # Errors
    /// As `work` says, and when it panicked.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.thread.is_none() {
            return work();
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(StoreError::Io(format!("reading ended early: {e}"))))
    }
}

fn ended() -> StoreError {
    StoreError::Poisoned("its thread has ended".into())
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread has panicked");
        }
    }
}

fn run(store: &dyn Store, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        run_all(store, gather(first, &mut waiting));
    }
}

/// As `run`, for a store whose syncs only take the time they are told to take.
async fn feign(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.recv().await {
        let to_sync = write_all(store.as_ref(), gather(first, &mut waiting));
        if let (Pace::Feigned(time), false) = (store.pace(), to_sync.is_empty()) {
            sleep_until(Instant::now() + time).await;
        }
        sync(store.as_ref(), to_sync);
    }
}

fn gather(first: Job, waiting: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut jobs = vec![first];
    while jobs.len() < WRITES_WAITING_MAX
        && let Ok(more) = waiting.try_recv()
    {
        jobs.push(more);
    }
    jobs
}

/// Writes all of them, then makes them durable together.
fn run_all(store: &dyn Store, jobs: Vec<Job>) {
    let to_sync = write_all(store, jobs);
    sync(store, to_sync);
}

/// Writes all of them, as few batches; who waits for a sync is left.
fn write_all(store: &dyn Store, jobs: Vec<Job>) -> Vec<Done> {
    let mut to_sync = Vec::new();
    let mut jobs = jobs.into_iter().peekable();
    while let Some(Job { mut changes, sync, done }) = jobs.next() {
        let mut told = vec![(sync, done)];
        let mut bytes = size(&changes);
        while let Some(next) = jobs.next_if(|n| bytes + size(&n.changes) <= BATCH_BYTES_MAX) {
            bytes += size(&next.changes);
            changes.extend(next.changes);
            told.push((next.sync, next.done));
        }
        let written = if changes.is_empty() { Ok(()) } else { store.write(changes) };
        for (sync, done) in told {
            match &written {
                Ok(()) if sync => to_sync.push(done),
                result => done(result.clone()),
            }
        }
    }
    to_sync
}

fn size(changes: &[Change]) -> usize {
    changes.iter().map(|c| c.key.len() + c.value.as_ref().map_or(0, Vec::len)).sum()
}

fn sync(store: &dyn Store, to_sync: Vec<Done>) {
    if !to_sync.is_empty() {
        let synced = store.sync();
        for done in to_sync {
            done(synced.clone());
        }
    }
}
