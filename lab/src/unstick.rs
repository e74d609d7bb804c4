//! Freeing a killed node that cannot end: a process that waits for an answer of a FUSE mount
//! which it serves itself waits for ever, and pid 1 waits for it.

use crate::scan;
use anyhow::{Context, Result, anyhow};
use krg_sys::mount::{self, MountEntry, MsFlags, mountinfo};
use krg_sys::ns::{self, Namespaces};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the kernel lists FUSE connections, by the minor number of their mounts.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Aborts every FUSE connection that a process of these nodes (by their pid 1) has mounted.
pub fn abort_fuse(inits: impl IntoIterator<Item = u32>) -> Result<()> {
    let minors: BTreeSet<u32> = inits.into_iter().flat_map(fuse_minors).collect();
    if minors.is_empty() {
        return Ok(());
    }
    // A thread of its own: it leaves the host's mount namespace to mount the list.
    let done = std::thread::spawn(move || abort(&minors)).join();
    done.map_err(|_| anyhow!("aborting FUSE connections failed"))?
}

fn abort(minors: &BTreeSet<u32>) -> Result<()> {
    if fs::read_dir(CONNECTIONS).is_ok_and(|mut d| d.next().is_none()) {
        ns::unshare(Namespaces::MOUNT)?;
        mount::make_private_recursive(Path::new("/"))?;
        let at = Path::new(CONNECTIONS);
        mount::mount_fs("fusectl", at, "fusectl", MsFlags::empty(), "")
            .context("cannot list the FUSE connections")?;
    }
    for minor in minors {
        // One that is not there any more needs no abort.
        let _ = fs::write(format!("{CONNECTIONS}/{minor}/abort"), "1");
    }
    Ok(())
}

/// The FUSE mounts that the processes of a node see, each thread by itself: of a dying process
/// the first thread may be gone already.
fn fuse_minors(init: u32) -> Vec<u32> {
    let all = scan::node_processes(init).unwrap_or_default();
    let threads = all.iter().flat_map(|s| {
        let entries =
            fs::read_dir(format!("/proc/{}/task", s.pid)).into_iter().flatten().flatten();
        entries.map(|t| format!("{}/task/{}", s.pid, t.file_name().to_string_lossy()))
    });
    threads.flat_map(|t| mountinfo(&t).unwrap_or_default()).filter(is_fuse).map(minor).collect()
}

fn is_fuse(m: &MountEntry) -> bool {
    m.fs_type == "fuse" || m.fs_type == "fuseblk" || m.fs_type.starts_with("fuse.")
}

fn minor(m: MountEntry) -> u32 {
    m.device.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fuse_mounts_are_aborted() {
        let entry = |kind: &str| {
            let line = format!("1 2 0:55 / /m rw - {kind} src rw");
            mount::parse_mountinfo(line.as_bytes()).remove(0)
        };
        assert!(is_fuse(&entry("fuse")) && is_fuse(&entry("fuse.sshfs")));
        assert!(!is_fuse(&entry("fusectl")) && !is_fuse(&entry("ext4")));
        assert_eq!(minor(entry("fuse")), 55);
    }
}
