//! The configuration that all nodes share: texts under keys.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use krg_types::limits::{CONFIG_KEY_BYTES_MAX, CONFIG_KEYS_MAX, CONFIG_VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What is asked of the configuration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Sets a key, or deletes it.
    Set {
        /// Which.
        key: String,
        /// The text; absent: delete.
        value: Option<String>,
        /// Only if the key is at this revision; 0: only if it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_revision: Option<u64>,
    },
}

/// A value of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl Stored for Text {
    const VERSION: u8 = 1;
}

/// Is this a key? Printable, without spaces, of bounded length.
///
/// # Errors
/// What is wrong with it, for a user.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > CONFIG_KEY_BYTES_MAX {
        return Err(format!("a key has 1 to {CONFIG_KEY_BYTES_MAX} bytes, not {}", key.len()));
    }
    match key.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(c) => Err(format!("a key has no spaces and no control characters, not {c:?}")),
        None => Ok(()),
    }
}

fn check(key: &str, value: Option<&str>) -> Result<(), String> {
    check_key(key)?;
    match value.map(str::len).filter(|len| *len > CONFIG_VALUE_BYTES_MAX) {
        Some(len) => {
            Err(format!("a value has at most {CONFIG_VALUE_BYTES_MAX} bytes, not {len}"))
        }
        None => Ok(()),
    }
}

/// Applies one command.
pub fn apply(rows: &mut Rows<Text>, at: At, command: &Command) -> Reply {
    let Command::Set { key, value, if_revision } = command;
    if let Err(words) = check(key, value.as_deref()) {
        return Reply::Refused(words);
    }
    let now = rows.row(key).map_or(0, |row| row.revision);
    if if_revision.is_some_and(|wanted| wanted != now) {
        return Reply::NotNow(now);
    }
    match value {
        Some(_) if now == 0 && rows.len() >= CONFIG_KEYS_MAX => {
            return Reply::Refused(format!("there are {CONFIG_KEYS_MAX} keys already"));
        }
        Some(value) => rows.put(at, key, Text(value.clone())),
        None => {
            rows.delete(key);
        }
    }
    Reply::Done(at.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: Option<&str>, if_revision: Option<u64>) -> Command {
        Command::Set { key: key.into(), value: value.map(str::to_owned), if_revision }
    }

    #[test]
    fn a_condition_holds_or_says_what_is_there() {
        let mut rows = Rows::new("config");
        let at = |revision| At { revision, now_ms: 0 };
        assert_eq!(apply(&mut rows, at(1), &set("a", Some("x"), Some(0))), Reply::Done(1));
        assert_eq!(apply(&mut rows, at(2), &set("a", Some("y"), Some(0))), Reply::NotNow(1));
        assert_eq!(apply(&mut rows, at(3), &set("a", Some("y"), Some(1))), Reply::Done(3));
        assert_eq!(rows.get("a"), Some(&Text("y".into())));
        assert_eq!(apply(&mut rows, at(4), &set("a", None, None)), Reply::Done(4));
        assert_eq!(rows.get("a"), None);
    }

    #[test]
    fn what_is_too_long_or_no_key_is_refused() {
        let mut rows = Rows::new("config");
        let at = At { revision: 1, now_ms: 0 };
        let long = "v".repeat(CONFIG_VALUE_BYTES_MAX + 1);
        for (key, value) in
            [("", "v"), ("a b", "v"), ("a\n", "v"), (&*"k".repeat(257), "v"), ("k", &*long)]
        {
            let reply = apply(&mut rows, at, &set(key, Some(value), None));
            assert!(matches!(reply, Reply::Refused(_)), "{key}");
        }
        assert!(rows.is_empty());
    }
}
