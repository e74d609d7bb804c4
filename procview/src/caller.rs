//! Who asks: the ids the kernel gives with a FUSE request, and the rest from its /proc.

use krg_sys::cred::Caller;
use krg_sys::procfs::{DirAt, Procfs};
use krg_types::limits::GROUPS_MAX;
use std::os::fd::AsFd;

/// The process (thread) behind a request, as this mount's pid namespace numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Its file system uid.
    pub uid: u32,
    /// Its file system gid.
    pub gid: u32,
    /// Its thread id; 0 if it is in another pid namespace.
    pub tid: u32,
}

impl Asker {
    /// The thread group it belongs to.
    pub fn tgid(&self, procfs: &Procfs) -> Option<u32> {
        status_field(&self.status(procfs)?, "Tgid:")?.parse().ok()
    }

    /// The ids to act with on the owning node.
    pub fn caller(&self, procfs: &Procfs) -> Caller {
        let status = self.status(procfs).unwrap_or_default();
        let groups = status_field(&status, "Groups:").unwrap_or_default();
        let groups = groups.split_whitespace().filter_map(|g| g.parse().ok());
        Caller { uid: self.uid, gid: self.gid, groups: groups.take(GROUPS_MAX).collect() }
    }

    fn status(&self, procfs: &Procfs) -> Option<String> {
        if self.tid == 0 {
            return None;
        }
        let dir = procfs.dir(&self.tid.to_string()).ok()?;
        let mut text = Vec::new();
        // A caller in all of NGROUPS_MAX groups has a status of some 700 KiB.
        DirAt(dir.as_fd()).read("status", &mut text, 1 << 20).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}
