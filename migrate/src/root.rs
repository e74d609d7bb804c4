//! The root directory of jobs: in mount namespaces of their supervisors, so that it is at the same
//! place everywhere, and CRIU, which is outside of it, finds this node's own /proc.

use krg_sys::mount::{self, MsFlags};
use krg_sys::ns::{self, Namespaces};
use std::fs;
use std::io;
use std::path::Path;

/// It.
pub const ROOT: &str = "/run/krg/root";

/// Gives this process mounts of its own. To be called while it has one thread.
///
/// # Errors
/// The kernel's.
pub fn leave_mounts() -> io::Result<()> {
    fs::create_dir_all(ROOT)?;
    ns::unshare(Namespaces::MOUNT)?;
    mount::make_slave_recursive(Path::new("/"))
}

/// Of jobs that are at home: this node's own tree.
///
/// # Errors
/// The kernel's.
pub fn at_home() -> io::Result<()> {
    mount::rbind(Path::new("/"), Path::new(ROOT))?;
    mount::make_slave_recursive(Path::new(ROOT))?;
    // Of this namespace's processes; the job's own is put there instead.
    let _ = mount::umount_detach(&Path::new(ROOT).join("proc"));
    Ok(())
}

/// Of jobs that are away, on the tree of their home, which is there already: what is of this node.
///
/// # Errors
/// When the home has no such directories.
pub fn abroad() -> io::Result<()> {
    let root = Path::new(ROOT);
    for (dir, whole) in [("dev", true), ("sys", true), ("run", false)] {
        let (from, to) = (Path::new("/").join(dir), root.join(dir));
        let bound = if whole { mount::rbind(&from, &to) } else { mount::bind(&from, &to) };
        bound.map_err(|e| io::Error::new(e.kind(), format!("/{dir}: {e}")))?;
        mount::make_slave_recursive(&to)?;
    }
    // The cluster's views, where both nodes have them.
    for dir in ["cluster/proc", "mfs"] {
        let (from, to) = (Path::new("/").join(dir), root.join(dir));
        if mount::top_at(&from)?.is_some() && to.is_dir() {
            mount::rbind(&from, &to)?;
            mount::make_slave_recursive(&to)?;
        }
    }
    Ok(())
}

/// Mounts the process numbers of the calling process's namespace there.
///
/// # Errors
/// The kernel's.
pub fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount::mount_fs("proc", &Path::new(ROOT).join("proc"), "proc", flags, "")
}
