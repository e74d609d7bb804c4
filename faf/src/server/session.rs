//! What a client has open. It is kept for a while when the client's connections are gone, so that
//! an open file outlives a cut.

use super::errno;
use super::lock::Locks;
use crate::op::OpenId;
use krg_sys::cred;
use krg_types::MemberId;
use krg_types::limits::FILE_OPENS_MAX;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// An open file or directory.
pub struct Open {
    /// It.
    pub fd: OwnedFd,
    /// Who has opened it: what is written is written as this user.
    pub caller: cred::Caller,
    /// Writes go to the end.
    pub append: bool,
    /// Of the file, for its locks.
    pub file: (u64, u64),
    /// Held while a directory is read, or an append needs to know where it went.
    pub place: Mutex<()>,
}

/// One client.
pub struct Session {
    /// Which member's.
    pub member: MemberId,
    next: AtomicU64,
    opens: RwLock<HashMap<OpenId, Arc<Open>>>,
    /// Its locks.
    pub locks: Locks,
    /// Of all sessions.
    count: Arc<AtomicUsize>,
}

impl Session {
    /// Of a client that has nothing open.
    pub fn new(member: MemberId, count: Arc<AtomicUsize>) -> Session {
        let (next, opens, locks) = (AtomicU64::new(1), RwLock::default(), Locks::default());
        Session { member, next, opens, locks, count }
    }

    /// Keeps a file open.
    ///
    /// # Errors
    /// ENFILE when all clients together have too many.
    pub fn add(&self, open: Open) -> io::Result<OpenId> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= FILE_OPENS_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(errno(libc::ENFILE));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut opens = self.opens.write().unwrap_or_else(PoisonError::into_inner);
        opens.insert(id, Arc::new(open));
        Ok(id)
    }

    /// One that is open.
    ///
    /// # Errors
    /// EBADF if it is not.
    pub fn get(&self, id: OpenId) -> io::Result<Arc<Open>> {
        let opens = self.opens.read().unwrap_or_else(PoisonError::into_inner);
        opens.get(&id).cloned().ok_or_else(|| errno(libc::EBADF))
    }

    /// Closes one.
    pub fn remove(&self, id: OpenId) {
        let mut opens = self.opens.write().unwrap_or_else(PoisonError::into_inner);
        let removed = opens.remove(&id);
        drop(opens);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many files are open.
    pub fn len(&self) -> usize {
        self.opens.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Is nothing open?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count.fetch_sub(self.len(), Ordering::Relaxed);
    }
}

/// A client: the member that it runs on, and the number it has drawn.
type Key = (MemberId, u128);

/// All of them, each with how many connections it has.
#[derive(Default)]
pub struct Sessions {
    sessions: Mutex<HashMap<Key, (Arc<Session>, usize)>>,
    opens: Arc<AtomicUsize>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Arc<Session>, usize)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of a client begins; whether the session was there before.
    pub fn join(&self, member: MemberId, number: u128) -> (Arc<Session>, bool) {
        let mut sessions = self.lock();
        let known = sessions.contains_key(&(member, number));
        let (session, links) = sessions
            .entry((member, number))
            .or_insert_with(|| (Arc::new(Session::new(member, self.opens.clone())), 0));
        *links += 1;
        (session.clone(), known)
    }

    /// A connection has ended; true if it was the last one.
    pub fn leave(&self, member: MemberId, number: u128) -> bool {
        let mut sessions = self.lock();
        let Some((_, links)) = sessions.get_mut(&(member, number)) else { return false };
        *links -= 1;
        *links == 0
    }

    /// Forgets a client that has not come back.
    pub fn forget(&self, member: MemberId, number: u128) {
        let mut sessions = self.lock();
        let gone = sessions.get(&(member, number)).is_some_and(|(_, links)| *links == 0);
        let removed = gone.then(|| sessions.remove(&(member, number)));
        drop(sessions);
        // Closing many files may take a while.
        drop(removed);
    }
}
