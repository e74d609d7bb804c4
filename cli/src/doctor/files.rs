//! File systems: FUSE and its device, what a lab is made of, and how /proc is mounted.

use std::io::ErrorKind;
use std::time::Duration;

use super::check::Check;
use super::probe::{self, Outcome};
use super::rights::User;

/// The checks of this file, on this machine.
pub fn checks(user: User) -> Vec<Check> {
    let known = probe::text("/proc/filesystems").unwrap_or_default();
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let opened = opened.map(drop).map_err(|e| e.kind());
    let mounts = probe::text("/proc/self/mountinfo").unwrap_or_default();
    let mut checks = vec![fuse(opened, registered(&known, "fuse"), user)];
    for name in ["overlay", "tmpfs"] {
        let loadable = || {
            let dry_run = ["modprobe", "--dry-run", "--quiet", name];
            matches!(probe::command(&dry_run, Duration::from_secs(1)), Outcome::Done(_))
        };
        checks.push(filesystem(name, &known, loadable));
    }
    checks.push(hidepid(&mounts));
    checks
}

/// Whether the text of `/proc/filesystems` has this one.
pub fn registered(known: &str, name: &str) -> bool {
    known.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// The device behind every mount of krg.
pub fn fuse(opened: Result<(), ErrorKind>, registered: bool, user: User) -> Check {
    match opened {
        Ok(()) => Check::ok("fuse", "/dev/fuse opens"),
        Err(ErrorKind::NotFound) if registered => {
            let mend = "mknod -m 600 /dev/fuse c 10 229";
            Check::fail("fuse", "the kernel has FUSE but there is no /dev/fuse", mend)
        }
        Err(ErrorKind::NotFound) => Check::fail("fuse", "no /dev/fuse", "modprobe fuse"),
        Err(ErrorKind::PermissionDenied) if !user.root => {
            Check::info("fuse", "/dev/fuse is there, for root only; krgd opens it as root", "")
        }
        Err(kind) => Check::fail(
            "fuse",
            format!("/dev/fuse does not open: {kind}"),
            "modprobe fuse (in a container: --device /dev/fuse)",
        ),
    }
}

/// A file system that a lab needs.
pub fn filesystem(name: &str, known: &str, loadable: impl Fn() -> bool) -> Check {
    if registered(known, name) {
        Check::ok(name, "known to the kernel")
    } else if loadable() {
        Check::ok(name, "a module, loaded when it is needed")
    } else {
        let what = format!("not in this kernel: krg lab cannot start ({name})");
        Check::warn(name, what, &format!("modprobe {name}"))
    }
}

/// With `hidepid` users see only their own processes, on this node and so in the cluster.
pub fn hidepid(mountinfo: &str) -> Check {
    let options = mountinfo.lines().filter_map(proc_options).next_back().unwrap_or_default();
    let value = options.split(',').find_map(|o| o.strip_prefix("hidepid="));
    match value {
        None | Some("0" | "off") => {
            Check::ok("hidepid", "/proc shows every process to everybody")
        }
        Some(value) => Check::info(
            "hidepid",
            format!("hidepid={value}: users see their own processes only, cluster-wide too"),
            "",
        ),
    }
}

/// The options of the file system of a mountinfo line, if it is the procfs at /proc.
fn proc_options(line: &str) -> Option<&str> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let at_proc = mount.split(' ').nth(4)? == "/proc";
    (at_proc && filesystem.next()? == "proc").then(|| filesystem.nth(1)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    const ROOT: User = User { root: true, admin: true };
    const USER: User = User { root: false, admin: false };
    const KNOWN: &str = "nodev\tsysfs\nnodev\ttmpfs\n\text4\n\tfuseblk\n";

    #[test]
    fn each_state_of_the_fuse_device() {
        assert_eq!(fuse(Ok(()), true, ROOT).level, Level::Ok);
        assert_eq!(fuse(Err(ErrorKind::NotFound), false, ROOT).mend, "modprobe fuse");
        assert!(fuse(Err(ErrorKind::NotFound), true, ROOT).mend.starts_with("mknod"));
        let denied = Err(ErrorKind::PermissionDenied);
        assert_eq!(fuse(denied, true, USER).level, Level::Info);
        assert_eq!(fuse(denied, true, ROOT).level, Level::Fail);
    }

    #[test]
    fn file_systems_are_matched_by_the_whole_word() {
        assert!(registered(KNOWN, "ext4") && registered(KNOWN, "tmpfs"));
        assert!(!registered(KNOWN, "fuse"), "fuseblk is not fuse");
        assert_eq!(filesystem("tmpfs", KNOWN, || false).level, Level::Ok);
        assert_eq!(filesystem("overlay", KNOWN, || true).level, Level::Ok);
        let check = filesystem("overlay", KNOWN, || false);
        assert_eq!((check.level, &*check.mend), (Level::Warn, "modprobe overlay"));
    }

    #[test]
    fn hidepid_is_found_on_the_uppermost_proc() {
        let plain = "22 1 0:21 / /proc rw,relatime - proc proc rw\n";
        let hidden = "23 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw,gid=4,hidepid=2\n";
        let elsewhere = "24 1 0:23 / /jail/proc rw - proc proc rw,hidepid=2\n";
        assert_eq!(hidepid(plain).level, Level::Ok);
        assert_eq!(hidepid(&format!("{hidden}{plain}")).level, Level::Ok);
        assert_eq!(hidepid(&format!("{plain}{elsewhere}")).level, Level::Ok);
        let check = hidepid(&format!("{plain}{hidden}"));
        assert_eq!(check.level, Level::Info);
        assert!(check.what.starts_with("hidepid=2"));
    }
}
