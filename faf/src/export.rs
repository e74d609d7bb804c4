//! What of this node's files others see: its tree as it is without what only looks like files.
//!
//! The tree stands in a mount namespace of its own, which no process is in: descriptors hold it.
//! What shows no real files (proc, sys, dev, views of the cluster) is not mounted there, and denied
//! directories are covered. So nothing that is done relative to a descriptor of the tree can leave
//! it, whatever links and names say.

mod rules;
mod tree;

pub use rules::Rules;
pub use tree::{Child, Tree, change_key, mounts_seen, places_seen};

use crate::handle::Sealer;
use crate::op::Handle;
use arc_swap::ArcSwap;
use krg_sys::file_handle;
use std::io;
use std::sync::Arc;

/// The files of this node, as others may have them.
pub struct Export {
    tree: ArcSwap<Tree>,
    sealer: Sealer,
}

impl Export {
    /// Makes the tree of this process's mount namespace as it is now. `secret` is the node's own.
    ///
    /// # Errors
    /// Without root, or when the directory that is exported is not there.
    pub fn open(rules: Rules, secret: &[u8]) -> io::Result<Export> {
        let tree = Tree::build(Arc::new(rules))?;
        Ok(Export { tree: ArcSwap::from_pointee(tree), sealer: Sealer::new(secret) })
    }

    /// Makes it anew: the rules are others, or something was mounted or unmounted.
    ///
    /// # Errors
    /// As `open`; the tree then stays as it was.
    pub fn rebuild(&self, rules: Arc<Rules>) -> io::Result<()> {
        self.tree.store(Arc::new(Tree::build(rules)?));
        Ok(())
    }

    /// The tree as it is now.
    pub fn tree(&self) -> Arc<Tree> {
        self.tree.load_full()
    }

    /// Makes handles.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The file of a handle.
    ///
    /// # Errors
    /// ESTALE: it is not ours, or the file is gone.
    pub fn find(&self, handle: &Handle) -> io::Result<Child> {
        let stale = || io::Error::from_raw_os_error(libc::ESTALE);
        let tree = self.tree.load();
        let (mount, file) = match handle.as_slice() {
            // The root, which a client knows before it has been told anything, and which stays
            // what it calls the root whatever that is.
            [] => tree.root().clone(),
            _ => self.sealer.open(handle).ok_or_else(stale)?,
        };
        let at = tree.mount(mount).ok_or_else(stale)?;
        let fd = file_handle::open(at, &file, libc::O_PATH | libc::O_NOFOLLOW)?;
        Ok(Child { fd, mount, handle: file })
    }
}
