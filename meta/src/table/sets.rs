//! Named sets of nodes, in Kerrighed's LIST grammar.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use krg_types::NodeSet;
use krg_types::limits::{NAME_BYTES_MAX, SETS_MAX};
use serde::{Deserialize, Serialize};

/// What is asked of the sets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Gives a set a name, or takes it away.
    Set {
        /// Its name.
        name: String,
        /// The nodes, as a LIST; absent: delete.
        nodes: Option<String>,
    },
}

/// A LIST that has been read once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(pub String);

impl Stored for List {
    const VERSION: u8 = 1;
}

/// Applies one command.
pub fn apply(rows: &mut Rows<List>, at: At, command: &Command) -> Reply {
    let Command::Set { name, nodes } = command;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Reply::Refused(format!("{name:?} is no name of a set"));
    }
    match nodes.as_ref().map(|list| list.parse::<NodeSet>()) {
        Some(Err(e)) => return Reply::Refused(e.to_string()),
        Some(Ok(_)) if rows.get(name).is_none() && rows.len() >= SETS_MAX => {
            return Reply::Refused(format!("there are {SETS_MAX} sets already"));
        }
        Some(Ok(set)) => rows.put(at, name, List(set.to_string())),
        None => {
            rows.delete(name);
        }
    }
    Reply::Done(at.revision)
}
