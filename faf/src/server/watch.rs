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
    watcher: Option<Arc<Watcher>>,
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
        let watcher = match &state.watcher {
            Some(watcher) => watcher.clone(),
            None => match self.begin(sessions) {
                Ok(watcher) => {
                    state.watcher = Some(watcher.clone());
                    watcher
                }
                Err(e) => return tracing::info!(error = %e, "changes are not watched"),
            },
        };
        // Also those that were: what is mounted again at its place is not watched any more.
        let watched = tree.mounts().filter_map(|(key, mount)| {
            let done = watcher.watch_file_system(mount);
            let done =
                done.inspect_err(|e| tracing::info!(error = %e, "a file system is not watched"));
            done.is_ok().then_some(key)
        });
        state.mounts = watched.collect();
    }

    fn begin(self: &Arc<Self>, sessions: &Arc<Sessions>) -> io::Result<Arc<Watcher>> {
        let watcher = Arc::new(Watcher::new()?);
        let (weak, sessions) = (Arc::downgrade(&watcher), sessions.clone());
        let thread = std::thread::Builder::new().name("changes".into());
        thread.spawn(move || tell(&weak, &sessions))?;
        Ok(watcher)
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
        let Some(watcher) = &state.watcher else { return };
        let count = state.files.entry(file).or_default();
        *count += 1;
        if *count == 1 {
            let _ = watcher.watch_inode(fd);
        }
    }

    /// And has closed it.
    pub fn closed(&self, file: Key, fd: BorrowedFd<'_>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let (Some(watcher), Some(count)) = (&state.watcher, state.files.get_mut(&file)) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            state.files.remove(&file);
            let _ = watcher.unwatch_inode(fd);
        }
    }
}

/// Tells the clients, until the watcher is let go of.
fn tell(watcher: &Weak<Watcher>, sessions: &Sessions) {
    let own = std::process::id() as i32;
    let mut buf = vec![0; READ_BYTES];
    while let Some(watcher) = watcher.upgrade() {
        match wait_readable(watcher.as_fd(), LOOK_PERIOD).and_then(|ready| match ready {
            true => {
                std::thread::park_timeout(GATHER);
                watcher.read(&mut buf)
            }
            false => Ok(Vec::new()),
        }) {
            Ok(events) => {
                // What this process does, it does for a client, and has told the others itself.
                for event in events.iter().filter(|e| e.overflow || e.pid != own) {
                    pass_on(event, sessions);
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "changes cannot be told any more");
                return sessions.everything(None);
            }
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
