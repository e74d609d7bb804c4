//! The cluster as a whole: one row.

use super::{At, Rows};
use crate::codec::Stored;
use serde::{Deserialize, Serialize};

/// The key of the one row.
const KEY: &str = "cluster";

/// What there is once.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The cluster's name.
    pub name: String,
    /// Kerrighed's number of a cluster on its wire.
    pub session: u32,
    /// The cluster starts when so many nodes are there.
    pub nodes_min: u32,
    /// So many nodes have been there: who joins from now on takes part at once.
    pub started: bool,
    /// The serial number of the latest join.
    pub newest_serial: u64,
    /// The version of the state that every member knows.
    pub state_version: u32,
    /// Keys of the gossip, the one in use first.
    pub gossip: Vec<GossipKey>,
}

impl Stored for Info {
    const VERSION: u8 = 1;
}

/// A key that packets of the gossip are encrypted with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey {
    /// Its number, from 1.
    pub id: u32,
    /// 32 bytes, as hexadecimal text.
    pub key: String,
}

impl std::fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key itself has no place in a log.
        f.debug_struct("GossipKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The row, or the defaults while there is none.
pub fn get(rows: &Rows<Info>) -> Info {
    rows.get(KEY).cloned().unwrap_or_default()
}

/// Changes the row.
pub fn change(rows: &mut Rows<Info>, at: At, edit: impl FnOnce(&mut Info)) {
    let mut info = get(rows);
    edit(&mut info);
    rows.put(at, KEY, info);
}
