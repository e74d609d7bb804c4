//! The tables of the state: rows under text keys, each with the revision that wrote it. A table
//! is declared once, in state.rs; its commands are in a file of its own here.

pub mod admission;
pub mod config;
pub mod info;
pub mod leases;
pub mod nodes;
pub mod sequences;
pub mod sessions;
pub mod sets;
pub mod tokens;
pub mod trust;

use crate::codec::{self, CodecError, Stored};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// When a command is applied: the same on every node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The revision that this command makes.
    pub revision: u64,
    /// The cluster's clock, ms: the leaders' monotonic clocks, joined. It stands still while
    /// nobody leads.
    pub now_ms: u64,
}

/// A value and the revision that wrote it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row<V> {
    /// Which.
    pub revision: u64,
    /// The value.
    pub value: V,
}

/// One changed row in its stored form, for the disk and for watchers.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What it is now; absent: deleted.
    pub value: Option<Vec<u8>>,
}

/// A table. Copies share their rows, so a snapshot costs nothing. Keys and rows are shared one by
/// one too: after a snapshot the first change copies its neighbours, some sixty of them.
#[derive(Clone, Debug)]
pub struct Rows<V> {
    name: &'static str,
    rows: OrdMap<Arc<str>, Arc<Row<V>>>,
    changed: Vec<Arc<str>>,
}

impl<V: Stored + Clone> Rows<V> {
    /// An empty table of this name.
    pub fn new(name: &'static str) -> Rows<V> {
        Rows { name, rows: OrdMap::new(), changed: Vec::new() }
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The value under a key with its revision.
    pub fn row(&self, key: &str) -> Option<&Row<V>> {
        self.rows.get(key).map(AsRef::as_ref)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Row<V>)> {
        self.rows.iter().map(|(key, row)| (&**key, &**row))
    }

    /// Those whose keys begin with `prefix`.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Row<V>)> {
        let rows = self.rows.range(Arc::<str>::from(prefix)..);
        let rows = rows.map(|(key, row)| (&**key, &**row));
        rows.take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Has nothing been written between these two copies? No look at the rows.
    pub fn same(&self, other: &Rows<V>) -> bool {
        self.rows.ptr_eq(&other.rows)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sets a row.
    pub fn put(&mut self, at: At, key: &str, value: V) {
        let key: Arc<str> = key.into();
        self.rows.insert(key.clone(), Arc::new(Row { revision: at.revision, value }));
        self.changed.push(key);
    }

    /// Removes a row; was it there?
    pub fn delete(&mut self, key: &str) -> bool {
        let there = self.rows.remove(key).is_some();
        if there {
            self.changed.push(key.into());
        }
        there
    }

    /// What has changed since this was last asked, each key once, in its present form.
    pub(crate) fn take_changes(&mut self, into: &mut Vec<Change>) {
        let mut keys = std::mem::take(&mut self.changed);
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let value = self.rows.get(&key).map(|row| codec::encode(&Stand(Row::clone(row))));
            into.push(Change { table: self.name, key: key.to_string(), value });
        }
    }

    /// Every row in its stored form.
    pub(crate) fn stored(&self, into: &mut Vec<(String, String, Vec<u8>)>) {
        for (key, row) in &self.rows {
            let value = codec::encode(&Stand(Row::clone(row)));
            into.push((self.name.to_owned(), key.to_string(), value));
        }
    }

    /// Takes in a stored row.
    pub(crate) fn load(&mut self, key: String, stored: &[u8]) -> Result<(), CodecError> {
        let row = decode_row(stored)?;
        self.rows.insert(key.into(), Arc::new(row));
        Ok(())
    }
}

/// The row that a change carries.
///
/// # Errors
/// When it is damaged or of another table.
pub fn decode_row<V: Stored>(stored: &[u8]) -> Result<Row<V>, CodecError> {
    codec::decode::<Stand<V>>(stored).map(|stand| stand.0)
}

/// A row as it is stored: with the version of its value.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Stand<V>(Row<V>);

impl<V: Stored> Stored for Stand<V> {
    const VERSION: u8 = V::VERSION;

    fn from_older(version: u8, payload: &[u8]) -> Option<Self> {
        let row: Row<Box<serde_json::value::RawValue>> = serde_json::from_slice(payload).ok()?;
        let value = V::from_older(version, row.value.get().as_bytes())?;
        Some(Stand(Row { revision: row.revision, value }))
    }
}
