//! `mount -t krgproc none DIR` and `mount -t mfs none DIR`: the helpers that mount(8) and
//! umount(8) look for.

use crate::daemon;
use anyhow::{Context, Result, bail};
use krg_sys::mount::{mountinfo, top_at, umount, umount_detach};
use krg_types::mfs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What mount(8) hands to a helper: `SOURCE DIR [-sfnv] [-N ns] [-o options] [-t type]`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    names: Vec<OsString>,
    options: Vec<String>,
    /// Everything but the mount itself.
    fake: bool,
    /// Out of the tree, whoever uses it.
    lazy: bool,
}

fn parse(args: &[OsString]) -> Result<Call> {
    let mut call = Call::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.to_str().unwrap_or_default() {
            "-o" => {
                let list = rest.next().context("-o needs options")?.to_string_lossy();
                call.options.extend(list.split(',').map(str::to_owned));
            }
            "-t" | "-N" => drop(rest.next()),
            flags if flags.len() > 1 && flags.starts_with('-') => {
                call.fake |= flags.contains('f');
                call.lazy |= flags.contains('l');
            }
            _ => call.names.push(arg.clone()),
        }
    }
    Ok(call)
}

/// Options every mount may be given; the view is always nosuid, nodev, noexec and read only.
const KNOWN: [&str; 16] = [
    "rw", "ro", "defaults", "nosuid", "nodev", "noexec", "suid", "dev", "exec", "noauto",
    "nofail", "_netdev", "relatime", "noatime", "user", "nouser",
];

/// Of openMosix: a file system call was done where the file is. Here the file comes to the call, so
/// it changes nothing. `soft` is what these mounts are if nothing is said: a node that is down is
/// an error at once.
const MFS_KNOWN: [&str; 5] = ["dfsa", "dfsa=0", "dfsa=1", "soft", mfs::HARD];

fn is_known(option: &str, more: &[&str]) -> bool {
    KNOWN.contains(&option)
        || more.contains(&option)
        || option.starts_with("x-")
        || option.is_empty()
}

/// What is to be mounted where; `more` are the options of this type.
fn checked(call: &Call, fs_type: &str, more: &[&str]) -> Result<PathBuf> {
    let [_source, dir] = call.names.as_slice() else {
        bail!("usage: mount -t {fs_type} none DIR [-o options]");
    };
    if let Some(unknown) = call.options.iter().find(|o| !is_known(o, more)) {
        bail!("unknown option `{unknown}`");
    }
    let dir = Path::new(dir);
    std::fs::canonicalize(dir)
        .with_context(|| format!("{0}: no such directory (make it: mkdir -p {0})", dir.display()))
}

/// krgd says that it has mounted it; is it mounted for us?
fn is_seen(path: &Path) -> Result<()> {
    if top_at(path)?.is_none() {
        bail!("{}: mounted by krgd, which lives in another mount namespace", path.display());
    }
    Ok(())
}

/// `mount.krgproc`.
pub fn mount(args: &[OsString]) -> Result<u8> {
    let call = parse(args)?;
    let path = checked(&call, "krgproc", &[])?;
    if !call.fake {
        daemon::mount_proc(path.to_string_lossy().into_owned())?;
        is_seen(&path)?;
    }
    Ok(0)
}

/// `mount.mfs`. krgd mounts `/mfs` itself when it starts: a line of fstab(5) for what is there
/// already is no error.
pub fn mount_mfs(args: &[OsString]) -> Result<u8> {
    let call = parse(args)?;
    let path = checked(&call, "mfs", &MFS_KNOWN)?;
    let is_there = top_at(&path)?.is_some_and(|m| m.fs_type == mfs::ROOT_TYPE);
    if !call.fake && !is_there {
        // The last of the two that is said, as with any mount.
        let said = call.options.iter().rev().find(|o| *o == "soft" || *o == mfs::HARD);
        let hard = said.is_some_and(|o| o == mfs::HARD);
        daemon::mount_mfs(path.to_string_lossy().into_owned(), hard)?;
        is_seen(&path)?;
    }
    Ok(0)
}

/// `umount.fuse.krgmfs`: the trees of the nodes, which somebody's first use has mounted in the
/// directory, go with it.
pub fn umount_mfs(args: &[OsString]) -> Result<u8> {
    let call = parse(args)?;
    let [dir] = call.names.as_slice() else { bail!("usage: umount DIR") };
    let dir = Path::new(dir);
    let failed = |at: &Path| format!("{}: cannot unmount", at.display());
    if call.lazy {
        umount_detach(dir).with_context(|| failed(dir))?;
        return Ok(0);
    }
    let below = mountinfo("self")?.into_iter().rev();
    let trees = below.filter(|m| m.fs_type == mfs::NODE_TYPE);
    for tree in trees.filter(|m| m.mount_point.parent() == Some(dir)) {
        umount(&tree.mount_point).with_context(|| failed(&tree.mount_point))?;
    }
    umount(dir).with_context(|| failed(dir))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn reads_what_mount_hands_over() {
        let call = parse(&words("none /mnt -n -v -o rw,nosuid -t krgproc")).unwrap();
        assert_eq!(call.names, words("none /mnt"));
        assert_eq!(call.options, ["rw", "nosuid"]);
        assert!(!call.fake);
        assert!(parse(&words("none /mnt -fn")).unwrap().fake);
        assert!(parse(&words("none /mnt -o")).is_err());
        assert!(parse(&words("/mnt -l")).unwrap().lazy);
    }

    #[test]
    fn each_type_has_its_options() {
        for option in ["dfsa=1", "dfsa=0", "soft", "hard"] {
            assert!(is_known(option, &MFS_KNOWN) && !is_known(option, &[]), "{option}");
        }
        for option in ["rw", "defaults", "x-systemd.requires=krgd.service", ""] {
            assert!(is_known(option, &MFS_KNOWN) && is_known(option, &[]), "{option}");
        }
        for option in ["harder", "dfsa=2", "bogus"] {
            assert!(!is_known(option, &MFS_KNOWN), "{option}");
        }
        let call = parse(&words("none /no/such/dir -o harder")).unwrap();
        let said = checked(&call, "mfs", &MFS_KNOWN).unwrap_err();
        assert!(said.to_string().contains("`harder`"));
    }
}
