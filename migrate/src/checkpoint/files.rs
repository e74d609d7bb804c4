//! Files that a job writes: what is in them is in no image. They go along if that is asked for, and
//! are put back as they were.

use super::manifest::SavedFile;
use super::shelf::{Draft, Version};
use super::writer::digest;
use crate::members;
use crate::root::ROOT;
use krg_sys::cred::{ActingAs, Caller};
use krg_types::limits::SAVED_FILES_MAX;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn named(path: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{path}: {e}"))
}

/// In the tree of the job's home, where that is here.
fn here(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

/// Those that the processes of a job, which stand still, have open for writing or write to as
/// memory: their paths at home. What has no path any more is in the images.
fn written_to(init: u32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in members::all(init) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}"));
            if info.is_ok_and(|info| is_for_writing(&info))
                && let (Ok(meta), Ok(path)) =
                    (fs::metadata(entry.path()), fs::read_link(entry.path()))
                && meta.is_file()
                && let Some(path) = at_home(&path, (meta.dev(), meta.ino()))
            {
                found.insert(path);
            }
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        found.extend(maps.lines().filter_map(shared_path).filter_map(|path| {
            let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
            at_home(Path::new(path), (meta.dev(), meta.ino()))
        }));
    }
    found
}

fn is_for_writing(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Of a line of proc_pid_maps(5): the file, if what is written to this memory gets there.
fn shared_path(line: &str) -> Option<&str> {
    let mode = line.split_whitespace().nth(1)?;
    let path = line.find('/').map(|at| &line[at..])?;
    (mode.contains('w') && mode.ends_with('s')).then_some(path)
}

/// Its path at home, if that leads there.
fn at_home(path: &Path, id: (u64, u64)) -> Option<String> {
    let inside = path.strip_prefix(ROOT).ok()?;
    let meta = fs::symlink_metadata(path).ok()?;
    let text = inside.to_str()?;
    ((meta.dev(), meta.ino()) == id).then(|| format!("/{text}"))
}

/// Copies them while the job stands still; where the file system can, the copy shares its blocks
/// with the file. Their sums come later.
///
/// # Errors
/// When one cannot be read by its owner, or not be written.
pub fn copy(init: u32, owner: &Caller, draft: &Draft) -> io::Result<Vec<SavedFile>> {
    let mut saved = Vec::new();
    for path in written_to(init) {
        if saved.len() >= SAVED_FILES_MAX {
            return Err(io::Error::other("it has too many files open to save them"));
        }
        let name = format!("file-{}", saved.len() + 1);
        let mut copy = draft.file(&name)?;
        let mut file = {
            let _as = ActingAs::enter(owner)?;
            let mut open = OpenOptions::new();
            open.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
            open.open(here(&path)).map_err(|e| named(&path, &e))?
        };
        let meta = file.metadata()?;
        io::copy(&mut file, &mut copy).map_err(|e| named(&path, &e))?;
        let (sha256, bytes, mode) = (String::new(), meta.len(), meta.mode() & 0o7777);
        saved.push(SavedFile { path, saved: name, bytes, sha256, mode });
    }
    Ok(saved)
}

/// The sums of the copies.
///
/// # Errors
/// The kernel's.
pub fn sum(files: &mut [SavedFile], draft: &Draft) -> io::Result<()> {
    for file in files {
        (file.sha256, file.bytes) = digest(&draft.read(&file.saved)?)?;
    }
    Ok(())
}

/// The first that is not as long as it was: CRIU would not open it.
pub fn changed(version: &Version) -> Option<String> {
    version.manifest.files.iter().find_map(|file| {
        let length = fs::metadata(here(&file.path)).map(|meta| meta.len());
        match length {
            Ok(length) if length == file.bytes => None,
            Ok(length) => Some(format!(
                "{} has {length} bytes and had {} then: `--files` puts the saved one back",
                file.path, file.bytes
            )),
            Err(e) => Some(format!("{}: {e}: `--files` puts the saved one back", file.path)),
        }
    })
}

/// Puts them back, as their owner. Each takes the place of what is there when it is whole.
///
/// # Errors
/// When one cannot be written: those before it are there then.
pub fn put_back(version: &Version, owner: &Caller, trace: &str) -> io::Result<()> {
    for file in &version.manifest.files {
        let mut saved = version.file(&file.saved)?;
        let _as = ActingAs::enter(owner)?;
        let to = here(&file.path);
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let new = to.with_file_name(format!(".{name}.{trace}"));
        let written = (|| {
            let mut copy = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            io::copy(&mut saved, &mut copy)?;
            copy.set_permissions(Permissions::from_mode(file.mode))?;
            copy.sync_data()?;
            fs::rename(&new, &to)
        })();
        if let Err(e) = written {
            if e.kind() != ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&new);
            }
            return Err(named(&file.path, &e));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_is_found_by_its_flags() {
        assert!(is_for_writing("pos:\t0\nflags:\t0100002\nmnt_id:\t1\n"));
        assert!(is_for_writing("pos:\t0\nflags:\t02001\n"));
        assert!(!is_for_writing("pos:\t0\nflags:\t0100000\n"));
        assert!(!is_for_writing("flags:\t010000002\n"), "only a place");
        let line = "7f00-7f10 rw-s 00000000 fe:00 99   /run/krg/root/var/tmp/a b";
        assert_eq!(shared_path(line), Some("/run/krg/root/var/tmp/a b"));
        assert_eq!(shared_path("7f00-7f10 rw-p 00000000 fe:00 99   /x"), None);
        assert_eq!(shared_path("7f00-7f10 r--s 00000000 fe:00 99   /x"), None);
        assert_eq!(shared_path("7f00-7f10 rw-p 00000000 00:00 0"), None);
    }
}
