//! Open files and directories of one mount.

use crate::error::ViewError;
use crate::fs::Named;
use crate::inode::Item;
use krg_types::limits::HANDLES_MAX;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Bytes of a text, shared by the reads of one handle.
#[derive(Clone, Debug)]
pub(super) struct Text(Arc<[u8]>);

impl Text {
    /// The bytes that a read at `offset` of `size` gets.
    pub(super) fn from(&self, offset: u64, size: u32) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(size as usize).min(self.0.len());
        &self.0[start..end]
    }
}

/// An open file: its text as of the last read from its beginning.
#[derive(Debug)]
pub(super) struct OpenFile {
    item: Item,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    text: Text,
    /// Nobody has read it from the beginning yet.
    fresh: bool,
}

impl OpenFile {
    pub(super) fn new(item: Item, text: Vec<u8>) -> OpenFile {
        let state = State { text: Text(text.into()), fresh: true };
        OpenFile { item, state: Mutex::new(state) }
    }

    pub(super) fn item(&self) -> Item {
        self.item
    }

    /// The text for a read at `offset`. `None` at the beginning of a text that was read before:
    /// top and vmstat keep a file open and read it again from 0, and want it as it is then.
    pub(super) fn text_at(&self, offset: u64) -> Option<Text> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let again = offset == 0 && !state.fresh;
        state.fresh = false;
        (!again).then(|| state.text.clone())
    }

    pub(super) fn renew(&self, text: Vec<u8>) -> Text {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.text = Text(text.into());
        state.text.clone()
    }
}

/// An open directory: the names there were when it was opened.
#[derive(Debug)]
pub(super) struct OpenDir(Vec<Named>);

/// A name, or one of the dots.
type Entry<'a> = Result<&'a Named, &'static str>;

impl OpenDir {
    pub(super) fn new(names: Vec<Named>) -> OpenDir {
        OpenDir(names)
    }

    /// What comes at `offset` and after it, each with the offset of the next.
    pub(super) fn from(&self, offset: u64) -> impl Iterator<Item = (u64, Entry<'_>)> {
        let dots = [Err("."), Err("..")].into_iter();
        let all = dots.chain(self.0.iter().map(Ok)).enumerate();
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        all.skip(skip).map(|(i, entry)| (i as u64 + 1, entry))
    }
}

#[derive(Clone, Debug)]
enum Open {
    File(Arc<OpenFile>),
    Dir(Arc<OpenDir>),
}

/// All of them, by number.
#[derive(Default, Debug)]
pub(super) struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Open>>,
}

impl Handles {
    fn add(&self, open: Open) -> Result<u64, ViewError> {
        let mut table = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= HANDLES_MAX {
            return Err(ViewError::TooMany);
        }
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        table.insert(fh, open);
        Ok(fh)
    }

    pub(super) fn add_file(&self, file: OpenFile) -> Result<u64, ViewError> {
        self.add(Open::File(Arc::new(file)))
    }

    pub(super) fn add_dir(&self, dir: OpenDir) -> Result<u64, ViewError> {
        self.add(Open::Dir(Arc::new(dir)))
    }

    fn get(&self, fh: u64) -> Option<Open> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&fh).cloned()
    }

    pub(super) fn file(&self, fh: u64) -> Option<Arc<OpenFile>> {
        match self.get(fh)? {
            Open::File(file) => Some(file),
            Open::Dir(_) => None,
        }
    }

    pub(super) fn dir(&self, fh: u64) -> Option<Arc<OpenDir>> {
        match self.get(fh)? {
            Open::Dir(dir) => Some(dir),
            Open::File(_) => None,
        }
    }

    pub(super) fn remove(&self, fh: u64) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&fh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::Fixed;

    #[test]
    fn a_text_read_again_from_0_is_made_anew() {
        let file = OpenFile::new(Item::Fixed(Fixed::PidMax), b"abc".to_vec());
        assert_eq!(file.text_at(0).map(|t| t.from(0, 2).to_vec()), Some(b"ab".to_vec()));
        assert_eq!(file.text_at(2).map(|t| t.from(2, 9).to_vec()), Some(b"c".to_vec()));
        assert_eq!(file.text_at(3).map(|t| t.from(3, 9).to_vec()), Some(vec![]));
        assert!(file.text_at(0).is_none());
        assert_eq!(file.renew(b"xyz".to_vec()).from(0, 9), b"xyz");
        assert_eq!(file.text_at(1).map(|t| t.from(1, 9).to_vec()), Some(b"yz".to_vec()));
        assert_eq!(file.text_at(u64::MAX).map(|t| t.from(u64::MAX, 9).len()), Some(0));
    }
}
