//! The name of a lab, and where its files are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Directory of all labs.
pub const LABS: &str = "/run/krg-lab";
/// Longest name: it is part of the path of a unix socket, which takes 107 bytes.
const NAME_BYTES_MAX: usize = 32;

/// A lab's name: letters, digits, `-`, `_` and `.`, none of the last three first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LabName(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The lab's directory: a tmpfs is mounted there.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(LABS).join(&self.0)
    }

    /// The files of one node.
    pub fn node_dir(&self, node: u32) -> PathBuf {
        self.dir().join("nodes").join(node.to_string())
    }

    /// The disk that every node gets a copy of.
    pub fn disk_base(&self) -> PathBuf {
        self.dir().join("disk.base")
    }

    /// A node's disk.
    pub fn disk(&self, node: u32) -> PathBuf {
        self.node_dir(node).join("disk.img")
    }

    /// What the keeper says.
    pub fn keeper_log(&self) -> PathBuf {
        self.dir().join("keeper.log")
    }

    /// Where the keeper takes requests.
    pub fn keeper_socket(&self) -> PathBuf {
        self.dir().join("keeper.sock")
    }

    /// krgd's log of a node, as the host sees it.
    pub fn krgd_log(&self, node: u32) -> PathBuf {
        self.node_dir(node).join("upper/var/log/krgd.log")
    }

    /// How a command line names this lab: nothing for the default one.
    pub fn option(&self) -> String {
        if self.0 == "lab" { String::new() } else { format!(" --name {}", self.0) }
    }
}

impl FromStr for LabName {
    type Err = String;
    fn from_str(s: &str) -> Result<LabName, String> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let first = s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && s.len() <= NAME_BYTES_MAX && s.bytes().all(inner) {
            return Ok(LabName(s.to_owned()));
        }
        Err(format!(
            "a lab's name is 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`, \
             a letter or digit first"
        ))
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        for bad in ["", ".", "..", "a/b", "-x", "a b", "a,b", "é", &"x".repeat(33)] {
            assert!(bad.parse::<LabName>().is_err(), "{bad}");
        }
        assert_eq!(
            "a-1_b.c".parse::<LabName>().unwrap().dir(),
            PathBuf::from("/run/krg-lab/a-1_b.c")
        );
    }
}
