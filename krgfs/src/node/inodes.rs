//! What the kernel knows by number, and its server by handle.

use fuser::INodeNo;
use krg_faf::op::{Attr, Entry, Handle, Moment};
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
    /// How often the kernel was told of it, less how often it has forgotten.
    lookups: u64,
    cached: Option<Version>,
    /// As last heard.
    size: u64,
}

#[derive(Default)]
struct Table {
    inodes: HashMap<u64, Inode>,
    numbers: HashMap<Arc<Handle>, u64>,
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
        let root = Inode { handle: Arc::default(), lookups: 1, cached: None, size: 0 };
        table.inodes.insert(ROOT, root);
        Inodes(Mutex::new(table))
    }

    /// The server calls the root this, too.
    pub fn name_root(&self, handle: Handle) {
        let mut table = self.table();
        table.numbers.retain(|_, ino| *ino != ROOT);
        table.numbers.insert(Arc::new(handle), ROOT);
    }

    /// The kernel is told of a file; its number.
    pub fn told(&self, entry: &Entry) -> INodeNo {
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
                let new = Inode { handle, lookups: 0, cached: None, size: 0 };
                table.inodes.insert(ino, new);
                ino
            }
        };
        if let Some(inode) = table.inodes.get_mut(&ino) {
            inode.lookups += 1;
            inode.size = entry.attr.size;
        }
        INodeNo(ino)
    }

    /// The kernel forgets it so many times.
    pub fn forget(&self, ino: INodeNo, times: u64) {
        let mut table = self.table();
        let Some(inode) = table.inodes.get_mut(&ino.0) else { return };
        inode.lookups = inode.lookups.saturating_sub(times);
        if inode.lookups == 0 && ino.0 != ROOT {
            let handle = inode.handle.clone();
            table.inodes.remove(&ino.0);
            table.numbers.remove(&handle);
        }
    }

    /// What its server calls it.
    pub fn handle(&self, ino: INodeNo) -> Option<Arc<Handle>> {
        self.table().inodes.get(&ino.0).map(|i| i.handle.clone())
    }

    /// The kernel's number for what the server calls so.
    pub fn number(&self, handle: &Handle) -> Option<INodeNo> {
        self.table().numbers.get(handle).copied().map(INodeNo)
    }

    /// How long it was when it was last looked at.
    pub fn size(&self, ino: INodeNo) -> Option<u64> {
        self.table().inodes.get(&ino.0).map(|i| i.size)
    }

    /// It is opened and is like this now: is what the kernel has of it still right? From now on
    /// it has this.
    pub fn keeps_cache(&self, ino: INodeNo, attr: &Attr) -> bool {
        let mut table = self.table();
        let Some(inode) = table.inodes.get_mut(&ino.0) else { return false };
        inode.size = attr.size;
        let version = Some(Version::from(attr));
        std::mem::replace(&mut inode.cached, version) == version
    }

    /// What the kernel has of it is not right any more.
    pub fn changed(&self, ino: INodeNo) {
        if let Some(inode) = self.table().inodes.get_mut(&ino.0) {
            inode.cached = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(handle: &[u8], ino: u64) -> Entry {
        Entry { handle: Handle::new(handle).unwrap(), attr: Attr { ino, ..Attr::default() } }
    }

    #[test]
    fn a_number_is_of_one_file_until_the_kernel_forgets_it() {
        let inodes = Inodes::new();
        inodes.name_root(Handle::new(&b"root"[..]).unwrap());
        let a = inodes.told(&entry(b"a", 7));
        assert_eq!((a, inodes.told(&entry(b"a", 7))), (INodeNo(7), INodeNo(7)));
        let b = inodes.told(&entry(b"b", 7));
        assert!(b != a && b.0 >= MADE_UP);
        inodes.forget(a, 1);
        assert!(inodes.handle(a).is_some());
        inodes.forget(a, 1);
        assert!(inodes.handle(a).is_none());
        assert_eq!(inodes.told(&entry(b"c", 7)), a);
        assert_eq!(inodes.told(&entry(b"b", 7)), b);
        inodes.forget(INodeNo(ROOT), 100);
        assert_eq!(inodes.number(&Handle::new(&b"root"[..]).unwrap()), Some(INodeNo(ROOT)));
        assert!(inodes.told(&entry(b"d", 1)).0 >= MADE_UP);
    }

    #[test]
    fn the_cache_is_kept_while_the_file_is_as_it_was() {
        let inodes = Inodes::new();
        let one = inodes.told(&entry(b"a", 7));
        let attr = Attr { ino: 7, size: 3, ..Attr::default() };
        assert!(!inodes.keeps_cache(one, &attr));
        assert!(inodes.keeps_cache(one, &attr));
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }));
        inodes.changed(one);
        assert!(!inodes.keeps_cache(one, &Attr { size: 4, ..attr }));
        assert_eq!(inodes.size(one), Some(4));
    }
}
