//! What this node itself has changed of late. A directory is read in parts and given to the kernel
//! bit by bit: a name that was removed meanwhile, or a file that was changed, is not to be given
//! as it was before.

use krg_faf::bytes::Name;
use krg_faf::op::{Handle, Op};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are remembered; then everything counts as changed that is asked about from before.
const KEPT: usize = 65_536;

#[derive(Default)]
struct Table {
    count: u64,
    /// Digests of names and files, each with when it was changed last.
    at: HashMap<u64, u64>,
    /// Nothing is known of what was changed until then.
    floor: u64,
}

/// The latest of one mount.
#[derive(Default)]
pub struct Touched(Mutex<Table>);

/// Of a name of a directory, or of a file.
type Subject<'a> = (&'a Handle, Option<&'a [u8]>);

fn digest(subject: Subject<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

/// What an operation changes that has a name here.
pub fn subjects(op: &Op) -> Vec<u64> {
    let name = |dir, name: &Name| digest((dir, Some(name.as_slice())));
    match op {
        Op::SetAttr { file, .. } => vec![digest((file, None))],
        Op::Unlink { dir, name: old } | Op::RemoveDir { dir, name: old } => vec![name(dir, old)],
        Op::Rename { dir, name: old, to_dir, to_name, .. } => {
            vec![name(dir, old), name(to_dir, to_name)]
        }
        _ => Vec::new(),
    }
}

impl Touched {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was changed.
    pub fn add(&self, subjects: &[u64]) {
        let mut table = self.table();
        if table.at.len() + subjects.len() > KEPT {
            table.at.clear();
            table.floor = table.count + 1;
        }
        table.count += 1;
        let count = table.count;
        table.at.extend(subjects.iter().map(|subject| (*subject, count)));
    }

    /// How often something was.
    pub fn count(&self) -> u64 {
        self.table().count
    }

    /// Was this name, or its file, after there had been `count`?
    pub fn since(&self, count: u64, dir: &Handle, name: &[u8], file: &Handle) -> bool {
        let table = self.table();
        let is_newer = |subject| table.at.get(&digest(subject)).is_some_and(|at| *at > count);
        count < table.count
            && (count < table.floor || is_newer((dir, Some(name))) || is_newer((file, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_changed_meanwhile_is_old() {
        let touched = Touched::default();
        let handle = |bytes: &[u8]| Handle::new(bytes).unwrap();
        let (dir, file) = (handle(b"dir"), handle(b"file"));
        let name = |text: &[u8]| Name::new(text).unwrap();
        let unlink = |text: &[u8]| Op::Unlink { dir: dir.clone(), name: name(text) };
        touched.add(&subjects(&unlink(b"a")));
        let asked = touched.count();
        assert!(!touched.since(asked, &dir, b"a", &file) && touched.since(0, &dir, b"a", &file));
        touched.add(&subjects(&unlink(b"b")));
        assert!(
            !touched.since(asked, &dir, b"a", &file) && touched.since(asked, &dir, b"b", &file)
        );
        assert!(!touched.since(asked, &file, b"b", &file), "of another directory");
        touched.add(&subjects(&Op::SetAttr {
            file: file.clone(),
            open: None,
            set: <_>::default(),
        }));
        assert!(touched.since(asked, &dir, b"a", &file));
        let asked = touched.count();
        for n in 0..=KEPT as u64 {
            touched.add(&[n]);
        }
        assert!(touched.since(asked, &dir, b"c", &handle(b"other")), "it is not known any more");
    }
}
