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

/// Whose key it is. A file that is seen through two mounts of its file system is two files here,
/// and changes as one.
#[derive(Default)]
struct Keys {
    first: HashMap<Key, u64>,
    others: HashMap<Key, Vec<u64>>,
}

impl Keys {
    fn add(&mut self, key: Key, ino: u64) {
        let first = *self.first.entry(key).or_insert(ino);
        if first != ino {
            let others = self.others.entry(key).or_default();
            if !others.contains(&ino) {
                others.push(ino);
            }
        }
    }

    /// True if it is nobody's now.
    fn remove(&mut self, key: Key, ino: u64) -> bool {
        if let Some(others) = self.others.get_mut(&key) {
            match others.iter().position(|other| *other == ino) {
                Some(at) => drop(others.swap_remove(at)),
                None if self.first.get(&key) == Some(&ino) => {
                    others.pop().map(|other| self.first.insert(key, other));
                }
                None => {}
            }
            if others.is_empty() {
                self.others.remove(&key);
            }
            return false;
        }
        if self.first.get(&key) == Some(&ino) {
            self.first.remove(&key);
        }
        !self.first.contains_key(&key)
    }

    fn of(&self, key: Key) -> Vec<u64> {
        let others = self.others.get(&key).into_iter().flatten();
        self.first.get(&key).into_iter().chain(others).copied().collect()
    }
}

#[derive(Default)]
struct Table {
    inodes: HashMap<u64, Inode>,
    numbers: HashMap<Arc<Handle>, u64>,
    keys: Keys,
    /// Of which its server need not tell any more.
    forgotten: Vec<Key>,
    made_up: u64,
}

impl Table {
    /// What the server calls a file now.
    fn call(&mut self, ino: u64, key: Key) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            let before = std::mem::replace(&mut inode.key, key);
            if before != key {
                self.keys.remove(before, ino);
            }
            self.keys.add(key, ino);
        }
    }
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
        table.call(ROOT, key);
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
        }
        // Another life of the server may call it something else.
        table.call(ino, entry.key);
        INodeNo(ino)
    }

    /// The kernel forgets it so many times. What its server called it, if nothing has that name
    /// any more.
    pub fn forget(&self, ino: INodeNo, times: u64) -> Option<Key> {
        let mut guard = self.table();
        let table = &mut *guard;
        let inode = table.inodes.get_mut(&ino.0)?;
        inode.lookups = inode.lookups.saturating_sub(times);
        if inode.lookups > 0 || ino.0 == ROOT {
            return None;
        }
        let inode = table.inodes.remove(&ino.0)?;
        table.numbers.remove(&inode.handle);
        let gone = table.keys.remove(inode.key, ino.0);
        gone.then(|| table.forgotten.push(inode.key));
        gone.then_some(inode.key)
    }

    /// Of what the server need not tell any more, if that is `enough` to be said.
    pub fn take_forgotten(&self, enough: usize) -> Vec<Key> {
        let mut guard = self.table();
        let table = &mut *guard;
        if table.forgotten.len() < enough {
            return Vec::new();
        }
        let mut keys = std::mem::take(&mut table.forgotten);
        keys.retain(|key| !table.keys.first.contains_key(key));
        keys
    }

    /// What its server calls it.
    pub fn handle(&self, ino: INodeNo) -> Option<Arc<Handle>> {
        self.table().inodes.get(&ino.0).map(|i| i.handle.clone())
    }

    /// The server says that a file has changed: what the kernel has of it is not right any more.
    /// Its numbers, if the kernel knows it.
    pub fn changed(&self, key: Key) -> Vec<INodeNo> {
        let mut guard = self.table();
        let table = &mut *guard;
        let numbers = table.keys.of(key).into_iter();
        let outdated =
            numbers.filter(|ino| table.inodes.get_mut(ino).map(Inode::outdate).is_some());
        outdated.map(INodeNo).collect()
    }

    /// What the server calls the file with this handle when it has changed.
    pub fn key_of(&self, handle: &Handle) -> Key {
        let table = self.table();
        let ino = table.numbers.get(handle);
        ino.and_then(|ino| table.inodes.get(ino)).map_or(0, |inode| inode.key)
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
        assert_eq!(inodes.forget(a, 1), Some(u64::from(b'a')));
        assert!(inodes.handle(a).is_none());
        assert_eq!(inodes.take_forgotten(1), [u64::from(b'a')]);
        assert_eq!(inodes.told(&entry(b"c", 7), false), a);
        assert_eq!(inodes.told(&entry(b"b", 7), false), b);
        inodes.forget(INodeNo(ROOT), 100);
        assert_eq!(inodes.told(&entry(b"root", 2), false), INodeNo(ROOT));
        assert!(inodes.told(&entry(b"d", 1), false).0 >= MADE_UP);
    }

    #[test]
    fn a_file_that_is_seen_twice_changes_twice() {
        let inodes = Inodes::new();
        let twin = |handle: &[u8]| Entry { key: 5, ..entry(handle, 7) };
        let (a, b) = (inodes.told(&twin(b"a"), false), inodes.told(&twin(b"b"), false));
        assert_eq!(inodes.changed(5), [a, b]);
        assert_eq!((inodes.forget(a, 1), inodes.changed(5)), (None, vec![b]));
        let c = inodes.told(&twin(b"c"), false);
        assert_eq!((inodes.forget(c, 1), inodes.forget(b, 1)), (None, Some(5)));
        assert!(inodes.changed(5).is_empty());
        let d = inodes.told(&twin(b"d"), false);
        inodes.told(&Entry { key: 6, ..twin(b"d") }, false);
        assert_eq!((inodes.changed(5), inodes.changed(6)), (vec![], vec![d]), "renamed");
    }

    #[test]
    fn the_cache_is_kept_while_the_file_is_as_it_was() {
        let inodes = Inodes::new();
        let one = inodes.told(&entry(b"a", 7), false);
        let attr = Attr { ino: 7, size: 3, ..Attr::default() };
        assert!(!inodes.keeps_cache(one, &attr, 0));
        assert!(inodes.keeps_cache(one, &attr, 0));
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 0));
        assert_eq!(inodes.changed(u64::from(b'a')), [one]);
        assert_eq!((inodes.changed(1), inodes.changes(one)), (Vec::new(), 1));
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 0), "asked before that");
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }, 1));
        assert_eq!(inodes.size(one), Some(4));
    }
}
