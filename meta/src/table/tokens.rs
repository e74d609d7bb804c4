//! Join tokens: each admits one node, for a while.

use super::{At, Rows};
use crate::codec::Stored;
use crate::command::Reply;
use krg_types::MemberId;
use krg_types::limits::{NAME_BYTES_MAX, NOTE_BYTES_MAX, TOKEN_MS_MAX, TOKENS_MAX};
use serde::{Deserialize, Serialize};

/// What is asked of the tokens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Makes one.
    Create {
        /// Its public part.
        id: String,
        /// The hash of its secret, hexadecimal.
        hash: String,
        /// For how long, ms.
        valid_ms: u64,
        /// Words of whoever made it.
        note: String,
    },
    /// Ends one.
    Revoke {
        /// Which.
        id: String,
    },
}

/// A token as the cluster knows it: not its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// The hash of its secret, hexadecimal.
    pub hash: String,
    /// It is good until then, by the cluster's clock, ms.
    pub expires_ms: u64,
    /// Words of whoever made it.
    pub note: String,
    /// Who joined with it.
    pub used_by: Option<MemberId>,
    /// It was taken back.
    pub revoked: bool,
}

impl Stored for Token {
    const VERSION: u8 = 1;
}

impl Token {
    /// open, used, revoked or expired.
    pub fn word(&self, now_ms: u64) -> &'static str {
        match self {
            Token { used_by: Some(_), .. } => "used",
            Token { revoked: true, .. } => "revoked",
            Token { expires_ms, .. } if *expires_ms <= now_ms => "expired",
            _ => "open",
        }
    }
}

/// Applies one command.
pub fn apply(rows: &mut Rows<Token>, at: At, command: &Command) -> Reply {
    match command {
        Command::Create { id, hash, valid_ms, note } => {
            let long = id.len() > NAME_BYTES_MAX || hash.len() > NAME_BYTES_MAX;
            if id.is_empty() || long || note.len() > NOTE_BYTES_MAX {
                return Reply::Refused(format!("a note has at most {NOTE_BYTES_MAX} bytes"));
            }
            if *valid_ms == 0 || *valid_ms > TOKEN_MS_MAX {
                let days = TOKEN_MS_MAX / 86_400_000;
                return Reply::Refused(format!("a token is valid for up to {days} days"));
            }
            make_room(rows, at);
            if rows.len() >= TOKENS_MAX {
                let words = format!("there are {TOKENS_MAX} open tokens: revoke some");
                return Reply::Refused(words);
            }
            if rows.get(id).is_some() {
                return Reply::Refused("there is such a token already".into());
            }
            let token = Token {
                hash: hash.clone(),
                expires_ms: at.now_ms.saturating_add(*valid_ms),
                note: note.clone(),
                used_by: None,
                revoked: false,
            };
            rows.put(at, id, token);
            Reply::Done(at.revision)
        }
        Command::Revoke { id } => match rows.get(id).cloned() {
            None => Reply::Refused(format!("there is no token {id}")),
            Some(Token { used_by: Some(by), .. }) => {
                Reply::Refused(format!("token {id} was used by node {}", by.get() & 0xff))
            }
            Some(token) => {
                rows.put(at, id, Token { revoked: true, ..token });
                Reply::Done(at.revision)
            }
        },
    }
}

/// Past tokens are listed until their room is wanted.
fn make_room(rows: &mut Rows<Token>, at: At) {
    if rows.len() < TOKENS_MAX {
        return;
    }
    let over = |t: &Token| t.word(at.now_ms) != "open";
    let past: Vec<String> =
        rows.iter().filter(|(_, row)| over(&row.value)).map(|(id, _)| id.to_owned()).collect();
    for id in past {
        rows.delete(&id);
    }
}
