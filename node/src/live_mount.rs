//! Where the mount beside a view is, for what must be live: one for each process that serves a view,
//! in the daemon's directory. The links of the view lead there.

use anyhow::{Context, Result};
use krg_sys::mount::umount_detach;
use krg_sys::process;
use krg_types::view::SERVER;
use std::path::{Path, PathBuf};

/// Makes the place of this process's, and takes away those of processes that were killed.
pub fn make(run_dir: &Path) -> Result<PathBuf> {
    let all = run_dir.join("live");
    let own = all.join(std::process::id().to_string());
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let serves = |pid| process::stat(pid).ok().flatten().is_some_and(|s| s.name == SERVER);
        if !pid.is_some_and(serves) || entry.path() == own {
            take_away(&entry.path());
        }
    }
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    Ok(own)
}

/// Takes one away: nobody looks at it any more.
pub fn take_away(at: &Path) {
    let _ = umount_detach(at);
    let _ = std::fs::remove_dir(at);
}

/// Takes away all that are left, when the daemon ends.
pub fn clear(run_dir: &Path) {
    let all = run_dir.join("live");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        take_away(&entry.path());
    }
    let _ = std::fs::remove_dir(all);
}
