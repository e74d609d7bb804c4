//! What a client has open. It is kept for a while when the client's connections are gone, so that
//! an open file outlives a cut.

use super::cancelled::Cancelled;
use super::errno;
use super::leases::Serial;
use super::lock::Locks;
use super::promises::Promises;
use super::replies::Replies;
use crate::bytes::Name;
use crate::op::{Key, Notice, OpenId};
use krg_rpc::link::Link;
use krg_sys::cred;
use krg_types::MemberId;
use krg_types::limits::FILE_OPENS_MAX;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

/// An open file or directory.
pub struct Open {
    /// It.
    pub fd: Arc<OwnedFd>,
    /// Who has opened it: what is written is written as this user.
    pub caller: cred::Caller,
    /// Writes go to the end.
    pub append: bool,
    /// Of the file, for its locks.
    pub file: (u64, u64),
    /// What it is called when it changes; none for a directory.
    pub key: Option<Key>,
    /// It is watched for what is written to it: somebody may read it.
    pub watched: bool,
    /// Its lease was taken away while writes may have been under way.
    pub broken: AtomicBool,
    /// It has set-id bits, which whoever writes to it takes away.
    pub set_id: bool,
    /// Held while a directory is read, or an append needs to know where it went.
    pub place: Mutex<()>,
}

impl Open {
    /// May the kernel read and write it without asking? Then nobody takes set-id bits away.
    pub fn may_be_backing(&self) -> bool {
        !self.set_id
    }
}

/// One client.
pub struct Session {
    /// Which member's.
    pub member: MemberId,
    /// Its number, of one life of the server.
    pub serial: Serial,
    /// No other session has this number.
    pub born: u64,
    next: AtomicU64,
    opens: RwLock<HashMap<OpenId, Arc<Open>>>,
    /// Its locks.
    pub locks: Locks,
    /// What it is told of.
    pub promises: Promises,
    /// What it may ask again.
    pub replies: Replies,
    /// What it does not wait for any more.
    pub cancelled: Cancelled,
    links: Mutex<Vec<Weak<Link>>>,
    /// Of all sessions.
    count: Arc<AtomicUsize>,
}

impl Session {
    /// Of a client that has nothing open.
    pub fn new(member: MemberId, serial: Serial, count: Arc<AtomicUsize>) -> Session {
        let (next, opens, locks) = (AtomicU64::new(first()), RwLock::default(), Locks::default());
        let (promises, replies, cancelled, links) = <_>::default();
        let born = drawn();
        Session {
            member,
            serial,
            born,
            next,
            opens,
            locks,
            promises,
            replies,
            cancelled,
            links,
            count,
        }
    }

