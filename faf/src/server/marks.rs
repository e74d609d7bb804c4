//! The files that are watched for what is written to them: those that clients have open, and those
//! that they had. To watch one no more costs the kernel ten times what it costs to begin, so that
//! is done for many at once.

use crate::op::Key;
use krg_sys::fanotify::Watcher;
use krg_types::limits::FILE_MARKS_IDLE_MAX;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// So many events of files that nobody has are taken before those are let go of: each is a thread
/// woken for nothing.
const VAIN_MAX: usize = 20;

/// All of them.
#[derive(Default)]
pub(super) struct Marks {
    /// As which it is open for clients; nothing for one that is idle.
    files: HashMap<Key, Vec<Arc<OwnedFd>>>,
    idle: usize,
    vain: usize,
}

impl Marks {
    /// A client has opened a file. What comes back may have been written unseen.
    pub(super) fn opened(&mut self, watcher: &Watcher, file: Key, fd: Arc<OwnedFd>) -> Vec<Key> {
        let open = self.files.len() - self.idle;
        let mut unseen = Vec::new();
        if self.idle > FILE_MARKS_IDLE_MAX.max(2 * open) {
            unseen = self.thin_out(watcher);
        }
        if let Some(fds) = self.files.get_mut(&file) {
            self.idle -= usize::from(fds.is_empty());
            fds.push(fd);
            return unseen;
        }
        // ENOSPC: there are as many as the system allows.
        let marked = watcher.watch_inode(fd.as_fd());
        if marked.is_err_and(|e| e.raw_os_error() == Some(libc::ENOSPC)) && self.idle > 0 {
            unseen = self.thin_out(watcher);
            let _ = watcher.watch_inode(fd.as_fd());
        }
        self.files.insert(file, vec![fd]);
        unseen
    }

    /// And has closed it.
    pub(super) fn closed(&mut self, file: Key, fd: &Arc<OwnedFd>) {
        let Some(fds) = self.files.get_mut(&file) else { return };
        if let Some(at) = fds.iter().position(|other| Arc::ptr_eq(other, fd)) {
            fds.swap_remove(at);
            self.idle += usize::from(fds.is_empty());
        }
    }

    /// A file was written that no client knows. What comes back may have been written unseen.
    pub(super) fn heard_in_vain(&mut self, watcher: &Watcher, file: Key) -> Vec<Key> {
        if self.files.get(&file).is_some_and(|fds| !fds.is_empty()) {
            return Vec::new();
        }
        self.vain += 1;
        if self.vain > VAIN_MAX { self.thin_out(watcher) } else { Vec::new() }
    }

    /// Watches only what is open now; that.
    fn thin_out(&mut self, watcher: &Watcher) -> Vec<Key> {
        (self.idle, self.vain) = (0, 0);
        self.files.retain(|_, fds| !fds.is_empty());
        if let Err(e) = watcher.unwatch_inodes() {
            tracing::warn!(error = %e, "files stay watched");
        }
        for fd in self.files.values().filter_map(|fds| fds.first()) {
            let _ = watcher.watch_inode(fd.as_fd());
        }
        self.files.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// The files of which something is told after each has been written.
    fn told(watcher: &Watcher, files: &[&File]) -> usize {
        let mut buf = vec![0; 1 << 16];
        while !watcher.read(&mut buf).unwrap().is_empty() {}
        files.iter().for_each(|file| file.write_all_at(b"x", 0).unwrap());
        watcher.read(&mut buf).unwrap().len()
    }

    fn file(dir: &Path, name: &str) -> (File, Arc<OwnedFd>) {
        let file = File::create(dir.join(name)).unwrap();
        let fd = Arc::new(File::open(dir.join(name)).unwrap().into());
        (file, fd)
    }

    #[test]
    fn what_was_closed_is_watched_until_that_is_in_vain() {
        let dir = tempfile::tempdir().unwrap();
        // Only root may.
        let Ok(watcher) = Watcher::new() else { return };
        let mut marks = Marks::default();
        let ((one, as_one), (two, as_two)) = (file(dir.path(), "1"), file(dir.path(), "2"));
        assert!(marks.opened(&watcher, 1, as_one.clone()).is_empty());
        assert!(marks.opened(&watcher, 2, as_two.clone()).is_empty());
        assert_eq!(told(&watcher, &[&one, &two]), 2);
        marks.closed(1, &as_one);
        assert_eq!(told(&watcher, &[&one, &two]), 2);
        for _ in 0..VAIN_MAX {
            assert!(marks.heard_in_vain(&watcher, 1).is_empty());
            assert!(marks.heard_in_vain(&watcher, 2).is_empty(), "it is open");
        }
        assert_eq!(marks.heard_in_vain(&watcher, 1), [2]);
        assert_eq!(told(&watcher, &[&one, &two]), 1);
        marks.opened(&watcher, 1, as_one.clone());
        assert_eq!(told(&watcher, &[&one, &two]), 2);
    }

    #[test]
    fn no_more_than_some_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(watcher) = Watcher::new() else { return };
        let mut marks = Marks::default();
        let (_, fd) = file(dir.path(), "1");
        for key in 0..=FILE_MARKS_IDLE_MAX as u64 {
            assert!(marks.opened(&watcher, key, fd.clone()).is_empty());
            marks.closed(key, &fd);
        }
        marks.opened(&watcher, 1, fd.clone());
        assert_eq!(marks.files.len(), 1);
        assert_eq!(marks.idle, 0);
    }

    #[test]
    fn a_file_that_is_open_twice_is_open_until_both_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(watcher) = Watcher::new() else { return };
        let mut marks = Marks::default();
        let ((_, one), (_, again)) = (file(dir.path(), "1"), file(dir.path(), "1"));
        marks.opened(&watcher, 1, one.clone());
        marks.opened(&watcher, 1, again.clone());
        marks.closed(1, &one);
        marks.closed(1, &one);
        assert_eq!(marks.idle, 0);
        marks.closed(1, &again);
        marks.closed(7, &again);
        assert_eq!(marks.idle, 1);
    }
}
