//! The place of a mount in the tree: what is there, and taking away what the dead have left.

use super::kind::Kind;
use anyhow::{Context, Result};
use krg_sys::mount::{top_at, umount_detach};
use krg_sys::process::{PidFd, Signal};
use krg_types::limits::MOUNTS_MAX;
use krg_types::mfs::Patience;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// A process has so long to end, if nobody looks at its mount any more.
pub const STOP_MAX: Duration = Duration::from_millis(700);
/// A walk to a place in another mount of ours waits for that one's process, but not longer.
const WALK_MAX: Duration = Duration::from_millis(500);

/// The type of what is mounted exactly here.
fn covered(path: &Path) -> Option<String> {
    top_at(path).ok().flatten().map(|m| m.fs_type)
}

/// Is something here that a mount of this kind may not cover?
pub fn is_busy(kind: Kind, path: &Path) -> bool {
    kind.fs_type().is_some() && covered(path).is_some_and(|fs_type| !kind.may_cover(&fs_type))
}

/// Is a mount of this kind here?
pub fn is_ours(kind: Kind, path: &Path) -> bool {
    kind.fs_type().is_some() && covered(path).as_deref() == kind.fs_type()
}

/// Is a directory of nodes' trees here?
pub fn is_root(path: &Path) -> bool {
    is_ours(Kind::Mfs(Patience::Soft), path)
}

/// Makes the directory to mount on. The entry of a node is there, or not to be made.
pub fn prepare(kind: Kind, path: &Path) -> Result<()> {
    if kind.is_nested() || kind.fs_type().is_none() {
        return Ok(());
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Takes away what dead processes left here.
pub async fn clear(kind: Kind, path: &Path) -> Result<()> {
    if !is_ours(kind, path) {
        return Ok(());
    }
    let what = || format!("cannot unmount what is left on {}", path.display());
    let at = path.to_owned();
    let cleared = spawn_blocking(move || clear_now(kind, &at));
    timeout(WALK_MAX, cleared).await.with_context(what)??.with_context(what)
}

fn clear_now(kind: Kind, path: &Path) -> std::io::Result<()> {
    for _ in 0..MOUNTS_MAX {
        if !is_ours(kind, path) {
            return Ok(());
        }
        umount_detach(path)?;
    }
    Ok(())
}

/// Takes a mount out of the tree and tells its process to end. One that sessions still look at
/// (`krg exec` has a mount of its own of it) goes on serving them, and ends with the last. A
/// process without a mount ends, whether it wants to or not.
pub async fn retire(kind: Kind, path: &Path, process: &Arc<PidFd>) -> Result<()> {
    let cleared = clear(kind, path).await;
    let process = process.clone();
    let wait = spawn_blocking(move || {
        let _ = process.signal(Signal::SIGTERM);
        let ended = process.wait_end(STOP_MAX).unwrap_or(false);
        if !ended && kind.fs_type().is_none() {
            let _ = process.signal(Signal::SIGKILL);
            let _ = process.wait_end(STOP_MAX);
        }
    });
    wait.await?;
    cleared
}
