//! The kernel's own /proc at a place of its own: what `.local` of every view leads to, also where
//! a view covers /proc.

use anyhow::{Context, Result};
use krg_sys::mount::{MsFlags, mount_fs, top_at, umount_detach};
use krg_sys::procfs::HidePid;
use std::path::{Path, PathBuf};

/// Where it is, for a daemon with this directory.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("proc")
}

/// Mounts it, or takes over what an earlier daemon has mounted. It hides what /proc hides.
pub fn mount(run_dir: &Path, hide: HidePid) -> Result<()> {
    let at = path(run_dir);
    std::fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
    let mut options = format!("hidepid={}", hide.level);
    if let Some(gid) = hide.gid {
        options += &format!(",gid={gid}");
    }
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if top_at(&at)?.is_some() {
        // Views that go on serving lead into it: it is not to be gone for a moment.
        flags |= MsFlags::MS_REMOUNT;
    }
    mount_fs("proc", &at, "proc", flags, &options)
        .with_context(|| format!("cannot mount proc on {}", at.display()))
}

/// Takes it away. The empty directory stays: removing it would take the mount away in the mount
/// namespaces of sessions too (fs/namespace.c, __detach_mounts).
pub fn unmount(run_dir: &Path) {
    let _ = umount_detach(&path(run_dir));
}
