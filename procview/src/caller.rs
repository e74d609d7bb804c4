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

    /// Does a signal wait for it that will end it?
    pub fn is_interrupted(&self, procfs: &Procfs) -> bool {
        self.status(procfs).is_some_and(|status| has_signal(&status))
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

/// Signals that stop a process or let it go on (signal(7)): it comes back, and wants its answer.
const STOPS: [u32; 5] = [18, 19, 20, 21, 22];

/// The signal masks of proc_pid_status(5): pending for the thread or the process, and of those
/// the ones that are blocked, ignored, or have a handler: after a handler the call goes on, as it
/// would on a /proc that does not wait.
fn has_signal(status: &str) -> bool {
    let mask = |key: &str| {
        let field = status_field(status, key).unwrap_or_default();
        u64::from_str_radix(field, 16).unwrap_or(0)
    };
    let stops = STOPS.iter().fold(0, |bits, n| bits | 1u64 << (n - 1));
    let kept = mask("SigBlk:") | mask("SigIgn:") | mask("SigCgt:") | stops;
    (mask("SigPnd:") | mask("ShdPnd:")) & !kept != 0
}

fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::has_signal;

    #[test]
    fn a_signal_counts_if_it_will_end_the_process() {
        let status = |pending: &str, shared: &str, blocked: &str, ignored: &str| {
            has_signal(&format!(
                "SigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n"
            ))
        };
        assert!(!status("0000000000000000", "0000000000000000", "0", "0"));
        assert!(status("0000000000000100", "0", "0", "0"), "SIGKILL");
        assert!(status("0", "0000000000000002", "0", "0"), "SIGINT");
        assert!(!status("0", "2", "2", "0") && !status("0", "2", "0", "2"));
        assert!(!status("0", "0000000000080000", "0", "0"), "SIGTSTP");
        assert!(!has_signal("ShdPnd:\t2\nSigCgt:\t2\n"), "it has a handler");
        assert!(!has_signal(""));
    }
}
