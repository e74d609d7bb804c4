//! Raft's state machine: applies what is agreed to the state, shows it, keeps it.

#[cfg(test)]
mod tests;

use crate::command::Replies;
use crate::log::{Flushed, reached};
use crate::published::{Published, View};
use crate::raft::{Entry, LogId, StorageError, StoredMembership, Types};
use crate::rows::Rows;
use crate::snapshot::{self, SnapshotFiles, SnapshotMeta};
use crate::state;
use crate::store::StoreError;
use crate::watch::{Event, Feed};
use crate::writer::Writer;
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// So many changed rows are written at once.
const ROWS_WAITING_MAX: usize = 2000;
/// Changed rows wait no longer, if more is applied.
const ROWS_WAIT: Duration = Duration::from_secs(1);
/// The table that watchers do not see.
const HIDDEN_TABLE: &str = "sessions";

/// The state machine of one group.
#[derive(Debug)]
pub struct Machine {
    /// Not shown yet what the present apply does to it.
    view: View,
    rows: Rows,
    rows_written: Instant,
    writer: Arc<Writer>,
    files: Arc<dyn SnapshotFiles>,
    published: Arc<Published>,
    feed: Arc<Feed>,
    durable: Arc<watch::Sender<Durable>>,
    /// Up to where the log is durable, if that is to be waited for.
    flushed: Option<watch::Receiver<Flushed>>,
}

/// Up to which entry the state is durable without the log; `None` once a snapshot has failed.
pub type Durable = Option<u64>;

fn failed(error: &StoreError) -> StorageError {
    StorageIOError::write_state_machine(AnyError::new(error)).into()
}

fn snapshot_failed(meta: Option<&SnapshotMeta>, error: &StoreError) -> StorageError {
    let signature = meta.map(SnapshotMeta::signature);
    StorageIOError::write_snapshot(signature, AnyError::new(error)).into()
}

impl Machine {
    /// Goes on with what was loaded: `rows` are those of `view`.
    pub(crate) fn new(
        (rows, view): (Rows, View),
        writer: Arc<Writer>,
        files: Arc<dyn SnapshotFiles>,
    ) -> Machine {
        let published = Arc::new(Published::new(view.clone()));
        let feed = Arc::new(Feed::new(published.clone()));
        let rows_written = Instant::now();
        let durable = Arc::new(watch::Sender::new(Some(view.applied_index())));
        Machine {
            view,
            rows,
            rows_written,
            writer,
            files,
            published,
            feed,
            durable,
            flushed: None,
        }
    }

    /// From now on nothing is applied before the log has it on the disk.
    pub fn after(mut self, flushed: watch::Receiver<Flushed>) -> Machine {
        self.flushed = Some(flushed);
        self
    }

    /// Where the state is shown.
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// Up to where the log is not needed any more.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Where its changes are told.
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    fn apply_one(&mut self, entry: Entry, events: &mut Vec<Event>) -> Replies {
        self.view.applied = Some(entry.log_id);
        let (rows, view) = (&mut self.rows, &mut self.view);
        match entry.payload {
            EntryPayload::Blank => Replies::default(),
            EntryPayload::Membership(membership) => {
                view.membership = StoredMembership::new(Some(entry.log_id), membership);
                Replies::default()
            }
            EntryPayload::Normal(batch) => {
                state::apply_each(&mut view.state, &batch, |revision, mut changes| {
                    rows.note(&changes);
                    changes.retain(|change| change.table != HIDDEN_TABLE);
                    if !changes.is_empty() {
                        events.push(Event { revision, changes: changes.into() });
                    }
                })
            }
        }
    }

    async fn write_rows(&mut self) -> Result<(), StoreError> {
        self.rows_written = Instant::now();
        let changes = self.rows.take(&self.view);
        self.writer.write(changes, false).await
    }

