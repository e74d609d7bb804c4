//! What `/mfs` needs of the root file system: handles that name its files, and to be told of what
//! changes in it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use krg_sys::fanotify::Watcher;
use krg_sys::file_handle;
use nix::errno::Errno;

use super::check::Check;
use super::kernel::Mask;
use super::probe;
use super::rights::User;

const HANDLES: &str = "file-handles";
const FANOTIFY: &str = "fanotify";
const OTHER_ROOT: &str = "krg config set mfs/N/export DIR (on ext4 or xfs; N: this node)";

/// The checks of this file, on this machine.
pub fn checks(user: User, mask: &Mask) -> Vec<Check> {
    let mounts = probe::text("/proc/self/mountinfo").unwrap_or_default();
    let fs_type = type_of_root(&mounts);
    let root = File::open("/");
    let named = root
        .as_ref()
        .map_err(errno)
        .and_then(|root| file_handle::of(root.as_fd()).map(drop).map_err(|e| errno(&e)));
    let told = root.as_ref().map_err(errno).and_then(|root| {
        let watched = Watcher::new().and_then(|w| w.watch_file_system(root.as_fd()));
        watched.map_err(|e| errno(&e))
    });
    vec![handles(named, fs_type), fanotify(told, fs_type, user, mask)]
}

fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(0)
}

/// The type of the file system at `/`, from the text of `/proc/self/mountinfo`.
pub fn type_of_root(mountinfo: &str) -> &str {
    let at_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    let line = mountinfo.lines().rfind(at_root);
    let kind = line.and_then(|line| line.split_once(" - ")?.1.split(' ').next());
    kind.unwrap_or("unknown")
}

/// Whether its files have handles, from what asking for one gave.
pub fn handles(named: Result<(), i32>, fs_type: &str) -> Check {
    match named {
        Ok(()) => Check::ok(HANDLES, format!("/mfs: files of / ({fs_type}) have handles")),
        Err(number) => {
            let why = Errno::from_raw(number).desc();
            let what = format!(
                "/mfs: files of / ({fs_type}) have no handles ({why}): \
                 no node has any of this node's files"
            );
            let mend = match fs_type {
                "overlay" => format!("mount it with index=on,nfs_export=on; or {OTHER_ROOT}"),
                _ => OTHER_ROOT.to_owned(),
            };
            Check::warn(HANDLES, what, &mend)
        }
    }
}

/// Whether it tells of changes, from what watching it gave.
pub fn fanotify(told: Result<(), i32>, fs_type: &str, user: User, mask: &Mask) -> Check {
    const LOST: &str = "instead other nodes look again every second, and see changes so late";
    let without =
        |why: &str, mend: &str| Check::info(FANOTIFY, format!("/mfs: {why}; {LOST}"), mend);
    match told {
        _ if mask.hides(FANOTIFY) => {
            Check::masked(FANOTIFY, format!("/mfs: hidden by KRG_MASK; {LOST}"))
        }
        Ok(()) => {
            Check::ok(FANOTIFY, format!("/mfs: other nodes are told of changes in / ({fs_type})"))
        }
        Err(libc::EPERM) if !user.admin => {
            Check::info(FANOTIFY, "/mfs: not tried: that takes root", "sudo krg doctor")
        }
        Err(libc::EMFILE) => {
            let mend = "sysctl -w fs.fanotify.max_user_groups=1024";
            without("too many programs watch files", mend)
        }
        Err(libc::ENOSYS | libc::EINVAL) => {
            without("no fanotify of file systems in this kernel", "")
        }
        Err(number) => {
            let why = Errno::from_raw(number).desc();
            without(&format!("/ ({fs_type}) cannot be watched ({why})"), OTHER_ROOT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    const ROOT: User = User { root: true, admin: true };
    const USER: User = User { root: false, admin: false };

    #[test]
    fn the_uppermost_root_counts() {
        let table = "1 0 0:1 / / rw - rootfs none rw\n2 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
                     3 2 0:4 / /proc rw - proc proc rw\n";
        assert_eq!(type_of_root(table), "ext4");
        assert_eq!(type_of_root(""), "unknown");
    }

    #[test]
    fn a_plain_overlay_has_no_handles() {
        assert_eq!(handles(Ok(()), "ext4").level, Level::Ok);
        let check = handles(Err(libc::EOPNOTSUPP), "overlay");
        assert_eq!(check.level, Level::Warn);
        assert!(check.what.contains("(overlay)") && check.what.contains("no node has any"));
        assert!(check.mend.contains("nfs_export=on") && check.mend.contains("export DIR"));
        assert_eq!(handles(Err(libc::EOPNOTSUPP), "fuse").mend, OTHER_ROOT);
    }

    #[test]
    fn without_fanotify_changes_are_seen_late() {
        let level = |told, user, mask| fanotify(told, "ext4", user, &Mask::parse(mask)).level;
        assert_eq!(level(Ok(()), ROOT, ""), Level::Ok);
        assert_eq!(level(Ok(()), ROOT, "fanotify"), Level::Masked);
        let check = |number, user| fanotify(Err(number), "overlay", user, &Mask::default());
        for (number, mend) in [
            (libc::EOPNOTSUPP, OTHER_ROOT),
            (libc::ENODEV, OTHER_ROOT),
            (libc::EMFILE, "sysctl -w fs.fanotify.max_user_groups=1024"),
            (libc::ENOSYS, ""),
        ] {
            let check = check(number, ROOT);
            assert_eq!((check.level, check.mend.as_str()), (Level::Info, mend));
            assert!(check.what.contains("every second"), "{check:?}");
        }
        let check = check(libc::EPERM, USER);
        assert_eq!((check.level, check.mend.as_str()), (Level::Info, "sudo krg doctor"));
    }
}
