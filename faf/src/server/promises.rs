//! What a client is told of when it changes: what it has been told of before.

use crate::op::{Key, Notice};
use krg_rpc::link::Link;
use krg_types::limits::FILE_PROMISES_MAX;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where a client is told.
#[derive(Clone, Default)]
pub enum Ear {
    /// Nowhere.
    #[default]
    Nobody,
    /// At the other end of a connection.
    Link(Weak<Link>),
    /// In this process.
    Here(Arc<dyn Fn(Notice) + Send + Sync>),
}

/// The promises to one client.
#[derive(Default)]
pub struct Promises(Mutex<State>);

#[derive(Default)]
struct State {
    keys: HashSet<Key>,
    ear: Ear,
    /// Something could not be told.
    behind: bool,
}

impl Promises {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client is told there from now on: of two connections, the newer is the one that lives.
    pub fn set_ear(&self, ear: Ear) {
        self.state().ear = ear;
    }

    /// It is going to be told of this file.
    pub fn make(&self, key: Key) {
        let mut state = self.state();
        if state.keys.len() >= FILE_PROMISES_MAX {
            state.keys.clear();
            state.say(&Notice::Everything);
        }
        state.keys.insert(key);
    }

    /// It need not be.
    pub fn drop(&self, keys: &[Key]) {
        let mut state = self.state();
        for key in keys {
            state.keys.remove(key);
        }
    }

    /// A file has changed. That is said once, until the client asks again; of a directory, whose
    /// names it has, each time. Was it promised?
    pub fn changed(&self, file: Key, is_dir: bool) -> bool {
        let mut state = self.state();
        let promised = if is_dir { state.keys.contains(&file) } else { state.keys.remove(&file) };
        if promised {
            state.say(&Notice::Changed { file });
        }
        promised
    }

    /// A name of a directory is not what it was.
    pub fn name(&self, dir: Key, notice: &Notice) {
        let mut state = self.state();
        if state.keys.contains(&dir) {
            state.say(notice);
        }
    }

    /// The client is to give its lease on a file back.
    pub fn recall(&self, file: Key) {
        self.state().send(&Notice::Recall { file });
    }

    /// Anything may have changed; `how` is told with it.
    pub fn everything(&self, how: Option<&Notice>) {
        let mut state = self.state();
        state.say(&Notice::Everything);
        how.into_iter().for_each(|how| state.say(how));
    }
}

impl State {
    /// A client that does not read is told later that it has missed something.
    fn say(&mut self, notice: &Notice) {
        if let Ear::Link(link) = &self.ear
            && link.upgrade().is_some_and(|link| !link.has_room())
        {
            self.behind = true;
            return;
        }
        let behind = std::mem::take(&mut self.behind);
        self.send(if behind { &Notice::Everything } else { notice });
    }

    fn send(&self, notice: &Notice) {
        let link = match &self.ear {
            Ear::Nobody => return,
            Ear::Here(tell) => return tell(notice.clone()),
            Ear::Link(link) => link.upgrade(),
        };
        // A client that is cut off looks at everything anew when it comes back.
        if let (Some(link), Ok(head)) = (link, postcard::to_allocvec(notice)) {
            let _ = link.send(0, &head, &[]);
        }
    }
}