    async fn install(&mut self, view: View, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (files, index) = (self.files.clone(), view.applied_index());
        self.writer.aside(move || files.keep(index, &bytes)).await?;
        self.rows.replace(&self.writer, &view).await?;
        self.rows_written = Instant::now();
        self.view = view.clone();
        self.published.publish(view);
        self.feed.skip();
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.feed.close();
        // Only to have less to do after the restart: the log has it all.
        if self.rows.waiting() > 0 {
            self.writer.offer(self.rows.take(&self.view));
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.view.applied, self.view.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let (Some(flushed), Some(last)) = (&mut self.flushed, entries.last()) {
            reached(flushed, last.log_id.index).await.map_err(|e| failed(&e))?;
        }
        let mut events = Vec::new();
        let replies = entries.into_iter().map(|entry| self.apply_one(entry, &mut events));
        let replies: Vec<Replies> = replies.collect();
        // Shown before the replies go out, and before watchers hear of it.
        self.published.publish(self.view.clone());
        self.feed.push(events);
        let due = self.rows_written.elapsed() >= ROWS_WAIT && self.rows.waiting() > 0;
        if due || self.rows.waiting() > ROWS_WAITING_MAX {
            self.write_rows().await.map_err(|e| failed(&e))?;
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let rows = self.write_rows().await;
        let (writer, files) = (self.writer.clone(), self.files.clone());
        let durable = self.durable.clone();
        Builder { view: self.view.clone(), rows, writer, files, durable }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError> {
        if meta.last_log_id < self.view.applied {
            tracing::warn!(snapshot = %meta, "an old snapshot is not installed");
            let kept = self.write_rows().await;
            let kept = match kept {
                Ok(()) => self.writer.write(Vec::new(), true).await,
                failed => failed,
            };
            let index = kept.is_ok().then(|| self.view.applied_index());
            self.durable.send_replace(index);
            return kept.map_err(|e| snapshot_failed(Some(meta), &e));
        }
        let announced = meta.clone();
        let checked = self.writer.aside(move || {
            let view = snapshot::check(&announced, &snapshot)?;
            Ok((view, *snapshot))
        });
        let installed = match checked.await {
            Ok((view, bytes)) => self.install(view, bytes).await,
            Err(error) => Err(error),
        };
        // The log is shortened behind it, and waits for this.
        let index = installed.is_ok().then(|| self.view.applied_index());
        self.durable.send_replace(index);
        installed.map_err(|e| snapshot_failed(Some(meta), &e))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let files = self.files.clone();
        let found = self.writer.aside(move || newest(files.as_ref())).await;
        let found = found.map_err(|e| {
            StorageError::from(StorageIOError::read_snapshot(None, AnyError::new(&e)))
        })?;
        Ok(found.map(|(view, bytes)| Snapshot {
            meta: snapshot::meta_of(&view),
            snapshot: Box::new(bytes),
        }))
    }
}

/// The newest snapshot that is whole. One that is not is passed over: it takes nothing away, the
/// rows and the log are complete without it.
pub(crate) fn newest(files: &dyn SnapshotFiles) -> Result<Option<(View, Vec<u8>)>, StoreError> {
    for index in files.list()? {
        let bytes = files.read(index)?;
        match snapshot::decode(&bytes) {
            Ok(view) if view.applied_index() == index => return Ok(Some((view, bytes))),
            Ok(_) => tracing::error!(index, "a snapshot is of another entry than its name says"),
            Err(error) => tracing::error!(index, %error, "a snapshot cannot be used"),
        }
        files.put_aside(index)?;
    }
    Ok(None)
}

/// Makes one snapshot, while the state goes on.
#[derive(Debug)]
pub struct Builder {
    view: View,
    /// Did the rows go to the store?
    rows: Result<(), StoreError>,
    writer: Arc<Writer>,
    files: Arc<dyn SnapshotFiles>,
    durable: Arc<watch::Sender<Durable>>,
}

impl Builder {
    async fn build(&mut self) -> Result<Vec<u8>, StoreError> {
        self.rows.clone()?;
        // The log is shortened after this: from then on the rows must be durable by themselves.
        self.writer.write(Vec::new(), true).await?;
        let (view, files) = (self.view.clone(), self.files.clone());
        let build = move || {
            let bytes = snapshot::encode(&view)?;
            let newer = files.list()?.first().is_some_and(|n| *n > view.applied_index());
            // One was installed meanwhile.
            if !newer {
                files.keep(view.applied_index(), &bytes)?;
            }
            Ok(bytes)
        };
        let bytes = self.writer.aside(build).await?;
        let index = self.view.applied_index();
        self.durable.send_if_modified(|durable| match durable {
            Some(before) if *before < index => {
                *before = index;
                true
            }
            _ => false,
        });
        Ok(bytes)
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let meta = snapshot::meta_of(&self.view);
        match self.build().await {
            Ok(bytes) => Ok(Snapshot { meta, snapshot: Box::new(bytes) }),
            Err(error) => Err(snapshot_failed(Some(&meta), &error)),
        }
    }
}
