//! How a directory takes names.

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC,
    TMPFS_MAGIC, fstatfs,
};
use std::os::fd::{AsRawFd, BorrowedFd};

/// File systems that list every name they have. With others there are names that are found and not
/// listed, or found in upper and lower case (vfat; XFS may be made so).
const WHOLE: [FsType; 5] =
    [BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC];

/// Of linux/fs.h: this directory takes upper and lower case for the same.
const FS_CASEFOLD_FL: libc::c_long = 0x4000_0000;

/// Are the names that an open directory lists all those that are found in it? If it is not known,
/// they are not.
pub fn are_exact(dir: BorrowedFd<'_>) -> bool {
    let listed = fstatfs(dir).is_ok_and(|s| WHOLE.contains(&s.filesystem_type()));
    listed && !folds_case(dir)
}

fn folds_case(dir: BorrowedFd<'_>) -> bool {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes one long (in truth an int) to where `flags` is.
    let asked = unsafe { libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    // A file system that knows of no flags has none that does so.
    asked == 0 && flags & FS_CASEFOLD_FL != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_procfs_finds_more_than_it_lists() {
        let exact = |path: &str| are_exact(File::open(path).unwrap().as_fd());
        assert!(!exact("/proc"), "the threads");
        assert!(exact(std::env::temp_dir().to_str().unwrap()));
    }
}
