//! /dev/fuse, and a mount of what somebody serves through it: made by hand with mount(2), so that
//! no helper program takes part.

use crate::mount::{MsFlags, mount_fs};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Why nothing is mounted.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
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

impl FuseError {
    /// What came of trying to mount or serve at `path`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> FuseError {
        let path = path.to_owned();
        |source| FuseError::Mount { path, source }
    }
}

/// What a mount is to look like.
#[derive(Clone, Copy, Debug)]
pub struct Looks<'a> {
    /// What is said to be mounted.
    pub source: &'a str,
    /// The type it shows as: `fuse.` and a name of its own.
    pub fs_type: &'a str,
    /// Flags of mount(2).
    pub flags: MsFlags,
    /// Options of FUSE besides those that every mount has.
    pub options: &'a str,
}

/// Mounts on the directory `at`, for every user, and returns the device to serve it through. The
/// mount stays when the device is closed, and is for the caller to take away.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(at: &Path, looks: &Looks<'_>) -> Result<OwnedFd, FuseError> {
    if !at.is_dir() {
        return Err(FuseError::NoDirectory(at.to_owned()));
    }
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = OwnedFd::from(device.map_err(FuseError::NoFuse)?);
    let mut options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    if !looks.options.is_empty() {
        options = format!("{options},{}", looks.options);
    }
    mount_fs(looks.source, at, looks.fs_type, looks.flags, &options)
        .map_err(FuseError::at(at))?;
    Ok(device)
}
