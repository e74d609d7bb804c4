//! Mounts a view.

use super::View;
use fuser::{Config, Session, SessionACL};
use krg_sys::mount::{MsFlags, mount_fs};
use krg_types::view::FS_TYPE;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What it says is mounted.
const SOURCE: &str = "krgproc";

/// Why a view is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory is not there, or is no directory.
    #[error("{0}: no such directory (make it: mkdir -p {0})")]
    NoDirectory(PathBuf),
    /// /dev/fuse cannot be used.
    #[error("cannot open /dev/fuse: {0} (modprobe fuse; krg doctor says what is missing)")]
    NoFuse(io::Error),
    /// The kernel refuses the mount.
    #[error("cannot mount on {path}: {source} (krg doctor says what is missing)")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Mounts `view` on the directory `at`. Serving begins with `Session::spawn`; the mount stays
/// when the session ends, and is for the caller to take away.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(view: View, at: &Path, threads: usize) -> Result<Session<View>, MountError> {
    if !at.is_dir() {
        return Err(MountError::NoDirectory(at.to_owned()));
    }
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = OwnedFd::from(device.map_err(MountError::NoFuse)?);
    let failed = |source| MountError::Mount { path: at.to_owned(), source };
    // Everybody may look (the modes decide, checked by the kernel), as in every /proc.
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_fs(SOURCE, at, FS_TYPE, flags, &options).map_err(failed)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.max(2));
    config.clone_fd = true;
    Session::from_fd(view, device, SessionACL::All, config).map_err(|e| {
        // Nobody would ever serve it.
        let _ = krg_sys::mount::umount_detach(at);
        failed(e)
    })
}
