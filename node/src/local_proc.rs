//! The kernel's own /proc at a place of its own: what `.local` of every view leads to, also where
//! a view covers /proc.

use anyhow::{Context, Result};
use krg_sys::mount::{MsFlags, mount_fs, mountinfo, umount_detach};
use krg_sys::procfs::HidePid;
use std::path::{Path, PathBuf};

/// Where it is, for a daemon with this directory.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("proc")
}

fn mounted(at: &Path) -> bool {
    mountinfo("self").unwrap_or_default().iter().any(|m| m.mount_point == at)
}

/// Mounts it, unless an earlier daemon has. It hides what /proc hides.
pub fn mount(run_dir: &Path, hide: HidePid) -> Result<()> {
    let at = path(run_dir);
    std::fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
    if mounted(&at) {
        umount_detach(&at)?;
    }
    let mut options = format!("hidepid={}", hide.level);
    if let Some(gid) = hide.gid {
        options += &format!(",gid={gid}");
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_fs("proc", &at, "proc", flags, &options)
        .with_context(|| format!("cannot mount proc on {}", at.display()))
}

/// Takes it away.
pub fn unmount(run_dir: &Path) {
    let at = path(run_dir);
    let _ = umount_detach(&at);
    let _ = std::fs::remove_dir(&at);
}
