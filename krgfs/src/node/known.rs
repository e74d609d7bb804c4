//! Directories all of whose names are known. The kernel looks for each name that is to be made
//! first: that it is not there need not be asked of the server each time. Its notices say which
//! names have come since, and what comes of making one that has just come, the server says.

use super::core::NAME_TTL;
use krg_faf::bytes::Name;
use krg_faf::op::{Handle, Key, Line, Op};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Digests of names that are kept, of all directories.
const NAMES_MAX: usize = 1 << 17;
/// Directories of which something is kept.
const DIRS_MAX: usize = 1 << 14;
/// A directory is read for the sake of its names when so many were looked for in vain.
const MISSES: u32 = 2;
/// One that has too many of them is not looked at again for so long.
const PAUSE: Duration = Duration::from_secs(10);
/// What was read is used for so long; the kernel believes a name no longer either.
const AGE_MAX: Duration = NAME_TTL;

/// Tells one reading of a directory from others.
pub type Reading = u64;

/// What is known of one directory.
enum Dir {
    /// That so many names are not in it.
    Missed(u32),
    /// It is being read since then; these names may have come meanwhile.
    Reading(HashSet<u64>, Instant, Reading),
    /// No names but these can be in it, as was asked then.
    Whole(HashSet<u64>, Instant),
    /// It is too big to be read for this.
    Big(Instant),
}

#[derive(Default)]
struct Table {
    dirs: HashMap<Key, Dir>,
    names: usize,
    readings: Reading,
}

/// Those of one mount.
#[derive(Default)]
pub struct Known(Mutex<Table>);

