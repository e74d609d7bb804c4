//! What the kernel knows by number, and its server by handle.

use fuser::INodeNo;
use krg_faf::op::{Attr, Entry, Handle, Key, Moment};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The root of a mount, for FUSE.
pub const ROOT: u64 = 1;
/// Numbers from here on are made up: for a file whose own number another one still has.
const MADE_UP: u64 = 1 << 63;

/// What of a file the kernel's page cache holds: it is of use as long as this is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    mtime: Moment,
    ctime: Moment,
    size: u64,
}

impl From<&Attr> for Version {
    fn from(attr: &Attr) -> Version {
        Version { mtime: attr.mtime, ctime: attr.ctime, size: attr.size }
    }
}

struct Inode {
    handle: Arc<Handle>,
    /// What its server calls it when it has changed; the root's is not known at first.
    key: Key,
    /// Counts what its server has said of it.
    changes: u64,
    /// How often the kernel was told of it, less how often it has forgotten.
    lookups: u64,
    cached: Option<Version>,
    /// It has no capabilities of its own (capabilities(7)), which the kernel asks for before it
    /// writes; its server tells when that changes.
    plain: bool,
    /// As last heard.
    size: u64,
    /// The kernel keeps nothing of its content, and nobody maps it to share it.
    apart: bool,
}

/// Is this the memory that the processes of a database in SQLite's WAL mode share? They map it, and
/// rely on seeing each other's changes at once: from node to node they would not, and take a wrong
/// database for a right one. Such a file cannot be mapped then, and SQLite says so.
pub fn is_apart(name: &[u8]) -> bool {
    name.ends_with(b"-shm")
}

impl Inode {
    fn new(handle: Arc<Handle>, key: Key) -> Inode {
        Inode {
            handle,
            key,
            changes: 0,
            lookups: 0,
            cached: None,
            plain: false,
            size: 0,
            apart: false,
        }
    }
}

impl Inode {
    fn outdate(&mut self) {
        self.cached = None;
        self.plain = false;
        self.changes += 1;
    }
}

#[derive(Default)]
struct Table {
    inodes: HashMap<u64, Inode>,
    numbers: HashMap<Arc<Handle>, u64>,
    keys: HashMap<Key, u64>,
    /// Of which its server need not tell any more.
    forgotten: Vec<Key>,
    made_up: u64,
}

/// All of one mount.
pub struct Inodes(Mutex<Table>);

