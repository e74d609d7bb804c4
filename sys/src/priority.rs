//! Nice values of other processes (setpriority(2)).

use crate::cred::Caller;
use crate::process::entirely_as;
use std::io;

/// The nice values that there are.
pub const NICE: std::ops::RangeInclusive<i32> = -20..=19;

/// Sets a process's nice value as somebody, whom the kernel lets do it or not. As with renice(1)
/// its other threads keep theirs.
///
/// # Errors
/// Those of setpriority(2): ESRCH, EACCES for a lower value than the caller may set, EPERM; EINVAL
/// for what is no pid or no nice value.
pub fn set_nice_as(caller: &Caller, pid: u32, nice: i32) -> io::Result<()> {
    // 0 would be the caller itself.
    if pid == 0 || pid > i32::MAX as u32 || !NICE.contains(&nice) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    entirely_as(caller, || {
        // SAFETY: plain numbers go in.
        let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn as_user(uid: u32) -> Caller {
        Caller { uid, gid: uid, groups: Vec::new() }
    }

    fn nice_of(pid: u32) -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap();
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn the_kernel_decides_who_may() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mut child = Command::new("sleep").arg("60").uid(7).spawn().unwrap();
        let pid = child.id();
        let set = |uid, nice| {
            set_nice_as(&as_user(uid), pid, nice).map_err(|e| e.raw_os_error().unwrap())
        };
        assert_eq!(set(7, 5), Ok(()));
        assert_eq!(nice_of(child.id()), 5);
        assert_eq!((set(8, 6), set(7, 20)), (Err(libc::EPERM), Err(libc::EINVAL)));
        assert_eq!(nice_of(child.id()), 5);
        assert_eq!(set(0, 3), Ok(()));
        assert_eq!(nice_of(child.id()), 3);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(set(0, 3), Err(libc::ESRCH));
        let nobody = set_nice_as(&as_user(0), 0, 3).map_err(|e| e.raw_os_error());
        assert_eq!(nobody, Err(Some(libc::EINVAL)));
    }
}
