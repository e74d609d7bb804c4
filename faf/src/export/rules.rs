//! What a node lets others have.

use std::path::{Path, PathBuf};

/// The rules of one export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The directory that others see as the root.
    pub root: PathBuf,
    /// Directories that are shown empty and to nobody.
    pub deny: Vec<PathBuf>,
    /// What is mounted below is seen too.
    pub nested: bool,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Who is root elsewhere is this user and group here.
    pub root_squash: Option<(u32, u32)>,
    /// Nothing is served (EACCES), but that what is open can be let go of.
    pub off: bool,
}

impl Rules {
    /// What decides which files are seen. A handle is good under the one that it was made under:
    /// it may lead to a file that another does not show.
    pub fn view(&self) -> String {
        let mut deny: Vec<_> = self.deny.iter().collect();
        deny.sort();
        deny.dedup();
        format!("{:?} {deny:?} {}", self.root, self.nested)
    }

    /// Does what is mounted there matter to who looks at the export?
    pub fn concerns(&self, mount_point: &Path) -> bool {
        let below = self.nested && mount_point.starts_with(&self.root);
        below || self.root.starts_with(mount_point)
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            root: "/".into(),
            deny: Vec::new(),
            nested: true,
            read_only: false,
            root_squash: None,
            off: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_what_is_seen_and_not_what_may_be_done() {
        let rules = |root: &str, deny: &[&str]| Rules {
            root: root.into(),
            deny: deny.iter().map(PathBuf::from).collect(),
            ..Rules::default()
        };
        let one = rules("/srv", &["/a", "/b"]);
        assert_eq!(one.view(), rules("/srv", &["/b", "/a", "/b"]).view());
        assert_eq!(one.view(), Rules { read_only: true, off: true, ..one.clone() }.view());
        for other in
            [rules("/", &["/a", "/b"]), rules("/srv", &["/a"]), rules("/srv", &["/a, b"])]
        {
            assert_ne!(one.view(), other.view());
        }
        assert_ne!(one.view(), Rules { nested: false, ..one.clone() }.view());
    }

    #[test]
    fn only_mounts_above_and_below_matter() {
        let srv = Rules { root: "/srv/a".into(), ..Rules::default() };
        for (at, matters) in [("/", true), ("/srv", true), ("/srv/a", true), ("/srv/a/b", true)] {
            assert_eq!(srv.concerns(Path::new(at)), matters, "{at}");
        }
        assert!(!srv.concerns(Path::new("/srv/ab")) && !srv.concerns(Path::new("/home")));
        let flat = Rules { nested: false, ..srv };
        assert!(flat.concerns(Path::new("/srv")) && !flat.concerns(Path::new("/srv/a/b")));
    }
}