impl Inodes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the root, which is there for as long as the mount is; its handle is empty.
    pub fn new() -> Inodes {
        let mut table = Table::default();
        table.inodes.insert(ROOT, Inode::new(Arc::default(), 0));
        Inodes(Mutex::new(table))
    }

    /// What the server calls the root.
    pub fn name_root(&self, root: &Entry) {
        let mut table = self.table();
        table.numbers.retain(|_, ino| *ino != ROOT);
        table.numbers.insert(Arc::new(root.handle.clone()), ROOT);
        drop(table);
        self.call_root(root.key);
    }

    /// What the server calls the root when it has changed.
    pub fn call_root(&self, key: Key) {
        let mut table = self.table();
        table.keys.retain(|_, ino| *ino != ROOT);
        table.keys.insert(key, ROOT);
        if let Some(inode) = table.inodes.get_mut(&ROOT) {
            inode.key = key;
        }
    }

    /// The kernel is told of a file; its number.
    pub fn told(&self, entry: &Entry, apart: bool) -> INodeNo {
        let mut guard = self.table();
        let table = &mut *guard;
        let ino = match table.numbers.get(&entry.handle) {
            Some(ino) => *ino,
            None => {
                let mut ino = entry.attr.ino;
                while table.inodes.contains_key(&ino) || ino <= ROOT {
                    table.made_up += 1;
                    ino = MADE_UP | table.made_up;
                }
                let handle = Arc::new(entry.handle.clone());
                table.numbers.insert(handle.clone(), ino);
                table.inodes.insert(ino, Inode::new(handle, entry.key));
                ino
            }
        };
        if let Some(inode) = table.inodes.get_mut(&ino) {
            inode.lookups += 1;
            inode.apart |= apart;
            inode.size = entry.attr.size;
            // Another life of the server may call it something else.
            inode.key = entry.key;
            table.keys.insert(entry.key, ino);
        }
        INodeNo(ino)
    }

    /// The kernel forgets it so many times.
    pub fn forget(&self, ino: INodeNo, times: u64) {
        let mut table = self.table();
        let Some(inode) = table.inodes.get_mut(&ino.0) else { return };
        inode.lookups = inode.lookups.saturating_sub(times);
        if inode.lookups == 0 && ino.0 != ROOT {
            let (handle, key) = (inode.handle.clone(), inode.key);
            table.inodes.remove(&ino.0);
            table.numbers.remove(&handle);
            table.keys.remove(&key);
            table.forgotten.push(key);
        }
    }

    /// Of what the server need not tell any more, if that is `enough` to be said.
    pub fn take_forgotten(&self, enough: usize) -> Vec<Key> {
        let mut table = self.table();
        if table.forgotten.len() < enough {
            return Vec::new();
        }
        std::mem::take(&mut table.forgotten)
    }

    /// What its server calls it.
    pub fn handle(&self, ino: INodeNo) -> Option<Arc<Handle>> {
        self.table().inodes.get(&ino.0).map(|i| i.handle.clone())
    }

    /// The server says that a file has changed: what the kernel has of it is not right any more.
    /// Its number, if the kernel knows it.
    pub fn changed(&self, key: Key) -> Option<INodeNo> {
        let mut guard = self.table();
        let ino = *guard.keys.get(&key)?;
        let inode = guard.inodes.get_mut(&ino)?;
        inode.outdate();
        Some(INodeNo(ino))
    }

    /// Anything may have changed; all numbers.
    pub fn all_changed(&self) -> Vec<INodeNo> {
        let mut table = self.table();
        let all = table.inodes.iter_mut().map(|(ino, inode)| {
            inode.outdate();
            INodeNo(*ino)
        });
        all.collect()
    }

    /// Is it known that it has no capabilities?
    pub fn is_plain(&self, ino: INodeNo) -> bool {
        self.table().inodes.get(&ino.0).is_some_and(|i| i.plain)
    }

    /// It has none, as was found when the server had said of so many changes.
    pub fn set_plain(&self, ino: INodeNo, plain: bool, changes: u64) {
        if let Some(inode) = self.table().inodes.get_mut(&ino.0) {
            inode.plain = plain && inode.changes == changes;
        }
    }

    /// How often the server has said that it has changed.
    pub fn changes(&self, ino: INodeNo) -> u64 {
        self.table().inodes.get(&ino.0).map_or(0, |i| i.changes)
    }

    /// What its server calls it when it has changed.
    pub fn key(&self, ino: INodeNo) -> Key {
        self.table().inodes.get(&ino.0).map_or(0, |i| i.key)
    }

    /// The kernel is told that it is this long.
    pub fn set_size(&self, ino: INodeNo, size: u64) {
        if let Some(inode) = self.table().inodes.get_mut(&ino.0) {
            inode.size = size;
        }
    }

    /// Does the kernel keep nothing of it?
    pub fn is_apart(&self, ino: INodeNo) -> bool {
        self.table().inodes.get(&ino.0).is_some_and(|i| i.apart)
    }

    /// How long it was when it was last looked at.
    pub fn size(&self, ino: INodeNo) -> Option<u64> {
        self.table().inodes.get(&ino.0).map(|i| i.size)
    }

    /// It is opened and is like this now: is what the kernel has of it still right? From now on
    /// it has this.
    pub fn keeps_cache(&self, ino: INodeNo, attr: &Attr, changes: u64) -> bool {
        let mut table = self.table();
        let Some(inode) = table.inodes.get_mut(&ino.0) else { return false };
        inode.size = attr.size;
        let version = Some(Version::from(attr)).filter(|_| inode.changes == changes);
        let before = std::mem::replace(&mut inode.cached, version);
        version.is_some() && before == version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(handle: &[u8], ino: u64) -> Entry {
        let attr = Attr { ino, ..Attr::default() };
        let key = handle.iter().map(|b| u64::from(*b)).sum();
        Entry { handle: Handle::new(handle).unwrap(), attr, key, watched: true }
    }

    #[test]
    fn a_number_is_of_one_file_until_the_kernel_forgets_it() {
        let inodes = Inodes::new();
        inodes.name_root(&entry(b"root", 2));
        let a = inodes.told(&entry(b"a", 7), false);
        assert_eq!((a, inodes.told(&entry(b"a", 7), false)), (INodeNo(7), INodeNo(7)));
        let b = inodes.told(&entry(b"b", 7), false);
        assert!(b != a && b.0 >= MADE_UP);
        inodes.forget(a, 1);
        assert!(inodes.handle(a).is_some() && inodes.take_forgotten(1).is_empty());
        inodes.forget(a, 1);
        assert!(inodes.handle(a).is_none());
        assert_eq!(inodes.take_forgotten(1), [u64::from(b'a')]);
        assert_eq!(inodes.told(&entry(b"c", 7), false), a);
        assert_eq!(inodes.told(&entry(b"b", 7), false), b);
        inodes.forget(INodeNo(ROOT), 100);
        assert_eq!(inodes.told(&entry(b"root", 2), false), INodeNo(ROOT));
        assert!(inodes.told(&entry(b"d", 1), false).0 >= MADE_UP);
    }

    #[test]
    fn the_cache_is_kept_while_the_file_is_as_it_was() {
        let inodes = Inodes::new();
        let one = inodes.told(&entry(b"a", 7), false);
        let attr = Attr { ino: 7, size: 3, ..Attr::default() };
        assert!(!inodes.keeps_cache(one, &attr, 0));
        assert!(inodes.keeps_cache(one, &attr, 0));
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 0));
        assert_eq!(inodes.changed(u64::from(b'a')), Some(one));
        assert_eq!((inodes.changed(1), inodes.changes(one)), (None, 1));
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 0), "asked before that");
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 1));
        assert_eq!(inodes.size(one), Some(4));
    }
}
