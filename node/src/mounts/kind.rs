//! What differs between the kinds of processes that krgd keeps.

use krg_types::NodeId;
use krg_types::{mfs, view};
use std::ffi::OsString;
use std::path::Path;

/// What such a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Serves the view of the processes.
    Proc,
    /// Serves the directory with an entry for each node.
    Mfs,
    /// Serves the file tree of a node, mounted on its entry in such a directory.
    Node(NodeId),
    /// Serves this node's files to the others; nothing is mounted.
    Files,
}

impl Kind {
    /// What to call krgd with.
    pub fn args(self, path: &Path) -> Vec<OsString> {
        let words = |command: &str| vec![OsString::from(command), path.into()];
        match self {
            Kind::Proc => words("mount-proc"),
            Kind::Mfs => words("mount-mfs"),
            Kind::Node(node) => {
                let mut words = words("mount-node");
                words.push(node.to_string().into());
                words
            }
            Kind::Files => vec!["serve-files".into()],
        }
    }

    /// The line that it says when it is ready.
    pub fn ready(self) -> &'static str {
        if self == Kind::Files { "ready" } else { "mounted" }
    }

    /// The type of its mount; `None` if it has none.
    pub fn fs_type(self) -> Option<&'static str> {
        match self {
            Kind::Proc => Some(view::FS_TYPE),
            Kind::Mfs => Some(mfs::ROOT_TYPE),
            Kind::Node(_) => Some(mfs::NODE_TYPE),
            Kind::Files => None,
        }
    }

    /// May it cover a mount of this type? A view takes the place of a procfs.
    pub fn may_cover(self, fs_type: &str) -> bool {
        self == Kind::Proc && fs_type == "proc"
    }

    /// Is it mounted in another mount of ours? It then goes with that one, and a walk to it asks
    /// that one's process, which may hang.
    pub fn is_nested(self) -> bool {
        matches!(self, Kind::Node(_))
    }

    /// As it is written down.
    pub fn word(self) -> String {
        match self {
            Kind::Proc => "proc".into(),
            Kind::Mfs => "mfs".into(),
            Kind::Node(node) => format!("node{node}"),
            Kind::Files => "files".into(),
        }
    }

    /// What was written down.
    pub fn parse(word: &str) -> Option<Kind> {
        match word {
            "proc" => Some(Kind::Proc),
            "mfs" => Some(Kind::Mfs),
            "files" => Some(Kind::Files),
            other => other.strip_prefix("node")?.parse().ok().map(Kind::Node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written() {
        let node = Kind::Node(NodeId::new(7).unwrap());
        for kind in [Kind::Proc, Kind::Mfs, Kind::Files, node] {
            assert_eq!(Kind::parse(&kind.word()), Some(kind));
        }
        for bad in ["", "node", "node0", "node256", "x"] {
            assert_eq!(Kind::parse(bad), None, "{bad}");
        }
        assert_eq!(node.args(Path::new("/m/7")), ["mount-node", "/m/7", "7"]);
        assert_eq!(Kind::Files.args(Path::new("x")), ["serve-files"]);
    }

    #[test]
    fn only_a_view_covers_and_only_a_procfs() {
        assert!(Kind::Proc.may_cover("proc") && !Kind::Proc.may_cover("ext4"));
        assert!(!Kind::Mfs.may_cover("proc"));
    }
}
