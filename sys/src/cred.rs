//! Acting as somebody else, one thread at a time.
//!
//! The C library's setuid() changes every thread of a process; the raw system calls change only
//! the calling one (credentials(7)), which is what a server needs that answers many users.

use std::io;
use std::marker::PhantomData;

/// Who a request is made for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Caller {
    /// Are its ids some? To the kernel the highest number means "keep": who takes it stays root.
    pub(crate) fn check(&self) -> io::Result<()> {
        match [self.uid, self.gid].iter().chain(&self.groups).any(|id| *id == u32::MAX) {
            true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            false => Ok(()),
        }
    }
}

/// This thread acts as a `Caller` until the value is dropped. Not `Send`: it is of one thread.
#[derive(Debug)]
pub struct ActingAs {
    switched: bool,
    _of_one_thread: PhantomData<*const ()>,
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live slice of gid_t (u32), only read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Real and saved ids stay root's, so that the thread can come back; the change of the effective
/// uid from 0 clears the effective capabilities and sets the file system ids (capabilities(7)).
fn set_effective(uid: u32, gid: u32) -> io::Result<()> {
    const KEEP: libc::c_int = -1;
    // SAFETY: plain integers; affects this thread alone.
    check(unsafe { libc::syscall(libc::SYS_setresgid, KEEP, gid, KEEP) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP) })
}

/// Gives up what this thread is, for good. For a child that does nothing else: system calls only.
pub(crate) fn become_entirely(caller: &Caller) -> io::Result<()> {
    let (uid, gid) = (caller.uid, caller.gid);
    set_groups(&caller.groups)?;
    // SAFETY: plain integers; affects this thread alone.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

impl ActingAs {
    /// Switches this thread, which must be root's. Root in its own group and no other needs no
    /// switch.
    ///
    /// # Errors
    /// EPERM if the thread may not switch; it is then root's again.
    pub fn enter(caller: &Caller) -> io::Result<ActingAs> {
        caller.check()?;
        let plain_root =
            caller.uid == 0 && caller.gid == 0 && matches!(caller.groups[..], [] | [0]);
        let guard = ActingAs { switched: !plain_root, _of_one_thread: PhantomData };
        if !plain_root {
            set_groups(&caller.groups)?;
            set_effective(caller.uid, caller.gid)?;
        }
        Ok(guard)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if !self.switched {
            return;
        }
        // The uid first: it brings back the capability to change the others.
        // SAFETY: plain integers; affects this thread alone.
        let back = check(unsafe { libc::syscall(libc::SYS_setresuid, -1, 0, -1) })
            // SAFETY: as above.
            .and_then(|()| check(unsafe { libc::syscall(libc::SYS_setresgid, -1, 0, -1) }))
            .and_then(|()| set_groups(&[]));
        if back.is_err() && nix::unistd::getuid().is_root() {
            // A thread that cannot come back would serve the next caller as this one.
            std::process::abort();
        }
    }
}

/// Bits of a capability set: capabilities(7), CAP_SYS_RESOURCE is 24.
const SYS_RESOURCE: u32 = 24;
/// The newest capability there is now is 40.
const CAPABILITIES: u32 = 41;

/// May this process raise limits, and look at the limits of everybody (CAP_SYS_RESOURCE)? In some
/// containers root may not.
pub fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    set & (1 << SYS_RESOURCE) != 0
}

/// Has the command have these ids, and all the powers of this process nevertheless: prlimit(2) asks
/// for the same ids of who lacks CAP_SYS_RESOURCE.
pub fn keep_powers_as(command: &mut std::process::Command, uid: u32, gid: u32) {
    use std::os::unix::process::CommandExt;
    let change = move || {
        let ok = |result: libc::c_int| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: plain numbers go in, and what is pointed to lives through the calls; capset(2) is
        // given two sets of three words each, as its version 3 has them.
        unsafe {
            ok(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
            ok(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) as libc::c_int)?;
            ok(libc::syscall(libc::SYS_setresgid, gid, gid, gid) as libc::c_int)?;
            ok(libc::syscall(libc::SYS_setresuid, uid, uid, uid) as libc::c_int)?;
            let mut header: [u32; 2] = [0x2008_0522, 0];
            let mut sets = [0u32; 6];
            let (head, body) = (header.as_mut_ptr(), sets.as_mut_ptr());
            ok(libc::syscall(libc::SYS_capget, head, body) as libc::c_int)?;
            // Effective and inheritable become what is permitted.
            for at in [0, 3] {
                sets[at] = sets[at + 1];
                sets[at + 2] = sets[at + 1];
            }
            ok(libc::syscall(libc::SYS_capset, head, body) as libc::c_int)?;
            for capability in (0..CAPABILITIES)
                .filter(|c| sets[if *c < 32 { 1 } else { 4 }] >> (c % 32) & 1 == 1)
            {
                let raise = libc::PR_CAP_AMBIENT_RAISE;
                ok(libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0))?;
            }
        }
        Ok(())
    };
    // SAFETY: system calls only, on memory that is there already; nothing is allocated or locked.
    unsafe { command.pre_exec(change) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::is_root;
    use nix::unistd::{Gid, getegid, getgroups};

    #[test]
    fn a_thread_acts_as_nobody_and_comes_back() {
        if !is_root("a_thread_acts_as_nobody") {
            return;
        }
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(
            secret.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let nobody = Caller { uid: 65534, gid: 65534, groups: vec![65534] };
        {
            let _as = ActingAs::enter(&nobody).unwrap();
            let denied = std::fs::read(secret.path()).unwrap_err();
            assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
            let other = std::thread::spawn(|| nix::unistd::geteuid().is_root());
            // A new thread inherits; what must hold is that threads that exist keep theirs.
            assert!(!other.join().unwrap());
        }
        assert!(std::fs::read(secret.path()).is_ok());
    }

    #[test]
    fn root_is_in_the_groups_it_is_said_to_be_in() {
        if !is_root("root_is_in_the_groups") {
            return;
        }
        for (gid, groups) in [(0, vec![1234]), (5, vec![]), (5, vec![6, 7]), (0, vec![0, 9])] {
            let root = Caller { uid: 0, gid, groups: groups.clone() };
            let _as = ActingAs::enter(&root).unwrap();
            assert_eq!(getegid(), Gid::from_raw(gid));
            let now: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
            assert_eq!(now, groups);
        }
        let _as = ActingAs::enter(&Caller { uid: 0, gid: 0, groups: vec![0] }).unwrap();
        assert!(getegid().as_raw() == 0 && getgroups().unwrap().is_empty());
    }

    #[test]
    fn nobody_keeps_the_ids_of_root() {
        for (uid, gid, groups) in
            [(u32::MAX, 1, vec![]), (1, u32::MAX, vec![]), (1, 1, vec![u32::MAX])]
        {
            let refused = ActingAs::enter(&Caller { uid, gid, groups }).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
