//! What this node's own processes change, told to the clients that have it.
//!
//! Nothing is watched while nobody uses this node's files: it costs the node's processes a
//! microsecond here and there.

use super::session::Sessions;
use crate::bytes::Name;
use crate::export::{Tree, change_key};
use crate::handle::MountKey;
use crate::op::Key;
use krg_sys::fanotify::{Event, Watcher};
use krg_sys::feature::Feature;
use krg_sys::process::wait_readable;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Bytes of events read at once.
const READ_BYTES: usize = 64 << 10;
/// Read so many times in a row; what still comes then is new.
const READS_MAX: usize = 16;
/// After a first event, more are waited for as long: a busy disk is looked at a hundred times a
/// second and not for every file, and what happens to one file is one event.
const GATHER: Duration = Duration::from_millis(10);
/// It is looked so often whether anybody still uses this node's files.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Watches the file systems of a tree.
#[derive(Default)]
pub struct Watch(Mutex<State>);

#[derive(Default)]
struct State {
    reader: Option<Arc<Reader>>,
    mounts: HashSet<MountKey>,
    /// How often each file is open for clients.
    files: HashMap<Key, usize>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches this tree from now on, if it can be done.
    pub fn start(self: &Arc<Self>, tree: &Tree, sessions: &Arc<Sessions>) {
        if Feature::Fanotify.masked() {
            return;
        }
        let mut state = self.state();
        let reader = match &state.reader {
            Some(reader) => reader.clone(),
            None => match self.begin(sessions) {
                Ok(reader) => {
                    state.reader = Some(reader.clone());
                    reader
                }
                Err(e) => return tracing::info!(error = %e, "changes are not watched"),
            },
        };
        // Also those that were: what is mounted again at its place is not watched any more.
        let watched = tree.mounts().filter_map(|(key, mount)| {
            let done = reader.watcher.watch_file_system(mount);
            let done =
                done.inspect_err(|e| tracing::info!(error = %e, "a file system is not watched"));
            done.is_ok().then_some(key)
        });
        state.mounts = watched.collect();
    }

    fn begin(self: &Arc<Self>, sessions: &Arc<Sessions>) -> io::Result<Arc<Reader>> {
        let buf = Mutex::new(vec![0; READ_BYTES]);
        let reader = Arc::new(Reader { watcher: Watcher::new()?, buf });
        let (weak, sessions) = (Arc::downgrade(&reader), sessions.clone());
        let thread = std::thread::Builder::new().name("changes".into());
        thread.spawn(move || tell(&weak, &sessions))?;
        Ok(reader)
    }

    /// Tells all that has changed until now, without waiting for more: who is let into a file is
    /// not to hear later, while he reads it, of what was changed before.
    pub fn catch_up(&self, sessions: &Sessions) {
        let reader = self.state().reader.clone();
        if let Some(Err(e)) = reader.map(|reader| reader.pass_on_all(sessions)) {
            tracing::warn!(error = %e, "changes cannot be told");
        }
    }

    /// Nobody is there to be told.
    pub fn stop(&self) {
        *self.state() = State::default();
    }

    /// Is this mount watched?
    pub fn covers(&self, mount: MountKey) -> bool {
        self.state().mounts.contains(&mount)
    }

    /// A client has opened a file: it is told also of what is written to it and not closed.
    pub fn opened(&self, file: Key, fd: BorrowedFd<'_>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(reader) = &state.reader else { return };
        let count = state.files.entry(file).or_default();
        *count += 1;
        if *count == 1 {
            let _ = reader.watcher.watch_inode(fd);
        }
    }

    /// And has closed it.
    pub fn closed(&self, file: Key, fd: BorrowedFd<'_>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let (Some(reader), Some(count)) = (&state.reader, state.files.get_mut(&file)) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            state.files.remove(&file);
            let _ = reader.watcher.unwatch_inode(fd);
        }
    }
}

/// Reads what has changed. One at a time: who has read finds told what was read before, too.
struct Reader {
    watcher: Watcher,
    buf: Mutex<Vec<u8>>,
}

impl Reader {
    fn pass_on_all(&self, sessions: &Sessions) -> io::Result<()> {
        let own = std::process::id() as i32;
        let mut buf = self.buf.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..READS_MAX {
            let events = self.watcher.read(&mut buf)?;
            if events.is_empty() {
                break;
            }
            // What this process does, it does for a client, and has told the others itself.
            for event in events.iter().filter(|e| e.overflow || e.pid != own) {
                pass_on(event, sessions);
            }
        }
        Ok(())
    }
}

/// Tells the clients, until the reader is let go of.
fn tell(reader: &Weak<Reader>, sessions: &Sessions) {
    while let Some(reader) = reader.upgrade() {
        let told = wait_readable(reader.watcher.as_fd(), LOOK_PERIOD).and_then(|ready| {
            if !ready {
                return Ok(());
            }
            std::thread::park_timeout(GATHER);
            reader.pass_on_all(sessions)
        });
        if let Err(e) = told {
            tracing::error!(error = %e, "changes cannot be told any more");
            return sessions.everything(None);
        }
    }
}

fn pass_on(event: &Event, sessions: &Sessions) {
    if event.overflow {
        tracing::info!("more has changed than could be watched");
        return sessions.everything(None);
    }
    let named = Event::CREATE | Event::DELETE | Event::MOVED_FROM | Event::MOVED_TO;
    if let Some(dir) = &event.dir
        && event.mask & named != 0
    {
        let dir = change_key(event.fsid, dir);
        match event.name.as_ref().map(|name| Name::new(name.to_bytes())) {
            Some(Ok(name)) => sessions.name(None, dir, name),
            _ => sessions.changed(None, dir, true),
        }
    }
    if let Some(object) = &event.object {
        let is_dir = event.mask & Event::ON_DIR != 0;
        sessions.changed(None, change_key(event.fsid, object), is_dir);
    }
}
