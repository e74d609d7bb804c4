//! Namespaces: leaving those of the parent, entering those of another process.

use nix::sched::CloneFlags;
use std::fs;
use std::io;
use std::ops::BitOr;
use std::os::fd::AsFd;
use std::path::Path;

/// A set of kinds of namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespaces(i32);

impl Namespaces {
    /// Mount points.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS);
    /// Interfaces, addresses, ports.
    pub const NET: Namespaces = Namespaces(libc::CLONE_NEWNET);
    /// The host name.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS);
    /// System V IPC and POSIX message queues.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC);
    /// Users and their capabilities: what lets somebody who is not root have the others.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER);
    /// Process numbers, of the children only.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID);
    /// The monotonic and the boot clock, of the children only.
    pub const TIME: Namespaces = Namespaces(libc::CLONE_NEWTIME);

    /// Are all kinds of `other` in this set?
    pub fn contains(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }

    fn flags(self) -> CloneFlags {
        CloneFlags::from_bits_retain(self.0)
    }
}

impl BitOr for Namespaces {
    type Output = Namespaces;
    fn bitor(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }
}

/// Gives this process new namespaces of these kinds (`PID` and `TIME`: its next children).
pub fn unshare(kinds: Namespaces) -> io::Result<()> {
    Ok(nix::sched::unshare(kinds.flags())?)
}

/// Gives this thread a working directory and a umask of its own, which it shared with all threads
/// of its process before (`CLONE_FS` of unshare(2)). Needs no privilege.
pub fn unshare_fs_of_thread() -> io::Result<()> {
    Ok(nix::sched::unshare(CloneFlags::CLONE_FS)?)
}

/// Enters the namespaces of the process behind a pid file descriptor, all or none of them. The
/// caller must be single-threaded for `MOUNT` and `TIME`; with `MOUNT`, its root and working
/// directory become the other's root; with `PID`, its next children are born there.
pub fn enter(pidfd: impl AsFd, kinds: Namespaces) -> io::Result<()> {
    Ok(nix::sched::setns(pidfd, kinds.flags())?)
}

/// Has a child do something as a process of the PID namespace of another process, and waits for it.
/// This process must have one thread only: what another holds would never be let go in the child.
///
/// # Errors
/// What the child's own was, or that there was none.
pub fn act_among(pidfd: impl AsFd, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    enter(pidfd, Namespaces::PID)?;
    // SAFETY: there are no other threads, so nothing is locked in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let errno = act().map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            // SAFETY: ends the child at once; nothing of the parent's is run.
            unsafe { libc::_exit(errno) }
        }
        child => crate::process::exit_code(child),
    }
}

/// The PID namespace of this process gives out these numbers from now on, first to last; what was
/// given out before stays. `proc` is a mount of its procfs. For kernels with
/// [`crate::feature::has_pid_blocks`]; on others this would bound the whole machine.
///
/// # Errors
/// The kernel's.
pub fn number_from(proc: &Path, first: u32, last: u32) -> io::Result<()> {
    fs::write(proc.join("sys/kernel/pid_max"), (last + 1).to_string())?;
    fs::write(proc.join("sys/kernel/ns_last_pid"), (first - 1).to_string())
}

/// In a user namespace that was just unshared: this user and group stay who they were
/// (user_namespaces(7)).
pub fn keep_ids(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))
}

/// Has this kernel time namespaces?
pub fn has_time() -> bool {
    Path::new("/proc/self/ns/time").exists()
}

/// Tells the namespace of this `kind` (`pid`, `net`, `time`...) of a process from all others:
/// `pid:[4026531836]`.
pub fn id(pid: u32, kind: &str) -> io::Result<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Sets the clocks of a time namespace that was just unshared and has no process yet: seconds
/// added to the monotonic and to the boot clock.
pub fn set_time_offsets(monotonic: i64, boot: i64) -> io::Result<()> {
    let text = format!("monotonic {monotonic} 0\nboottime {boot} 0\n");
    fs::write("/proc/self/timens_offsets", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_join() {
        let both = Namespaces::NET | Namespaces::UTS;
        assert!(both.contains(Namespaces::NET) && !both.contains(Namespaces::PID));
    }

    #[test]
    fn threads_of_one_process_share_their_namespace() {
        let me = std::process::id();
        assert_eq!(id(me, "pid").unwrap(), id(me, "pid").unwrap());
        assert!(id(me, "pid").unwrap().starts_with("pid:["));
    }
}
