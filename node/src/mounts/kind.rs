//! What differs between the kinds of processes that krgd keeps.

use krg_types::NodeId;
use krg_types::mfs::Patience;
use krg_types::{mfs, view};
use std::ffi::OsString;
use std::path::Path;

/// Written behind the kind of a mount whose users wait.
const HARD_MARK: &str = "-hard";

/// What such a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Serves the view of the processes.
    Proc,
    /// Serves the directory with an entry for each node.
    Mfs(Patience),
    /// Serves the file tree of a node, mounted on its entry in such a directory.
    Node(NodeId, Patience),
    /// Serves this node's files to the others; nothing is mounted.
    Files,
}

impl Kind {
    /// What to call krgd with.
    pub fn args(self, path: &Path) -> Vec<OsString> {
        let words = |command: &str| vec![OsString::from(command), path.into()];
        match self {
            Kind::Proc => words("mount-proc"),
            Kind::Mfs(patience) => patient(words("mount-mfs"), patience),
            Kind::Node(node, patience) => {
                let mut words = words("mount-node");
                words.push(node.to_string().into());
                patient(words, patience)
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
            Kind::Mfs(_) => Some(mfs::ROOT_TYPE),
            Kind::Node(..) => Some(mfs::NODE_TYPE),
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
        matches!(self, Kind::Node(..))
    }

    /// As it is written down.
    pub fn word(self) -> String {
        let hard = |patience: Patience| if patience.is_hard() { HARD_MARK } else { "" };
        match self {
            Kind::Proc => "proc".into(),
            Kind::Mfs(patience) => format!("mfs{}", hard(patience)),
            Kind::Node(node, patience) => format!("node{node}{}", hard(patience)),
            Kind::Files => "files".into(),
        }
    }

    /// What was written down.
    pub fn parse(word: &str) -> Option<Kind> {
        let (word, patience) = match word.strip_suffix(HARD_MARK) {
            Some(word) => (word, Patience::Hard),
            None => (word, Patience::Soft),
        };
        match word {
            "mfs" => Some(Kind::Mfs(patience)),
            "proc" if !patience.is_hard() => Some(Kind::Proc),
            "files" if !patience.is_hard() => Some(Kind::Files),
            other => Some(Kind::Node(other.strip_prefix("node")?.parse().ok()?, patience)),
        }
    }
}

fn patient(mut words: Vec<OsString>, patience: Patience) -> Vec<OsString> {
    if patience.is_hard() {
        words.push(format!("--{}", mfs::HARD).into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written() {
        let seven = NodeId::new(7).unwrap();
        let (node, hard) = (Kind::Node(seven, Patience::Soft), Kind::Node(seven, Patience::Hard));
        let roots = [Kind::Mfs(Patience::Soft), Kind::Mfs(Patience::Hard)];
        for kind in [Kind::Proc, Kind::Files, node, hard].into_iter().chain(roots) {
            assert_eq!(Kind::parse(&kind.word()), Some(kind));
        }
        for bad in ["", "node", "node0", "node256", "x", "proc-hard", "-hard"] {
            assert_eq!(Kind::parse(bad), None, "{bad}");
        }
        assert_eq!(node.args(Path::new("/m/7")), ["mount-node", "/m/7", "7"]);
        assert_eq!(hard.args(Path::new("/m/7")), ["mount-node", "/m/7", "7", "--hard"]);
        assert_eq!(Kind::Files.args(Path::new("x")), ["serve-files"]);
    }

    #[test]
    fn only_a_view_covers_and_only_a_procfs() {
        assert!(Kind::Proc.may_cover("proc") && !Kind::Proc.may_cover("ext4"));
        assert!(!Kind::Mfs(Patience::Soft).may_cover("proc"));
    }
}
