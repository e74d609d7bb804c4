//! What mount(8) and umount(8) keep of a mount besides what the kernel does: `/run/mount/utab`.
//!
//! umount(8) looks for a helper program by the type that statfs(2) tells, which is the same for
//! all FUSE mounts, unless there is a line about the mount here. What cannot be written is done
//! without: umount(8) then refuses to take away a mount that has others in it.

use nix::fcntl::{Flock, FlockArg};
use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const DIR: &str = "/run/mount";

/// Writes down that the mount on `target` is unmounted by `/sbin/umount.HELPER`.
///
/// # Errors
/// The kernel's; EWOULDBLOCK while somebody else writes.
pub fn add(source: &str, target: &Path, helper: &str) -> io::Result<()> {
    fs::create_dir_all(DIR)?;
    change(Path::new(DIR), |text| with(text, source, target, helper))
}

/// Takes the line about `target` out, if there is one.
///
/// # Errors
/// As `add`.
pub fn remove(target: &Path) -> io::Result<()> {
    change(Path::new(DIR), |text| without(text, target))
}

fn change(dir: &Path, edit: impl FnOnce(&str) -> String) -> io::Result<()> {
    // As libmount does it: under a lock, the whole file by a rename.
    let lock = OpenOptions::new().create(true).append(true).open(dir.join("utab.lock"))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e)?;
    let path = dir.join("utab");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let next: PathBuf = dir.join("utab.krg");
    io::Write::write_all(&mut File::create(&next)?, edit(&text).as_bytes())?;
    fs::rename(next, path)
}

fn with(text: &str, source: &str, target: &Path, helper: &str) -> String {
    let mut text = without(text, target);
    let target = escape(target);
    let _ = writeln!(text, "SRC={source} TARGET={target} ROOT=/ OPTS=helper={helper}");
    text
}

fn without(text: &str, target: &Path) -> String {
    let word = format!("TARGET={}", escape(target));
    let others = text.lines().filter(|line| line.split(' ').all(|w| w != word));
    others.flat_map(|line| [line, "\n"]).collect()
}

/// Blanks and the like as a backslash and three octal digits.
fn escape(path: &Path) -> String {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            byte => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_added_replaced_and_removed() {
        let other = "SRC=a TARGET=/mfs2 ROOT=/ OPTS=x\n";
        let at = Path::new("/m fs");
        let line = "SRC=none TARGET=/m\\040fs ROOT=/ OPTS=helper=fuse.x\n";
        let text = with(other, "none", at, "fuse.x");
        assert_eq!(text, format!("{other}{line}"));
        assert_eq!(with(&text, "none", at, "fuse.x"), text);
        assert_eq!(without(&text, at), other);
        assert_eq!(without(&text, Path::new("/mfs")), text);
    }

    #[test]
    fn the_file_is_changed_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = Path::new("/mfs");
        change(dir.path(), |text| with(text, "none", at, "fuse.x")).unwrap();
        change(dir.path(), |text| with(text, "none", Path::new("/b"), "fuse.x")).unwrap();
        change(dir.path(), |text| without(text, at)).unwrap();
        let text = fs::read_to_string(dir.path().join("utab")).unwrap();
        assert_eq!(text, "SRC=none TARGET=/b ROOT=/ OPTS=helper=fuse.x\n");
    }
}
