//! The newest batches, before they go to sled. A file of fixed length that is there in full from
//! the beginning, so that making a record durable is one write of the disk and changes nothing of
//! the file system's. sled needs several for each batch, and threads between them.
//!
//! Records follow each other from the start of the file, each with the number of its batch. When
//! the file is full all of it goes to sled, and it begins anew; what is left behind the new records
//! has older numbers.

use super::{Change, StoreError, sync_parent};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Length of the file, bytes.
const JOURNAL_BYTES: usize = 2 << 20;
/// Bytes of a record before its changes: their length, the checksum of what follows, the number.
const HEAD: usize = 16;

/// The records, for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Where the next one goes.
    at: usize,
}

/// A batch as it was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// What it does.
    pub changes: Vec<Change>,
}

/// Makes an empty journal; it is not durable yet.
///
/// # Errors
/// As the file system says.
pub fn make(path: &Path) -> io::Result<()> {
    fs::write(path, vec![0; JOURNAL_BYTES])
}

/// Makes an empty journal that is there in full or not at all, whatever happens meanwhile.
fn make_durable(path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    make(&new)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

impl Journal {
    /// Opens the journal at `path`, or makes one if there is none, and gives what is recorded in
    /// it. What is not whole there is nothing from now on: with what is written next it might
    /// seem to go on. All is written once more, since after a sync that failed, what is read may
    /// not be on the disk.
    ///
    /// # Errors
    /// `Damaged` when it is no journal; else as the file system says.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Record>), StoreError> {
        let io = |e: &io::Error| StoreError::io(path.display().to_string(), e);
        if !path.try_exists().map_err(|e| io(&e))? {
            // An earlier version had none. That a later one's is lost, the mark tells.
            make_durable(path).map_err(|e| io(&e))?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| io(&e))?;
        let len = file.metadata().map_err(|e| io(&e))?.len();
        if len != JOURNAL_BYTES as u64 {
            return Err(StoreError::Damaged(format!(
                "{} has {len} bytes, not {JOURNAL_BYTES}",
                path.display()
            )));
        }
        let mut bytes = vec![0; JOURNAL_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|e| io(&e))?;
        let (found, at) = records(&bytes);
        bytes[at..].fill(0);
        file.write_all_at(&bytes, 0).map_err(|e| io(&e))?;
        let journal = Journal { file, at };
        journal.sync()?;
        Ok((journal, found))
    }

    /// Adds a batch; `false` if it has no room there.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add(&mut self, number: u64, changes: &[Change]) -> Result<bool, StoreError> {
        let record = encode(number, changes);
        if record.len() > JOURNAL_BYTES - self.at {
            return Ok(false);
        }
        let written = self.file.write_all_at(&record, self.at as u64);
        written.map_err(|e| StoreError::io("the store's journal", &e))?;
        self.at += record.len();
        Ok(true)
    }

    /// What is recorded is not needed any more.
    pub fn restart(&mut self) {
        self.at = 0;
    }

    /// Makes what is recorded durable.
    ///
    /// # Errors
    /// When it may not be.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|e| StoreError::io("sync of the store's journal", &e))
    }
}

fn encode(number: u64, changes: &[Change]) -> Vec<u8> {
    let mut record = vec![0; HEAD];
    record[8..].copy_from_slice(&number.to_be_bytes());
    for Change { key, value } in changes {
        put(&mut record, Some(key));
        put(&mut record, value.as_deref());
    }
    let len = (record.len() - HEAD) as u32;
    record[..4].copy_from_slice(&len.to_be_bytes());
    let sum = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&sum.to_be_bytes());
    record
}

/// Bytes with their length plus one before them; 0: none.
fn put(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let len = bytes.map_or(0, |bytes| bytes.len() as u32 + 1);
    into.extend_from_slice(&len.to_be_bytes());
    into.extend_from_slice(bytes.unwrap_or_default());
}

