//! What this node's own processes change, told to the clients that have it.
//!
//! Nothing is watched while nobody uses this node's files: it costs the node's processes a
//! microsecond here and there.

use super::marks::Marks;
use super::session::Sessions;
use crate::bytes::Name;
use crate::export::{Tree, change_key};
use crate::handle::MountKey;
use crate::op::Key;
use krg_sys::fanotify::{Event, Watcher};
use krg_sys::feature::Feature;
use krg_sys::process::wait_readable;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
        let (buf, marks) = (Mutex::new(vec![0; READ_BYTES]), Mutex::default());
        let reader = Arc::new(Reader { watcher: Watcher::new()?, buf, marks });
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
    pub fn opened(&self, sessions: &Sessions, file: Key, fd: &Arc<OwnedFd>) {
        let reader = self.state().reader.clone();
        if let Some(reader) = reader {
            let unseen = reader.marks().opened(&reader.watcher, file, fd.clone());
            perhaps_changed(unseen, sessions);
        }
    }

    /// And has closed it.
    pub fn closed(&self, file: Key, fd: &Arc<OwnedFd>) {
        if let Some(reader) = &self.state().reader {
            reader.marks().closed(file, fd);
        }
    }
}

/// Reads what has changed. One at a time: who has read finds told what was read before, too.
struct Reader {
    watcher: Watcher,
    buf: Mutex<Vec<u8>>,
    marks: Mutex<Marks>,
}

impl Reader {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
                self.pass_on(event, sessions);
            }
        }
        Ok(())
    }

    fn pass_on(&self, event: &Event, sessions: &Sessions) {
        let Some(file) = pass_on(event, sessions) else { return };
        let unseen = self.marks().heard_in_vain(&self.watcher, file);
        perhaps_changed(unseen, sessions);
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

fn perhaps_changed(files: Vec<Key>, sessions: &Sessions) {
    for file in files {
        sessions.changed(None, file, false);
    }
}

/// Comes back with a file that was written and that no client knows.
fn pass_on(event: &Event, sessions: &Sessions) -> Option<Key> {
    if event.overflow {
        tracing::info!("more has changed than could be watched");
        sessions.everything(None);
        return None;
    }
    let named = Event::CREATE | Event::DELETE | Event::MOVED_FROM | Event::MOVED_TO;
    if let Some(dir) = &event.dir
        && event.mask & named != 0
    {
        let dir = change_key(event.fsid, dir);
        match event.name.as_ref().map(|name| Name::new(name.to_bytes())) {
            Some(Ok(name)) => sessions.name(None, dir, name),
            _ => {
                sessions.changed(None, dir, true);
            }
        }
    }
    let file = change_key(event.fsid, event.object.as_ref()?);
    let told = sessions.changed(None, file, event.mask & Event::ON_DIR != 0);
    (!told && event.mask & Event::MODIFY != 0).then_some(file)
}
