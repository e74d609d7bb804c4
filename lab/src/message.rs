//! What the processes of a lab say to each other: one JSON text a line.

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
}

/// From the keeper to a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done.
    Done,
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