fn digest(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The names that an operation may bring into directories.
pub fn brought(op: &Op) -> Vec<(Handle, Name)> {
    match op {
        Op::MakeNode { dir, name, .. }
        | Op::MakeDir { dir, name, .. }
        | Op::MakeLink { dir, name, .. }
        | Op::Link { dir, name, .. }
        | Op::Create { dir, name, .. } => vec![(dir.clone(), name.clone())],
        // Two names may have been exchanged.
        Op::Rename { dir, name, to_dir, to_name, .. } => {
            vec![(dir.clone(), name.clone()), (to_dir.clone(), to_name.clone())]
        }
        _ => Vec::new(),
    }
}

impl Known {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is it known that there is no such name?
    pub fn lacks(&self, dir: Key, name: &[u8]) -> bool {
        match self.table().dirs.get(&dir) {
            Some(Dir::Whole(names, at)) => {
                at.elapsed() < AGE_MAX && !names.contains(&digest(name))
            }
            _ => false,
        }
    }

    /// A name was looked for in vain. True if the directory is to be read now: `begun` is called
    /// then.
    pub fn missed(&self, dir: Key) -> bool {
        let mut table = self.table();
        table.make_room();
        match table.dirs.entry(dir).or_insert(Dir::Missed(0)) {
            Dir::Missed(times) => {
                *times += 1;
                *times >= MISSES
            }
            Dir::Big(since) => since.elapsed() > PAUSE,
            Dir::Whole(_, at) => at.elapsed() >= AGE_MAX,
            Dir::Reading(..) => false,
        }
    }

    /// A directory is going to be read from its beginning: for `read`.
    pub fn begun(&self, dir: Key) -> Reading {
        let mut guard = self.table();
        let table = &mut *guard;
        table.make_room();
        let state = table.dirs.entry(dir).or_insert(Dir::Missed(0));
        match state {
            Dir::Reading(_, _, reading) => return *reading,
            Dir::Whole(_, at) if at.elapsed() < AGE_MAX => return 0,
            Dir::Whole(names, _) => table.names -= names.len(),
            Dir::Missed(_) | Dir::Big(_) => {}
        }
        table.readings += 1;
        *state = Dir::Reading(HashSet::new(), Instant::now(), table.readings);
        table.readings
    }

    /// It has been: these are all names that it had. `None`: not all are known.
    pub fn read(&self, dir: Key, reading: Reading, lines: Option<&[Line]>) {
        let mut guard = self.table();
        let table = &mut *guard;
        let Some(state) = table.dirs.get_mut(&dir) else { return };
        let Dir::Reading(came, since, of) = state else { return };
        if *of != reading {
            return;
        }
        let Some(lines) = lines else {
            *state = Dir::Big(Instant::now());
            return;
        };
        let mut names = std::mem::take(came);
        names.extend(lines.iter().map(|line| digest(line.name.as_slice())));
        table.names += names.len();
        *state = Dir::Whole(names, *since);
    }

    /// A name may have come.
    pub fn came(&self, dir: Key, name: &[u8]) {
        let mut guard = self.table();
        let table = &mut *guard;
        match table.dirs.get_mut(&dir) {
            Some(Dir::Reading(names, ..)) => drop(names.insert(digest(name))),
            Some(Dir::Whole(names, _)) => table.names += usize::from(names.insert(digest(name))),
            _ => {}
        }
        table.make_room();
    }

    /// Nothing is known of it any more.
    pub fn forget(&self, dir: Key) {
        let mut table = self.table();
        if let Some(Dir::Whole(names, _)) = table.dirs.remove(&dir) {
            table.names -= names.len();
        }
    }

    /// Nor of any other.
    pub fn clear(&self) {
        let mut table = self.table();
        table.dirs.clear();
        table.names = 0;
    }
}

impl Table {
    fn make_room(&mut self) {
        if self.names > NAMES_MAX || self.dirs.len() > DIRS_MAX {
            self.dirs.clear();
            self.names = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_faf::bytes::Bounded;

    fn line(name: &str) -> Line {
        Line { name: Bounded::new(name).unwrap(), next: 0, ino: 0, kind: 0, entry: None }
    }

    #[test]
    fn a_name_is_missing_only_from_a_directory_that_is_known() {
        let known = Known::default();
        assert!(!known.lacks(1, b"a"));
        assert!(!known.missed(1) && known.missed(1));
        let reading = known.begun(1);
        assert!(!known.missed(1), "it is being read already");
        known.came(1, b"new");
        known.read(1, reading, Some(&[line("a")]));
        assert!(known.lacks(1, b"b") && !known.lacks(2, b"b"));
        assert!(!known.lacks(1, b"a") && !known.lacks(1, b"new"));
        known.came(1, b"b");
        assert!(!known.lacks(1, b"b"));
        known.forget(1);
        assert!(!known.lacks(1, b"c") && known.table().names == 0);
    }

    #[test]
    fn what_is_not_read_to_the_end_is_not_known() {
        let known = Known::default();
        known.read(1, known.begun(1), None);
        assert!(!known.lacks(1, b"a") && !known.missed(1), "not again at once");
        let before = known.begun(2);
        known.clear();
        known.begun(2);
        known.read(2, before, Some(&[line("a")]));
        assert!(!known.lacks(2, b"b"), "something was said meanwhile");
    }

    #[test]
    fn nothing_is_known_for_long() {
        let known = Known::default();
        known.read(1, known.begun(1), Some(&[line("a")]));
        assert!(known.lacks(1, b"b"));
        let long_ago = Instant::now().checked_sub(AGE_MAX).unwrap();
        known.table().dirs.insert(1, Dir::Whole(HashSet::from([digest(b"a")]), long_ago));
        assert!(!known.lacks(1, b"b") && known.missed(1));
        let reading = known.begun(1);
        assert_eq!(known.table().names, 0);
        known.read(1, reading, Some(&[line("a")]));
        assert!(known.lacks(1, b"b") && !known.missed(1));
    }

    #[test]
    fn there_is_room_for_so_many_names_only() {
        let known = Known::default();
        known.read(1, known.begun(1), Some(&[]));
        for n in 0..=NAMES_MAX as u64 {
            known.came(1, &n.to_le_bytes());
        }
        assert!(!known.lacks(1, b"a") && known.table().names == 0);
    }
}
