//! The directory of an application, with one for each version. It is its owner's, so that nobody
//! else looks into it; what is in a version is the superuser's, so that its owner can read it but
//! not have anything else brought to life: what somebody else could have written is not believed.

use super::manifest::{self, Manifest, is_file_name};
use krg_types::limits::MANIFEST_BYTES_MAX;
use nix::fcntl::OFlag;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where versions are if nothing else is said.
pub const USUAL: &str = "/var/chkpt";
/// A version that is not whole yet, and one that is being removed.
const DRAFT: &str = ".new-";
const OLD: &str = ".old-";
/// More versions of one application than any has.
const VERSIONS_MAX: usize = 1 << 20;

/// It.
pub struct Shelf {
    dir: File,
    /// As people call it.
    path: PathBuf,
}

/// A version that is there.
pub struct Version {
    dir: File,
    /// As people call it.
    pub path: PathBuf,
    /// Its number.
    pub number: u32,
    /// What it is.
    pub manifest: Manifest,
}

/// One that is being written. What is left of it when it is dropped is removed.
pub struct Draft {
    shelf: Shelf,
    dir: File,
    name: String,
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("{}: {why}", path.display()))
}

/// What is in an open directory, whatever its path is by now.
fn within(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// This process's own user, who keeps versions: the superuser, but in tests.
fn keeper() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Can nobody but the keeper have written it?
fn is_kept(meta: &fs::Metadata) -> bool {
    meta.uid() == keeper() && meta.mode() & 0o022 == 0
}

impl Shelf {
    /// That of an application in a tree, made if there is none.
    ///
    /// # Errors
    /// When there is one of another user, or none can be made.
    pub fn make(root: &Path, dir: &str, app: u32, uid: u32, gid: u32) -> io::Result<Shelf> {
        let above = root.join(dir.trim_start_matches('/'));
        if let Err(e) = DirBuilder::new().recursive(true).mode(0o755).create(&above) {
            return Err(named(Path::new(dir), &e));
        }
        let above = open_dir(&above).map_err(|e| named(Path::new(dir), &e))?;
        let meta = above.metadata()?;
        // In a directory that others may write in, somebody could put another in the place.
        if !is_kept(&meta) {
            let why = "must be the superuser's, and nobody else's to write in";
            return Err(refused(Path::new(dir), why));
        }
        let (path, at) = (Path::new(dir).join(app.to_string()), within(&above, &app.to_string()));
        match DirBuilder::new().mode(0o700).create(&at) {
            Ok(()) => {
                let made = open_dir(&at)?;
                nix::unistd::fchown(&made, Some(uid.into()), Some(gid.into()))?;
                above.sync_all()?;
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(named(&path, &e)),
        }
        let dir = open_dir(&at).map_err(|e| named(&path, &e))?;
        let owner = dir.metadata()?.uid();
        if owner != uid {
            return Err(refused(&path, &format!("there are versions of user {owner} there")));
        }
        Ok(Shelf { dir, path })
    }

    /// That of an application.
    ///
    /// # Errors
    /// NotFound when there is none.
    pub fn open(root: &Path, dir: &str, app: u32) -> io::Result<Shelf> {
        let path = Path::new(dir).join(app.to_string());
        let at = root.join(path.strip_prefix("/").unwrap_or(&path));
        let dir = open_dir(&at).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let why = format!("nothing is saved of {app} in {}", path.display());
                io::Error::new(ErrorKind::NotFound, why)
            }
            _ => named(&path, &e),
        })?;
        Ok(Shelf { dir, path })
    }

    /// Those there are in a directory.
    pub fn all(root: &Path, dir: &str) -> Vec<u32> {
        let above = root.join(dir.trim_start_matches('/'));
        let names = fs::read_dir(above).into_iter().flatten().flatten();
        let mut all: Vec<u32> =
            names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        all.sort_unstable();
        all
    }

    /// Whose it is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(self.dir.metadata()?.uid())
    }

    /// The numbers of its versions, oldest first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn versions(&self) -> io::Result<Vec<u32>> {
        let names = fs::read_dir(within(&self.dir, ""))?.take(VERSIONS_MAX);
        let number = |entry: io::Result<fs::DirEntry>| {
            entry.ok()?.file_name().to_str()?.strip_prefix('v')?.parse::<u32>().ok()
        };
        let mut all: Vec<u32> = names.filter_map(number).filter(|n| *n > 0).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// A new version, empty yet. What others have left half done is removed: one at a time writes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn draft(self, trace: &str) -> io::Result<Draft> {
        for entry in fs::read_dir(within(&self.dir, ""))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(DRAFT) || name.starts_with(OLD) {
                let _ = fs::remove_dir_all(within(&self.dir, &name));
            }
        }
        let name = format!("{DRAFT}{trace}");
        let at = within(&self.dir, &name);
        DirBuilder::new().mode(0o755).create(&at).map_err(|e| named(&self.path, &e))?;
        let dir = open_dir(&at)?;
        // Its owner could have put another in its place.
        if !is_kept(&dir.metadata()?) {
            return Err(refused(&self.path, "somebody else writes there"));
        }
        Ok(Draft { shelf: self, dir, name })
    }

    /// A version that is there, by its number.
    ///
    /// # Errors
    /// When there is none, or it is not to be believed: in words for a user.
    pub fn version(&self, number: u32) -> io::Result<Version> {
        let (name, path) = (format!("v{number}"), self.path.join(format!("v{number}")));
        let dir = open_dir(&within(&self.dir, &name)).map_err(|e| named(&path, &e))?;
        if !is_kept(&dir.metadata()?) {
            return Err(refused(&path, "it was not written by krg"));
        }
        let at = path.join(manifest::NAME);
        let mut text = Vec::new();
        let file = kept_file(&dir, manifest::NAME, &at)?;
        file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        let manifest = Manifest::read(&text);
        let manifest = manifest.map_err(|e| {
            io::Error::new(ErrorKind::InvalidData, format!("{}: {e}", at.display()))
        })?;
        Ok(Version { dir, path, number, manifest })
    }

    /// Removes a version.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        let (name, old) = (format!("v{number}"), format!("{OLD}{number}"));
        let path = self.path.join(&name);
        let named = |e: io::Error| named(&path, &e);
        let _ = fs::remove_dir_all(within(&self.dir, &old));
        fs::rename(within(&self.dir, &name), within(&self.dir, &old)).map_err(named)?;
        fs::remove_dir_all(within(&self.dir, &old)).map_err(named)?;
        self.dir.sync_all()?;
        // The last one takes the directory with it, if nothing else is there.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }
}