/// The whole records at the start, as far as their numbers follow each other, and where they end.
fn records(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut found, mut rest): (Vec<Record>, _) = (Vec::new(), bytes);
    while let Some((record, after)) = decode(rest) {
        if found.last().is_some_and(|last| last.number.checked_add(1) != Some(record.number)) {
            break;
        }
        found.push(record);
        rest = after;
    }
    (found, bytes.len() - rest.len())
}

fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (body, after) = rest.split_at_checked(len.checked_add(HEAD - 8)?)?;
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let (number, mut rest) = body.split_first_chunk::<8>()?;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let (key, value);
        (key, rest) = take(rest)?;
        (value, rest) = take(rest)?;
        changes.push(Change { key: key?.to_vec(), value: value.map(<[u8]>::to_vec) });
    }
    // What was never written has a right sum of nothing, too; no batch has this number.
    let number = u64::from_be_bytes(*number);
    (number > 0).then_some((Record { number, changes }, after))
}

fn take(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    match usize::try_from(u32::from_be_bytes(*len)).ok()?.checked_sub(1) {
        None => Some((None, rest)),
        Some(len) => rest.split_at_checked(len).map(|(bytes, rest)| (Some(bytes), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn change() -> impl Strategy<Value = Change> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        (bytes(), proptest::option::of(bytes())).prop_map(|(key, value)| Change { key, value })
    }

    fn batch() -> impl Strategy<Value = Vec<Change>> {
        proptest::collection::vec(change(), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read_up_to_the_damage(
            batches in proptest::collection::vec(batch(), 1..20),
            first in 1u64..1000,
            hit: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for (number, changes) in (first..).zip(&batches) {
                bytes.extend(encode(number, changes));
                ends.push(bytes.len());
            }
            let written: Vec<Record> = (first..)
                .zip(&batches)
                .map(|(number, changes)| Record { number, changes: changes.clone() })
                .collect();
            prop_assert_eq!(&records(&bytes), &(written.clone(), bytes.len()));
            let hit = hit.index(bytes.len());
            bytes[hit] ^= 1 << bit;
            let whole = ends.iter().filter(|end| **end <= hit).count();
            prop_assert_eq!(&records(&bytes).0, &written[..whole]);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut framed = encode(7, &[]);
            framed.extend(&bytes);
            framed[..4].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            let sum = crc32fast::hash(&framed[8..]);
            framed[4..8].copy_from_slice(&sum.to_be_bytes());
            let _ = (records(&bytes), records(&framed));
        }
    }

    #[test]
    fn it_begins_anew_and_older_records_are_passed_over() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal");
        make(&path).unwrap();
        let (mut journal, found) = Journal::open(&path).unwrap();
        assert!(found.is_empty());
        let big = [Change::put(vec![1], vec![2; JOURNAL_BYTES / 3])];
        let added: Vec<bool> = (1..=4).map(|n| journal.add(n, &big).unwrap()).collect();
        assert_eq!(added, [true, true, false, false]);
        journal.restart();
        assert!(journal.add(3, &[Change::delete(vec![1])]).unwrap());
        journal.sync().unwrap();
        let (_, found) = Journal::open(&path).unwrap();
        assert_eq!(found, [Record { number: 3, changes: vec![Change::delete(vec![1])] }]);
        fs::write(&path, "short").unwrap();
        assert!(matches!(Journal::open(&path), Err(StoreError::Damaged(_))));
        fs::remove_file(&path).unwrap();
        assert!(Journal::open(&path).unwrap().1.is_empty());
    }

    #[test]
    fn what_follows_a_lost_record_never_comes_back() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let change = |n: u8| [Change::put(vec![n], vec![n; 9])];
        let len = encode(1, &change(1)).len() as u64;
        for n in 1..=4 {
            assert!(journal.add(n.into(), &change(n)).unwrap());
        }
        // The second did not reach the disk, those behind it did.
        journal.file.write_all_at(&[0; 8], len).unwrap();
        let (mut journal, found) = Journal::open(&path).unwrap();
        assert_eq!(found.len(), 1);
        assert!(journal.add(2, &change(2)).unwrap());
        assert_eq!(Journal::open(&path).unwrap().1.len(), 2);
    }
}
