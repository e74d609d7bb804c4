//! Where the mount beside a view is, for what must be live: one for each process that serves a
//! view, in the daemon's directory. The links of the view lead there.

use anyhow::{Context, Result};
use krg_sys::mount::umount_detach;
use krg_sys::process;
use krg_types::view::SERVER;
use std::path::{Path, PathBuf};

/// Makes the place of this process's, and takes away those of processes that were killed.
pub fn make(run_dir: &Path) -> Result<PathBuf> {
    let all = run_dir.join("live");
    let own = all.join(std::process::id().to_string());
    for other in places(&all).filter(|other| !serves(other) || *other == own) {
        take_away(&other);
    }
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    Ok(own)
}

fn places(all: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Does the process whose place it is serve a view?
fn serves(at: &Path) -> bool {
    let pid = at.file_name().and_then(|name| name.to_str()?.parse().ok());
    pid.is_some_and(|pid| process::stat(pid).ok().flatten().is_some_and(|s| s.name == SERVER))
}

/// Takes one away: nobody looks at it any more.
pub fn take_away(at: &Path) {
    let _ = umount_detach(at);
    let _ = std::fs::remove_dir(at);
}

/// Takes all out of the tree when the daemon ends. Who looks at one already goes on: its directory
/// stays as long as its process, because with it the kernel would take its mounts everywhere.
pub fn clear(run_dir: &Path) {
    let all = run_dir.join("live");
    for at in places(&all) {
        if serves(&at) {
            let _ = umount_detach(&at);
        } else {
            take_away(&at);
        }
    }
    let _ = std::fs::remove_dir(all);
}
