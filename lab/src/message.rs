//! What the processes of a lab say to each other: one JSON text a line.

use crate::rate::Rate;
use serde::{Deserialize, Serialize};

/// Longest line taken from anyone.
pub const LINE_BYTES_MAX: usize = 4096;

/// From a node's boot process and its init to the keeper, over one pipe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// The namespaces are there: the link can be put in.
    Unshared,
    /// The node's pid 1, as the host numbers it.
    Init(u32),
    /// The node has no disk of its own, for this reason: its state is in a directory.
    NoDisk(String),
    /// krgd is ready.
    Ready,
    /// krgd ended, with these words; init starts it again.
    Ended(String),
    /// krgd ended in good order; it stays down until it is asked for.
    Stopped,
    /// The node cannot start.
    Failed(String),
}

/// From a command to the keeper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Take the node's link down.
    Cut(u32),
    /// Link up, start what is dead; answered when krgd (or, without `wait`, init) is there.
    Heal {
        /// The node.
        node: u32,
        /// Wait for krgd too.
        wait: bool,
    },
    /// Let the node's link carry no more than this, either way.
    Slow {
        /// The node.
        node: u32,
        /// `None`: as much as it can.
        rate: Option<Rate>,
    },
    /// Start so many further nodes; answered with their numbers.
    Add(u32),
    /// Answered when this node is there (with `krgd`, that is ready and in the cluster).
    Await {
        /// The node.
        node: u32,
        /// Wait for krgd too.
        krgd: bool,
    },
    /// A dead node is none of the lab's any more.
    Forget(u32),
}

/// From the keeper to a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done.
    Done,
    /// These nodes are being started.
    Added(Vec<u32>),
    /// It was not done, for this reason.
    Error(String),
}

/// The line of a message.
pub fn line<T: Serialize>(message: &T) -> String {
    // Plain enums of texts and numbers: they always have a JSON form.
    let mut text = serde_json::to_string(message).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let report = Report::Failed("two\nlines".into());
        let text = line(&report);
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(line(&Report::Unshared), "\"unshared\"\n");
    }
}
