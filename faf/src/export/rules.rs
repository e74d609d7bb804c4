//! What a node lets others have.

use std::path::PathBuf;

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
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            root: "/".into(),
            deny: Vec::new(),
            nested: true,
            read_only: false,
            root_squash: None,
        }
    }
}
