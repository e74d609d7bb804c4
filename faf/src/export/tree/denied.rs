//! What nobody may see: directories by what they are and by their names, so that one that is made
//! later, or in the place of another, is not seen either.

use super::build::open_in_tree;
use krg_sys::mount::{self, MsFlags};
use krg_sys::statx::{Stat, statx};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Device and number.
type Place = (u64, u64);

/// Of one tree.
#[derive(Default)]
pub(super) struct Denied {
    /// Wherever else they are mounted.
    files: HashSet<Place>,
    /// By name, and the directory it is in.
    names: HashMap<CString, HashSet<Place>>,
    /// What is seen instead.
    covers: HashSet<Place>,
}

fn place(stat: &Stat) -> Place {
    (stat.dev, stat.ino)
}

fn place_of(path: &Path) -> Option<Place> {
    let stat = statx(open_in_tree(path).ok()?.as_fd(), c"").ok()?;
    Some(place(&stat))
}

impl Denied {
    /// Covers these in the mount namespace of this thread.
    pub(super) fn cover(paths: &[PathBuf]) -> Denied {
        let mut denied = Denied::default();
        for path in paths {
            denied.add(path);
            if let Ok(real) = path.canonicalize()
                && real != *path
            {
                denied.add(&real);
            }
            let Some(there) = place_of(path) else { continue };
            denied.files.insert(there);
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            match mount::mount_fs("none", path, "tmpfs", flags, "mode=0,size=4k") {
                Ok(()) => denied.covers.extend(place_of(path)),
                // A file: its name alone is seen.
                Err(e) => tracing::debug!(path = %path.display(), error = %e, "not covered"),
            }
        }
        denied
    }

    fn add(&mut self, path: &Path) {
        let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
        if let (Some(name), Some(dir)) = (name, path.parent().and_then(place_of)) {
            self.names.entry(name).or_default().insert(dir);
        }
    }

    /// Is this one of them?
    pub(super) fn has(&self, stat: &Stat) -> bool {
        self.files.contains(&place(stat))
    }

    /// Does one of them have this name in this directory?
    ///
    /// # Errors
    /// Those of statx(2).
    pub(super) fn has_name(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        match self.names.get(name) {
            Some(dirs) => Ok(dirs.contains(&place(&statx(dir, c"")?))),
            None => Ok(false),
        }
    }

    /// Is this what is seen instead of one?
    pub(super) fn is_cover(&self, stat: &Stat) -> bool {
        self.covers.contains(&place(stat))
    }
}
