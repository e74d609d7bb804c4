//! The state's rows in the store. They are written lazily, many changes at once: until then the
//! log has them. With them goes a summary, by which a lost or an old row is noticed at open.

use crate::codec::{self, Stored};
use crate::keys::Keys;
use crate::published::View;
use crate::raft::{LogId, StoredMembership};
use crate::state::State;
use crate::store::{Change, Store, StoreError};
use crate::table;
use crate::writer::Writer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Rows written or read at once.
pub const STEP: usize = 1024;

/// What the rows in the store are the state of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Summary {
    applied: Option<LogId>,
    membership: StoredMembership,
    revision: u64,
    now_ms: u64,
    /// Rows of other generations do not count.
    generation: u64,
    rows: u64,
    /// The sum of the rows' fingerprints.
    sum: u64,
}

impl Stored for Summary {
    const VERSION: u8 = 1;
}

/// The rows that are in the store, and those that are not there yet.
#[derive(Debug)]
pub struct Rows {
    keys: Keys,
    generation: u64,
    /// Of each row that counts, as it will be when the waiting ones are written.
    prints: HashMap<Vec<u8>, u64>,
    sum: u64,
    waiting: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A row's table and key in one.
fn name(table: &str, key: &str) -> Vec<u8> {
    [table.as_bytes(), &[0], key.as_bytes()].concat()
}

fn unname(name: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(name).ok()?.split_once('\0')
}

/// Differs when the name or the value does.
fn print(name: &[u8], value: &[u8]) -> u64 {
    let halves = u64::from(crc32fast::hash(name)) << 32 | u64::from(crc32fast::hash(value));
    // Mixed, or exchanged values would have the same sum.
    let mixed = (halves ^ (halves >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

impl Rows {
    /// None.
    fn empty(group: u32, generation: u64) -> Rows {
        let (prints, waiting) = (HashMap::new(), BTreeMap::new());
        Rows { keys: Keys(group), generation, prints, sum: 0, waiting }
    }

    fn count(&mut self, name: &[u8], value: Option<&[u8]>) {
        let old = match value {
            Some(value) => {
                let new = print(name, value);
                self.sum = self.sum.wrapping_add(new);
                self.prints.insert(name.to_vec(), new)
            }
            None => self.prints.remove(name),
        };
        self.sum = self.sum.wrapping_sub(old.unwrap_or(0));
    }

    /// Remembers changes, to be written later.
    pub fn note(&mut self, changes: &[table::Change]) {
        for change in changes {
            let name = name(change.table, &change.key);
            self.count(&name, change.value.as_deref());
            self.waiting.insert(name, change.value.clone());
        }
    }

    /// How many rows wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The waiting rows, for one batch; they make the rows those of `view`.
    pub fn take(&mut self, view: &View) -> Vec<Change> {
        let waiting = std::mem::take(&mut self.waiting);
        let rows = waiting.into_iter();
        let mut changes: Vec<Change> = rows
            .map(|(name, value)| Change { key: self.keys.row(self.generation, &name), value })
            .collect();
        changes.push(self.summary(view));
        changes
    }

    fn summary(&self, view: &View) -> Change {
        let summary = Summary {
            applied: view.applied,
            membership: view.membership.clone(),
            revision: view.state.revision,
            now_ms: view.state.now_ms,
            generation: self.generation,
            rows: self.prints.len() as u64,
            sum: self.sum,
        };
        Change::put(self.keys.applied(), codec::encode(&summary))
    }

    /// Replaces all rows by those of a view and makes them durable. Until the end of it the old
    /// ones are those that count.
    ///
    /// # Errors
    /// As the store says.
    pub async fn replace(&mut self, writer: &Writer, view: &View) -> Result<(), StoreError> {
        let mut new = Rows::empty(self.keys.0, self.generation + 1);
        let stored = view.state.stored();
        for step in stored.chunks(STEP) {
            let mut changes = Vec::with_capacity(STEP);
            for (table, key, value) in step {
                let name = name(table, key);
                new.count(&name, Some(value));
                changes.push(Change::put(new.keys.row(new.generation, &name), value.clone()));
            }
            writer.write(changes, false).await?;
        }
        writer.write(vec![new.summary(view)], true).await?;
        let old = std::mem::replace(self, new);
        let old: Vec<Vec<u8>> = old.prints.into_keys().collect();
        for step in old.chunks(STEP) {
            let key = |name: &Vec<u8>| self.keys.row(self.generation - 1, name);
            let changes = step.iter().map(|name| Change::delete(key(name))).collect();
            writer.write(changes, false).await?;
        }
        Ok(())
    }

    /// All rows of a newer view as waiting ones: they take the place of these when they are
    /// written.
    pub fn behind(mut self, view: &View) -> Rows {
        let mut gone: Vec<Vec<u8>> = self.prints.keys().cloned().collect();
        for (table, key, value) in view.state.stored() {
            let name = name(&table, &key);
            self.count(&name, Some(&value));
            self.waiting.insert(name, Some(value));
        }
        gone.retain(|name| !self.waiting.contains_key(name));
        for name in gone {
            self.count(&name, None);
            self.waiting.insert(name, None);
        }
        self
    }

    /// The rows in the store, and the state that they make. May block.
    ///
    /// # Errors
    /// `Damaged` when a row is missing, is another one than was written, or cannot be read.
    pub fn load(store: &dyn Store, group: u32) -> Result<(Rows, View), StoreError> {
        let keys = Keys(group);
        let Some(bytes) = store.get(&keys.applied())? else {
            // Nothing was applied yet; a first snapshot may have been cut short.
            remove_strangers(store, keys, None)?;
            return Ok((Rows::empty(group, 0), View::default()));
        };
        let summary: Summary = codec::decode(&bytes)?;
        remove_strangers(store, keys, Some(summary.generation))?;
        let mut rows = Rows::empty(group, summary.generation);
        let mut state = State::default();
        (state.revision, state.now_ms) = (summary.revision, summary.now_ms);
        let (mut from, to) = keys.rows();
        loop {
            let pairs = store.range(&from, &to, STEP)?;
            let Some((last, _)) = pairs.last() else { break };
            from = [last, &[0][..]].concat();
            for (key, value) in pairs {
                let names = keys.row_name(&key).map(|(_, name)| name);
                let parsed = names.and_then(|name| Some((name, unname(name)?)));
                let Some((name, (table, key))) = parsed else {
                    return Err(StoreError::Damaged("a row has no name".into()));
                };
                rows.count(name, Some(&value));
                state.load(table, key.to_owned(), &value)?;
            }
        }
        let found = (rows.prints.len() as u64, rows.sum);
        if found != (summary.rows, summary.sum) || state.newest_row() > state.revision {
            return Err(StoreError::Damaged(format!(
                "its {} rows up to revision {} are not the {} of revision {} that were written",
                found.0,
                state.newest_row(),
                summary.rows,
                summary.revision,
            )));
        }
        let (applied, membership) = (summary.applied, summary.membership);
        Ok((rows, View { state, applied, membership }))
    }
}

/// Removes rows that are not of this generation: a replacement was cut short.
fn remove_strangers(store: &dyn Store, keys: Keys, own: Option<u64>) -> Result<(), StoreError> {
    let (first, end) = keys.rows();
    let ranges = match own {
        None => vec![(first, end)],
        Some(own) => {
            let (begin, next) = (keys.row(own, &[]), own.checked_add(1));
            let after = next.map_or(end.clone(), |next| keys.row(next, &[]));
            vec![(first, begin), (after, end)]
        }
    };
    for (from, to) in ranges {
        loop {
            let pairs = store.range(&from, &to, STEP)?;
            if pairs.is_empty() {
                break;
            }
            store.write(pairs.into_iter().map(|(key, _)| Change::delete(key)).collect())?;
        }
    }
    Ok(())
}
