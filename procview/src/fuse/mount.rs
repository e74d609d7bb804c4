//! Mounts a view, with the kernel's own procfs inside it at `.local`.

use super::View;
use fuser::{Config, MountOption, Session, SessionACL};
use std::io;
use std::path::{Path, PathBuf};

/// Why a view is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory is not there, or is no directory.
    #[error("{0}: no such directory (make it: mkdir -p {0})")]
    NoDirectory(PathBuf),
    /// /dev/fuse cannot be used.
    #[error("cannot mount on {path}: {source} (krg doctor says what is missing)")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Mounts `view` on the directory `at`. Serving begins with `Session::spawn`.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(view: View, at: &Path, threads: usize) -> Result<Session<View>, MountError> {
    if !at.is_dir() {
        return Err(MountError::NoDirectory(at.to_owned()));
    }
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("krgproc".into()),
        MountOption::Subtype("krgproc".into()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.max(2));
    config.clone_fd = true;
    Session::new(view, at, &config)
        .map_err(|source| MountError::Mount { path: at.to_owned(), source })
}
