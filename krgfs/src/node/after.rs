//! What directories are like after this node has changed them. The kernel takes what it had of one
//! for old then, and asks before the next change; the answer to the change has told it already.

use super::opens::Asked;
use krg_faf::op::{Attr, Handle, Op};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// So many are remembered.
const KEPT: usize = 1024;

/// The attributes of a directory, when they were asked for, and when they came.
type Told = (Attr, Asked, Instant);

/// Directories (and files, which are not told apart) that are changed or have just been.
#[derive(Default)]
pub struct After(Mutex<HashMap<Handle, State>>);

#[derive(Default)]
struct State {
    /// Changes that have no answer yet.
    under_way: usize,
    /// Of which others have not been under way at the same time.
    alone: bool,
    told: Option<Told>,
}

/// A change that is under way.
pub struct Change {
    of: Vec<Handle>,
    tells: bool,
    /// When it was asked for; nothing for what changes nothing.
    asked: Asked,
}

/// What an operation changes the attributes of, and whether its answer tells them.
fn change(op: &Op) -> Change {
    let (of, tells) = match op {
        Op::Create { dir, .. }
        | Op::MakeNode { dir, .. }
        | Op::MakeDir { dir, .. }
        | Op::MakeLink { dir, .. }
        | Op::Link { dir, .. }
        | Op::Unlink { dir, .. }
        | Op::RemoveDir { dir, .. } => (vec![dir.clone()], true),
        Op::Rename { dir, to_dir, .. } => (vec![dir.clone(), to_dir.clone()], false),
        // Who reads a directory changes when it was read.
        Op::OpenDir { dir: file, .. }
        | Op::SetAttr { file, .. }
        | Op::SetXattr { file, .. }
        | Op::RemoveXattr { file, .. } => (vec![file.clone()], false),
        _ => (Vec::new(), false),
    };
    Change { of, tells, asked: Asked::default() }
}

impl After {
    fn table(&self) -> MutexGuard<'_, HashMap<Handle, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for.
    pub fn begin(&self, op: &Op, asked: impl FnOnce() -> Asked) -> Change {
        let mut change = change(op);
        if change.of.is_empty() {
            return change;
        }
        change.asked = asked();
        let mut table = self.table();
        for of in &change.of {
            let state = table.entry(of.clone()).or_default();
            state.alone = state.under_way == 0;
            state.under_way += 1;
            state.told = None;
        }
        change
    }

    /// It is answered, with these bytes.
    pub fn end(&self, change: Change, answer: Option<&[u8]>) {
        if change.of.is_empty() {
            return;
        }
        let attr = answer.filter(|_| change.tells).and_then(Attr::read);
        let mut table = self.table();
        for of in &change.of {
            let Some(state) = table.get_mut(of) else { continue };
            state.under_way = state.under_way.saturating_sub(1);
            if state.under_way > 0 {
                continue;
            }
            match attr.filter(|_| state.alone) {
                Some(attr) => state.told = Some((attr, change.asked, Instant::now())),
                None => drop(table.remove(of)),
            }
        }
        if table.len() > KEPT {
            table.retain(|_, state| state.under_way > 0);
        }
    }

    /// What a directory was like after the last change, once: then the kernel has it.
    pub fn take(&self, dir: &Handle) -> Option<Told> {
        let mut table = self.table();
        let told = table.get_mut(dir)?.told.take()?;
        table.remove(dir);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_faf::bytes::Name;
    use krg_faf::op::SetAttr;

    fn handle(text: &[u8]) -> Handle {
        Handle::new(text).unwrap()
    }

    fn begin(after: &After, op: &Op) -> Change {
        after.begin(op, Asked::default)
    }

    fn unlink(dir: &[u8]) -> Op {
        Op::Unlink { dir: handle(dir), name: Name::new(b"name").unwrap() }
    }

    fn told(size: u64) -> Vec<u8> {
        Attr { size, ..Attr::default() }.written(&mut [0; 200]).to_vec()
    }

    fn size(after: &After, dir: &[u8]) -> Option<u64> {
        after.take(&handle(dir)).map(|(attr, ..)| attr.size)
    }

    #[test]
    fn what_a_change_tells_is_had_once() {
        let after = After::default();
        let change = begin(&after, &unlink(b"dir"));
        assert_eq!(size(&after, b"dir"), None, "it is under way");
        after.end(change, Some(&told(7)));
        assert_eq!((size(&after, b"other"), size(&after, b"dir")), (None, Some(7)));
        assert_eq!(size(&after, b"dir"), None);
        after.end(begin(&after, &unlink(b"dir")), None);
        after.end(begin(&after, &unlink(b"dir")), Some(b"?"));
        assert_eq!(size(&after, b"dir"), None, "it was not told");
        assert!(after.table().is_empty());
    }

    #[test]
    fn what_another_change_may_have_made_old_is_not_had() {
        let after = After::default();
        let (one, two) = (begin(&after, &unlink(b"dir")), begin(&after, &unlink(b"dir")));
        after.end(one, Some(&told(1)));
        assert_eq!(size(&after, b"dir"), None);
        after.end(two, Some(&told(2)));
        assert_eq!(size(&after, b"dir"), None, "which was the last is not known");
        let set = Op::SetAttr { file: handle(b"dir"), open: None, set: SetAttr::default() };
        after.end(begin(&after, &unlink(b"dir")), Some(&told(3)));
        after.end(begin(&after, &set), Some(&told(4)));
        assert_eq!(size(&after, b"dir"), None, "it was set since");
        assert!(after.table().is_empty());
    }

    #[test]
    fn no_more_than_some_are_kept() {
        let after = After::default();
        let change = begin(&after, &unlink(b"dir"));
        for n in 0..2 * KEPT as u32 {
            let dir = n.to_le_bytes();
            after.end(begin(&after, &unlink(&dir)), Some(&told(1)));
        }
        assert!(after.table().len() <= KEPT + 1);
        after.end(change, Some(&told(5)));
        assert_eq!(size(&after, b"dir"), Some(5), "what is under way is not forgotten");
    }
}
