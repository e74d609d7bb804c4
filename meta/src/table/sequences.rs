//! Numbers that are given out once: each name counts from 1.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use krg_types::limits::{NAME_BYTES_MAX, SEQUENCES_MAX};
use serde::{Deserialize, Serialize};

/// What is asked of the sequences.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Takes `count` numbers in a row; the reply is the first.
    Take {
        /// Of which sequence.
        name: String,
        /// How many.
        count: u64,
    },
}

/// The number that is given out next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Next(pub u64);

impl Stored for Next {
    const VERSION: u8 = 1;
}

/// Applies one command.
pub fn apply(rows: &mut Rows<Next>, at: At, command: &Command) -> Reply {
    let Command::Take { name, count } = command;
    let first = rows.get(name).map_or(1, |next| next.0);
    let new = rows.get(name).is_none();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || (new && rows.len() >= SEQUENCES_MAX) {
        return Reply::Refused(format!("{name:?} cannot be a sequence here"));
    }
    match first.checked_add(*count) {
        Some(next) if *count > 0 => rows.put(at, name, Next(next)),
        _ => return Reply::Refused(format!("{count} numbers are not there to be given out")),
    }
    Reply::Number(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_out_twice() {
        let mut rows = Rows::new("sequences");
        let at = At { revision: 1, now_ms: 0 };
        let take = |count| Command::Take { name: "job".into(), count };
        assert_eq!(apply(&mut rows, at, &take(2)), Reply::Number(1));
        assert_eq!(apply(&mut rows, at, &take(1)), Reply::Number(3));
        assert!(matches!(apply(&mut rows, at, &take(0)), Reply::Refused(_)));
        assert!(matches!(apply(&mut rows, at, &take(u64::MAX)), Reply::Refused(_)));
        assert_eq!(apply(&mut rows, at, &take(1)), Reply::Number(4));
    }
}