    /// It has a new connection. With the first of a pair those end that it had before: nothing of
    /// what still comes on them is to be done.
    pub fn connected(&self, link: &Arc<Link>, first: bool) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if first {
            links.drain(..).filter_map(|old| old.upgrade()).for_each(|old| old.close());
        }
        links.push(Arc::downgrade(link));
    }

    /// Keeps a file open.
    ///
    /// # Errors
    /// ENFILE when all clients together have too many.
    pub fn add(&self, open: Arc<Open>) -> io::Result<OpenId> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= FILE_OPENS_MAX {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(errno(libc::ENFILE));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut opens = self.opens.write().unwrap_or_else(PoisonError::into_inner);
        opens.insert(id, open);
        Ok(id)
    }

    /// One that is open.
    ///
    /// # Errors
    /// EBADF if it is not.
    pub fn get(&self, id: OpenId) -> io::Result<Arc<Open>> {
        let opens = self.opens.read().unwrap_or_else(PoisonError::into_inner);
        let open = opens.get(&id).cloned().ok_or_else(|| errno(libc::EBADF))?;
        if open.broken.load(Ordering::Acquire) { Err(errno(libc::EIO)) } else { Ok(open) }
    }

    /// Its lease on a file was taken away: whatever it has open of it fails from now on.
    pub fn break_lease(&self, file: Key) {
        for open in self.all().iter().filter(|open| open.key == Some(file)) {
            open.broken.store(true, Ordering::Release);
        }
    }

    /// Closes one; it, if it was open.
    pub fn remove(&self, id: OpenId) -> Option<Arc<Open>> {
        let mut opens = self.opens.write().unwrap_or_else(PoisonError::into_inner);
        let removed = opens.remove(&id);
        drop(opens);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// All that is open.
    pub fn all(&self) -> Vec<Arc<Open>> {
        let opens = self.opens.read().unwrap_or_else(PoisonError::into_inner);
        opens.values().cloned().collect()
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

/// The first number of a session's open files. A client may still use a number of another session,
/// or of the server's life before: that must be nothing here, never another file.
fn first() -> OpenId {
    drawn() >> 1 | 1
}

fn drawn() -> u64 {
    let mut bytes = [0; 8];
    // Without chance there is still the time.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = krg_sys::clock::wall_ns().to_le_bytes();
    }
    u64::from_le_bytes(bytes)
}

/// A client: the member that it runs on, and the number it has drawn.
type Who = (MemberId, u128);

/// One that is known, and its connections.
struct Known {
    session: Arc<Session>,
    links: usize,
    /// How often the last one has ended.
    left: u64,
}

/// All of them.
#[derive(Default)]
pub struct Sessions {
    sessions: Mutex<HashMap<Who, Known>>,
    opens: Arc<AtomicUsize>,
    serials: AtomicU64,
}

impl Sessions {
    /// The client with this number.
    pub fn numbered(&self, serial: Serial) -> Option<Arc<Session>> {
        let sessions = self.lock();
        sessions.values().map(|k| &k.session).find(|s| s.serial == serial).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Known>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of a client begins.
    pub fn join(&self, member: MemberId, number: u128) -> Arc<Session> {
        let mut sessions = self.lock();
        let known = sessions.entry((member, number)).or_insert_with(|| {
            let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
            let session = Arc::new(Session::new(member, serial, self.opens.clone()));
            Known { session, links: 0, left: 0 }
        });
        known.links += 1;
        known.session.clone()
    }

    /// A connection has ended; if it was the last one, how often that has happened.
    pub fn leave(&self, member: MemberId, number: u128) -> Option<u64> {
        let mut sessions = self.lock();
        let known = sessions.get_mut(&(member, number))?;
        known.links -= 1;
        if known.links > 0 {
            return None;
        }
        known.left += 1;
        Some(known.left)
    }

    /// Forgets a client that has not come back since it has left for the time `left`; it.
    pub fn forget(&self, member: MemberId, number: u128, left: u64) -> Option<Arc<Session>> {
        let mut sessions = self.lock();
        let is_gone = |known: &Known| known.links == 0 && known.left == left;
        sessions.get(&(member, number)).filter(|known| is_gone(known))?;
        sessions.remove(&(member, number)).map(|known| known.session)
    }

    /// Is there no client?
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// All but one.
    fn others(&self, but: Option<&Session>) -> Vec<Arc<Session>> {
        let same = |s: &Session| but.is_some_and(|but| std::ptr::eq(but, s));
        let sessions = self.lock();
        sessions.values().map(|k| &k.session).filter(|s| !same(s)).cloned().collect()
    }

    /// Tells who has it, but for who has changed it, that a file has changed. Is there anybody?
    pub fn changed(&self, by: Option<&Session>, file: Key, is_dir: bool) -> bool {
        let told = |told, s: &Arc<Session>| s.promises.changed(file, is_dir) || told;
        self.others(by).iter().fold(false, told)
    }

    /// The same of a name.
    pub fn name(&self, by: Option<&Session>, dir: Key, name: Name) {
        let others = self.others(by);
        if !others.is_empty() {
            let notice = Notice::Name { dir, name };
            others.iter().for_each(|s| s.promises.name(dir, &notice));
        }
    }

    /// Tells all that anything may have changed, and perhaps how.
    pub fn everything(&self, how: Option<&Notice>) {
        self.others(None).iter().for_each(|s| s.promises.everything(how));
    }
}
