//! Mounts a view.

use super::View;
use fuser::{Config, Session, SessionACL};
use krg_sys::fuse_device::{self, FuseError, Looks};
use krg_sys::mount::MsFlags;
use krg_types::view::FS_TYPE;
use std::path::Path;

/// What it says is mounted.
const SOURCE: &str = "krgproc";
const SOURCE_LIVE: &str = "krglive";
/// The type of the mount beside a view, for what must be live.
pub const FS_TYPE_LIVE: &str = "fuse.krglive";

/// Mounts `view` on the directory `at`. Serving begins with `Session::spawn`; the mount stays
/// when the session ends, and is for the caller to take away. `live`: it stands beside one that
/// holds texts.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(
    view: View,
    at: &Path,
    threads: usize,
    live: bool,
) -> Result<Session<View>, FuseError> {
    // Everybody may look (the modes decide, checked by the kernel), as in every /proc.
    let looks = Looks {
        source: if live { SOURCE_LIVE } else { SOURCE },
        fs_type: if live { FS_TYPE_LIVE } else { FS_TYPE },
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        options: "default_permissions",
    };
    let device = fuse_device::mount(at, &looks)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.max(2));
    config.clone_fd = true;
    Session::from_fd(view, device, SessionACL::All, config).map_err(|e| {
        // Nobody would ever serve it.
        let _ = krg_sys::mount::umount_detach(at);
        FuseError::at(at)(e)
    })
}