fn kept_file(dir: &File, name: &str, path: &Path) -> io::Result<File> {
    let mut open = OpenOptions::new();
    open.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = open.open(within(dir, name)).map_err(|e| named(path, &e))?;
    let meta = file.metadata()?;
    if !meta.is_file() || !is_kept(&meta) {
        return Err(refused(path, "it was not written by krg"));
    }
    Ok(file)
}

impl Version {
    /// A file of it, which nobody can have changed but the keeper.
    ///
    /// # Errors
    /// When it is not there, or was put there by somebody else.
    pub fn file(&self, name: &str) -> io::Result<File> {
        if !is_file_name(name) {
            return Err(ErrorKind::InvalidInput.into());
        }
        kept_file(&self.dir, name, &self.path.join(name))
    }
}

impl Draft {
    /// A new file in it, to be read by all who may come here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn file(&self, name: &str) -> io::Result<File> {
        if !is_file_name(name) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut open = OpenOptions::new();
        open.write(true).create_new(true).mode(0o444);
        open.open(within(&self.dir, name))
    }

    /// To write more to a file that was made in it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn more_of(&self, name: &str) -> io::Result<File> {
        if !is_file_name(name) {
            return Err(ErrorKind::InvalidInput.into());
        }
        OpenOptions::new().append(true).open(within(&self.dir, name))
    }

    /// To read a file that was made in it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, name: &str) -> io::Result<File> {
        File::open(within(&self.dir, name))
    }

    /// The number that it will have.
    ///
    /// # Errors
    /// The kernel's.
    pub fn number(&self) -> io::Result<u32> {
        Ok(self.shelf.versions()?.last().copied().unwrap_or(0).saturating_add(1))
    }

    /// It is a version from now on, and on the disk: its number, and where it is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep(self, number: u32) -> io::Result<(u32, PathBuf)> {
        for entry in fs::read_dir(within(&self.dir, ""))? {
            File::open(within(&self.dir, &entry?.file_name().to_string_lossy()))?.sync_all()?;
        }
        self.dir.set_permissions(fs::Permissions::from_mode(0o755))?;
        self.dir.sync_all()?;
        let name = format!("v{number}");
        let to = within(&self.shelf.dir, &name);
        fs::rename(within(&self.shelf.dir, &self.name), to)?;
        self.shelf.dir.sync_all()?;
        Ok((number, self.shelf.path.join(name)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Of one that was kept nothing has this name.
        let _ = fs::remove_dir_all(within(&self.shelf.dir, &self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn shelf(root: &Path) -> io::Result<Shelf> {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        Shelf::make(root, "/var/chkpt", 7, uid, gid)
    }

    fn written(root: &Path) -> (u32, PathBuf) {
        let draft = shelf(root).unwrap().draft("a").unwrap();
        let it = super::super::manifest::tests::manifest();
        draft.file(manifest::NAME).unwrap().write_all(&it.written().unwrap()).unwrap();
        draft.file("pages-1.img").unwrap().write_all(b"x").unwrap();
        let number = draft.number().unwrap();
        draft.keep(number).unwrap()
    }

    #[test]
    fn a_version_is_there_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let draft = shelf(root.path()).unwrap().draft("a").unwrap();
        draft.file("pages-1.img").unwrap();
        assert!(draft.file("../x").is_err() && draft.file("pages-1.img").is_err());
        assert_eq!(shelf(root.path()).unwrap().versions().unwrap(), [0u32; 0]);
        drop(draft);
        let kept = shelf(root.path()).unwrap();
        assert_eq!(fs::read_dir(within(&kept.dir, "")).unwrap().count(), 0);
        assert_eq!(written(root.path()), (1, "/var/chkpt/7/v1".into()));
        assert_eq!(written(root.path()), (2, "/var/chkpt/7/v2".into()));
        assert_eq!(Shelf::all(root.path(), USUAL), [7]);
        let kept = Shelf::open(root.path(), USUAL, 7).unwrap();
        assert_eq!(kept.versions().unwrap(), [1, 2]);
        assert_eq!(kept.version(2).unwrap().manifest.name, "simulate");
        kept.remove(1).unwrap();
        assert_eq!(kept.versions().unwrap(), [2]);
        // Numbers are not used again while a later one is there.
        assert_eq!(written(root.path()).0, 3);
        assert!(kept.version(9).is_err_and(|e| e.to_string().contains("v9")));
        let none = Shelf::open(root.path(), USUAL, 8).err().unwrap();
        assert!(none.to_string().contains("nothing is saved of 8"), "{none}");
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let (_, path) = written(root.path());
        let real = root.path().join(path.strip_prefix("/").unwrap());
        let kept = Shelf::open(root.path(), USUAL, 7).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(kept.version(1).unwrap().file("pages-1.img").is_ok());
        mode(&real.join("pages-1.img"), 0o666);
        assert!(kept.version(1).unwrap().file("pages-1.img").is_err());
        mode(&real, 0o777);
        assert!(kept.version(1).is_err_and(|e| e.to_string().contains("not written by krg")));
        mode(&real, 0o755);
        fs::rename(real.join(manifest::NAME), real.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", real.join(manifest::NAME)).unwrap();
        assert!(kept.version(1).is_err());
        // Nor is a directory that others may write in.
        mode(&root.path().join("var/chkpt"), 0o777);
        assert!(shelf(root.path()).is_err_and(|e| e.to_string().contains("superuser's")));
    }

    #[test]
    fn a_version_that_is_no_version_is_named() {
        let root = tempfile::tempdir().unwrap();
        let draft = shelf(root.path()).unwrap().draft("a").unwrap();
        draft.file(manifest::NAME).unwrap().write_all(b"{}").unwrap();
        draft.keep(1).unwrap();
        let why = shelf(root.path()).unwrap().version(1).err().unwrap().to_string();
        assert!(why.contains("/var/chkpt/7/v1/manifest.json"), "{why}");
    }
}
