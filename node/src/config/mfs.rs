//! `[mfs]`: where the file trees of the nodes are shown here, and which of this node's files the
//! others have.

use krg_types::mfs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Who is root elsewhere is this user and group, if nobody says otherwise.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// What can also be set while krgd runs.
pub const SETTINGS: [&str; 6] = ["export", "read_only", "root_squash", "deny", "nested", "off"];

/// The file trees of the nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mfs {
    /// Where the directory with an entry for each node is mounted; empty: nowhere.
    pub mount: PathBuf,
    /// The directory that others see as this node's root.
    pub export: PathBuf,
    /// Nothing can be changed through the trees of this node.
    pub read_only: bool,
    /// Whether who is root elsewhere is somebody else here, and who.
    pub root_squash: Squash,
    /// Directories that are shown empty and to nobody.
    pub deny: Vec<PathBuf>,
    /// What is mounted below the directory is seen too.
    pub nested: bool,
    /// Others have nothing.
    pub off: bool,
}

impl Default for Mfs {
    fn default() -> Mfs {
        Mfs {
            mount: mfs::USUAL.into(),
            export: "/".into(),
            read_only: false,
            root_squash: Squash::default(),
            deny: Vec::new(),
            nested: true,
            off: false,
        }
    }
}

impl Mfs {
    /// Takes one setting as text.
    ///
    /// # Errors
    /// What is accepted.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "export" => self.export = absolute(text)?,
            "read_only" => self.read_only = flag(text)?,
            "root_squash" => self.root_squash = text.parse()?,
            "deny" => self.deny = paths(text)?,
            "nested" => self.nested = flag(text)?,
            "off" => self.off = flag(text)?,
            _ => return Err(format!("one of {}", SETTINGS.join(", "))),
        }
        Ok(())
    }

    /// Are the paths such that they mean one place each?
    ///
    /// # Errors
    /// Which is not, and why.
    pub fn check(&self) -> Result<(), String> {
        let path = |name: &str, path: &Path| {
            let plain = path.to_str().ok_or_else(|| "not text (UTF-8)".to_owned());
            plain
                .and_then(absolute)
                .map(drop)
                .map_err(|e| format!("{name} = {path:?}: it takes {e}"))
        };
        path("export", &self.export)?;
        self.deny.iter().try_for_each(|dir| path("deny", dir))
    }
}

/// As whom who is root elsewhere acts here; `None` as root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Squash(pub Option<(u32, u32)>);

/// As it is in the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "true, false or \"UID:GID\"")]
enum Written {
    Flag(bool),
    Ids(String),
}

impl TryFrom<Written> for Squash {
    type Error = String;

    fn try_from(written: Written) -> Result<Squash, String> {
        match written {
            Written::Flag(flag) => Ok(Squash(flag.then_some(NOBODY))),
            Written::Ids(text) => text.parse(),
        }
    }
}

impl From<Squash> for Written {
    fn from(squash: Squash) -> Written {
        match squash.0 {
            None => Written::Flag(false),
            Some(NOBODY) => Written::Flag(true),
            Some(_) => Written::Ids(squash.to_string()),
        }
    }
}

impl FromStr for Squash {
    type Err = String;

    fn from_str(text: &str) -> Result<Squash, String> {
        if let Ok(flag) = flag(text) {
            return Ok(Squash(flag.then_some(NOBODY)));
        }
        let number = |n: &str| {
            let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
            // The last number means nobody at all to the kernel.
            digits.then(|| n.parse().ok()).flatten().filter(|n: &u32| *n != u32::MAX)
        };
        let ids = text.split_once(':').and_then(|(u, g)| Some((number(u)?, number(g)?)));
        match ids.filter(|(uid, gid)| *uid != 0 && *gid != 0) {
            Some(ids) => Ok(Squash(Some(ids))),
            None => Err("true, false or UID:GID in digits, not root's".into()),
        }
    }
}

impl fmt::Display for Squash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("false"),
            Some((uid, gid)) => write!(f, "{uid}:{gid}"),
        }
    }
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false".into())
}

/// A path from the root that means one place whatever is linked where, without needless parts.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let up = path.components().any(|part| part == Component::ParentDir);
    match path.is_absolute() && !up && !text.contains('\0') {
        true => Ok(path.components().collect()),
        false => Err("an absolute path without `..`".into()),
    }
}

/// Paths between colons; none for an empty text.
fn paths(text: &str) -> Result<Vec<PathBuf>, String> {
    let all = text.split(':').filter(|_| !text.is_empty());
    let all: Result<_, String> = all.map(absolute).collect();
    all.map_err(|_| "absolute paths without `..`, `:` between them".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_strictly() {
        let mut mfs = Mfs::default();
        for (name, text) in [
            ("export", "/srv//a/."),
            ("read_only", "true"),
            ("root_squash", "7:8"),
            ("deny", "/a:/b/"),
            ("nested", "false"),
            ("off", "true"),
        ] {
            mfs.set(name, text).unwrap();
        }
        assert_eq!(mfs.export, Path::new("/srv/a"));
        assert_eq!(mfs.deny, [Path::new("/a"), Path::new("/b")]);
        assert_eq!((mfs.read_only, mfs.nested, mfs.off), (true, false, true));
        assert_eq!(mfs.root_squash, Squash(Some((7, 8))));
        mfs.set("deny", "").unwrap();
        assert!(mfs.deny.is_empty());
        let before = mfs.clone();
        for (name, text, words) in [
            ("export", "srv", "absolute"),
            ("export", "", "absolute"),
            ("export", "/srv/../etc", "absolute"),
            ("read_only", "yes", "true or false"),
            ("read_only", "True", "true or false"),
            ("off", " true", "true or false"),
            ("nested", "1", "true or false"),
            ("deny", "/a::/b", "between"),
            ("deny", "/a:b", "between"),
            ("root_squash", "0:0", "not root's"),
            ("root_squash", "1:0", "not root's"),
            ("root_squash", "1", "UID:GID"),
            ("root_squash", "1:+2", "UID:GID"),
            ("root_squash", "1:4294967295", "UID:GID"),
            ("mount", "/x", "export, read_only, root_squash"),
            ("", "/x", "one of"),
        ] {
            let refused = mfs.set(name, text).unwrap_err();
            assert!(refused.contains(words), "{name} = {text:?}: {refused}");
        }
        assert_eq!(mfs, before);
    }

    #[test]
    fn is_written_as_it_is_read() {
        for (text, squash) in [
            ("false", None),
            ("true", Some(NOBODY)),
            ("\"5:6\"", Some((5, 6))),
            ("\"true\"", Some(NOBODY)),
        ] {
            let mfs: Mfs = toml::from_str(&format!("root_squash = {text}")).unwrap();
            assert_eq!(mfs.root_squash, Squash(squash), "{text}");
            let again: Mfs = toml::from_str(&toml::to_string(&mfs).unwrap()).unwrap();
            assert_eq!(again, mfs);
        }
        for (text, words) in [
            ("root_squash = 1", "UID:GID"),
            ("root_squash = \"x\"", "UID:GID"),
            ("root_squash = \"0:1\"", "not root's"),
            ("deny = \"/a\"", "sequence"),
            ("exprot = \"/\"", "export"),
        ] {
            let refused = toml::from_str::<Mfs>(text).unwrap_err().to_string();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }
}
