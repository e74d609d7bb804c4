//! What the kernel has and is not right any more.

use fuser::{INodeNo, Notifier};
use krg_faf::bytes::Name;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

/// What of the kernel's is old.
pub enum Stale {
    /// The content and the attributes of a file.
    Inode(INodeNo),
    /// Its attributes only.
    Attr(INodeNo),
    /// A name of a directory, and what is known of the directory.
    Name(INodeNo, Name),
    /// To be done when the kernel knows of all that.
    Then(Box<dyn FnOnce() + Send>),
}

/// Tells the kernel what is old, until the mount ends. It may wait for what the kernel has to
/// write first, and for whoever uses the file.
pub fn tell_kernel(stale: &Receiver<Stale>, untold: &AtomicUsize, kernel: &Notifier) {
    for stale in stale {
        // What the kernel does not have is of no interest to it (ENOENT).
        match stale {
            Stale::Inode(ino) => drop(kernel.inval_inode(ino, 0, 0)),
            Stale::Attr(ino) => drop(kernel.inval_inode(ino, -1, 0)),
            Stale::Then(work) => work(),
            Stale::Name(dir, name) => {
                let _ = kernel.inval_entry(dir, OsStr::from_bytes(name.as_slice()));
                // Its attributes only.
                let _ = kernel.inval_inode(dir, -1, 0);
            }
        }
        untold.fetch_sub(1, Ordering::AcqRel);
    }
}
