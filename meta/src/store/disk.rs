//! The store on disk: the only file that names sled, so that what sled does not do by itself is
//! done in one place. Its flush is slow and no barrier against a power cut, and a cut while it has
//! much to write damages it; so batches go to a journal, and from there to sled in small portions,
//! each followed by a sync of its file. It panics where it should return an error, so panics are
//! caught; and it takes a damaged end of its log for a torn one, so a mark outside tells how far
//! the store must reach.

use super::journal::{self, Journal, Record};
use super::parts::{self, cut, head_key, join, part_key};
use super::{Change, Pace, Pair, Store, StoreError, sync_parent};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound::{Excluded, Included};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// sled's cache, bytes: the state is in memory, so this serves the log only.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's threads hold its file no longer after it was closed.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// Where the number of the newest batch that is all in sled is kept, apart from heads (0) and
/// parts (1).
const NUMBER_KEY: &[u8] = &[2];
/// Keys and values go to sled in portions of so many bytes.
const PORTION_BYTES: usize = 64 << 10;
/// Bytes of the mark: a number and its checksum.
const MARK_BYTES: usize = 12;

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    /// Taken when the store is dropped.
    db: Option<sled::Db>,
    /// sled's file, for the sync that sled itself leaves out.
    file: File,
    /// Holds the number of a batch that is known to be durable.
    mark: File,
    /// Held while a batch is written, and while all are made durable.
    front: Mutex<Front>,
    /// Why nothing more is taken.
    poison: Mutex<Option<String>>,
    /// Locked while the store is open.
    lock: Option<File>,
}

/// What is not in sled yet.
#[derive(Debug)]
struct Front {
    /// The number of the newest batch.
    number: u64,
    journal: Journal,
    /// What the journal's batches come to; absent: deleted.
    changes: Changes,
}

/// Each key with what it becomes; absent: deleted.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Takes the lock of a store's directory, a file next to it.
///
/// # Errors
/// `Held` if another daemon has it.
pub fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = beside(dir, "lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|e| StoreError::io(path.display().to_string(), &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Held(dir.to_owned())),
        Err(fs::TryLockError::Error(e)) => Err(StoreError::io(path.display().to_string(), &e)),
    }
}

/// A path next to `dir`, named after it.
pub fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

impl SledStore {
    /// Opens the store in `dir`, or makes one if there is no `dir`. `lock` is that of `dir`.
    ///
    /// # Errors
    /// `Damaged` when what is there is not a whole store; `Full` and `Io` as the disk says.
    pub fn open(dir: &Path, lock: File) -> Result<SledStore, StoreError> {
        if !dir.try_exists().map_err(|e| StoreError::io(dir.display().to_string(), &e))? {
            make(dir)?;
        }
        let db = open_sled(&dir.join("store"))?;
        let open = |path: PathBuf| {
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => {
                    StoreError::Damaged(format!("{} is missing", path.display()))
                }
                _ => StoreError::io(path.display().to_string(), &e),
            })
        };
        let (journal, records) = Journal::open(&dir.join("journal"))?;
        let front = Front { number: 0, journal, changes: Changes::new() };
        let store = SledStore {
            db: Some(db),
            file: open(dir.join("store/db"))?,
            mark: open(dir.join("mark"))?,
            front: Mutex::new(front),
            poison: Mutex::default(),
            lock: Some(lock),
        };
        store.replay(records)?;
        Ok(store)
    }

    /// Takes in what is in the journal and not in sled.
    fn replay(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let mut front = self.front();
        let number = self.call(|db| db.get(NUMBER_KEY))?;
        front.number = number.map_or(Ok(0), |n| number_of(&n))?;
        let last = records.last().map(|record| record.number);
        for Record { number, changes } in records {
            if number > front.number + 1 {
                return Err(StoreError::Damaged(format!(
                    "it ends with batch {}, but its journal goes on with {number}",
                    front.number
                )));
            }
            if number > front.number {
                front.take(number, changes);
            }
        }
        if last != Some(front.number) {
            // sled has gone further: what comes next does not follow these records.
            front.journal.restart();
        }
        let mark = read_mark(&self.mark)?;
        if front.number < mark {
            return Err(StoreError::Damaged(format!(
                "it ends with batch {}, but batch {mark} was durable",
                front.number
            )));
        }
        self.write_mark(front.number)
    }

    // A panic while it was held leaves no batch half taken in.
    fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn check(&self) -> Result<(), StoreError> {
        let poison = self.poison.lock().unwrap_or_else(|e| e.into_inner());
        poison.clone().map_or(Ok(()), |why| Err(StoreError::Poisoned(why)))
    }

    /// Remembers a failure that later calls must not hide.
    fn poisoning<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            let mut poison = self.poison.lock().unwrap_or_else(|e| e.into_inner());
            poison.get_or_insert_with(|| error.to_string());
        })
    }

    /// Calls sled; its panic is an error.
    fn call<T>(&self, ask: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        let Some(db) = &self.db else {
            return Err(StoreError::Poisoned("it is being closed".into()));
        };
        caught(|| ask(db))
    }

    fn part(&self, key: &[u8], n: u16) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.call(|db| db.get(part_key(key, n)))?.map(|part| part.to_vec()))
    }

    /// Brings all to sled and makes it durable there, so that the journal may forget.
    fn settle(&self, front: &mut Front) -> Result<(), StoreError> {
        // First here: sled must have nothing that the journal may lose.
        front.journal.sync()?;
        let (mut portion, mut bytes) = (Changes::new(), 0);
        for (key, value) in &front.changes {
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            portion.insert(key.clone(), value.clone());
            if bytes >= PORTION_BYTES {
                self.write_sled(std::mem::take(&mut portion), None)?;
                bytes = 0;
            }
        }
        self.write_sled(portion, Some(front.number))?;
        front.changes.clear();
        front.journal.restart();
        Ok(())
    }

    fn write_mark(&self, number: u64) -> Result<(), StoreError> {
        // Not made durable itself: an older mark asks for less, never for too much.
        let mark = self.mark.write_all_at(&marked(number), 0);
        mark.map_err(|e| StoreError::io("the store's mark", &e))
    }

    /// All of it or nothing, durable at return. With a number all batches up to it are there.
    fn write_sled(&self, changes: Changes, number: Option<u64>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let head_key = head_key(&key);
            let old = self.call(|db| db.get(&head_key))?;
            let old = old.map_or(Ok(0), |head| parts::count(&head))?;
            let mut new = 0;
            match &value {
                None => batch.remove(head_key),
                Some(value) => {
                    let (head, rest) = cut(value)?;
                    batch.insert(head_key, head);
                    for piece in rest {
                        new += 1;
                        batch.insert(part_key(&key, new), piece);
                    }
                }
            }
            for n in new + 1..=old {
                batch.remove(part_key(&key, n));
            }
        }
        if let Some(number) = number {
            batch.insert(NUMBER_KEY, &marked(number)[..]);
        }
        self.call(|db| db.apply_batch(batch).and_then(|()| db.flush()))?;
        self.file.sync_data().map_err(|e| StoreError::io("sync of the store", &e))
    }

    /// The value of a key that is in sled.
    fn get_sled(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = self.call(|db| db.get(head_key(key)))? else { return Ok(None) };
        join(&head, |n| self.part(key, n)).map(Some)
    }
}

impl Front {
    fn take(&mut self, number: u64, changes: Vec<Change>) {
        self.changes.extend(changes.into_iter().map(|c| (c.key, c.value)));
        self.number = number;
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.front().changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.get_sled(key),
        }
    }

    fn range(&self, from: &[u8], to: &[u8], count_max: usize) -> Result<Vec<Pair>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let front = self.front();
        let range = head_key(from)..head_key(to);
        // The first of either are more than enough.
        let heads: Vec<(Vec<u8>, sled::IVec)> = self.call(|db| {
            let heads =
                db.range(range).map(|head| head.map(|(k, head)| (parts::key_of(&k), head)));
            let other = |head: &sled::Result<(Vec<u8>, sled::IVec)>| {
                head.as_ref().map_or(true, |(key, _)| !front.changes.contains_key(key))
            };
            heads.filter(other).take(count_max).collect()
        })?;
        let mut pairs = BTreeMap::new();
        for (key, head) in heads {
            let value = join(&head, |n| self.part(&key, n))?;
            pairs.insert(key, value);
        }
        let changed = front.changes.range::<[u8], _>((Included(from), Excluded(to)));
        let set = changed.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        pairs.extend(set.take(count_max));
        Ok(pairs.into_iter().take(count_max).collect())
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut front = self.front();
        self.check()?;
        let number = front.number + 1;
        let added = self.poisoning(front.journal.add(number, &changes))?;
        if !added {
            self.poisoning(self.settle(&mut front))?;
        }
        if added || self.poisoning(front.journal.add(number, &changes))? {
            front.take(number, changes);
            return Ok(());
        }
        // Longer than the whole journal.
        let changes = changes.into_iter().map(|c| (c.key, c.value)).collect();
        self.poisoning(self.write_sled(changes, Some(number)))?;
        front.number = number;
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let front = self.front();
        self.check()?;
        self.poisoning(front.journal.sync().and_then(|()| self.write_mark(front.number)))
    }

    fn pace(&self) -> Pace {
        Pace::Blocks
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let db = self.db.take();
        if self.check().is_err() {
            // sled would try to write again, and waits for ever if it cannot. It is left as it
            // is, with the lock, until this process ends.
            std::mem::forget((db, self.lock.take()));
            return;
        }
        // sled writes when it is dropped, and that too may end in a panic.
        if let Err(error) = caught(|| {
            drop(db);
            Ok(())
        }) {
            tracing::warn!(%error, "the store was not closed well");
        }
    }
}

/// A new, empty store, made beside its place and put there when it is durable.
fn make(dir: &Path) -> Result<(), StoreError> {
    let new = beside(dir, "new");
    let attempt = || -> io::Result<()> {
        if new.try_exists()? {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        journal::make(&new.join("journal"))?;
        fs::write(new.join("mark"), marked(0))
    };
    attempt().map_err(|e| StoreError::io(new.display().to_string(), &e))?;
    let store = new.join("store");
    let db = open_sled(&store)?;
    caught(|| db.flush())?;
    caught(|| {
        drop(db);
        Ok(())
    })?;
    let place = || -> io::Result<()> {
        for entry in fs::read_dir(&store)?.chain(fs::read_dir(&new)?) {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&new)?.sync_all()?;
        fs::rename(&new, dir)?;
        sync_parent(dir)
    };
    place().map_err(|e| StoreError::io(dir.display().to_string(), &e))
}

/// Opens sled's part. Whoever had it open in this process has given the store's own lock back
/// already, but sled's threads hold its file a little longer.
fn open_sled(path: &Path) -> Result<sled::Db, StoreError> {
    let opened = open_sled_once(path);
    match &opened {
        Err(StoreError::Held(_)) if released(&path.join("db")) => open_sled_once(path),
        _ => opened,
    }
}

/// Waits until nobody has locked this file.
fn released(path: &Path) -> bool {
    let (tell, told) = std::sync::mpsc::channel();
    let path = path.to_owned();
    let waiting = move || {
        let locked = File::open(path).and_then(|file| file.lock());
        // Who asked may have given up.
        let _ = tell.send(locked.is_ok());
    };
    let started = std::thread::Builder::new().name("krg-store-wait".into()).spawn(waiting);
    started.is_ok() && told.recv_timeout(RELEASE_MAX).unwrap_or(false)
}

/// sled is opened in a thread of its own, which takes a panic with it.
fn open_sled_once(path: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        // Nothing is written by time.
        .flush_every_ms(None);
    let opening = std::thread::Builder::new()
        .name("krg-store-open".into())
        .spawn(move || caught(|| config.open()))
        .map_err(|e| StoreError::io("a thread", &e))?;
    match opening.join() {
        Ok(opened) => opened,
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn caught<T>(ask: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(result) => result.map_err(trouble),
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no words".into());
    if text.contains("StorageFull") || text.contains("No space left") {
        return StoreError::Full(text);
    }
    StoreError::Damaged(format!("sled panicked: {text}"))
}

fn trouble(error: sled::Error) -> StoreError {
    let text = error.to_string();
    match &error {
        sled::Error::Io(e) => match e.kind() {
            _ if text.contains("could not acquire lock") => StoreError::Held("its file".into()),
            _ if text.contains("StorageFull") => StoreError::Full(text),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other => StoreError::Damaged(text),
            _ => StoreError::io("sled", e),
        },
        _ => StoreError::Damaged(text),
    }
}

/// A number and its checksum.
fn marked(number: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let sum = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn number_of(bytes: &[u8]) -> Result<u64, StoreError> {
    let number = bytes.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
    match number.filter(|n| marked(*n) == bytes) {
        Some(number) => Ok(number),
        None => Err(StoreError::Damaged("a batch's number is damaged".into())),
    }
}

fn read_mark(file: &File) -> Result<u64, StoreError> {
    let mut bytes = [0; MARK_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => number_of(&bytes),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => number_of(&[]),
        Err(e) => Err(StoreError::io("the store's mark", &e)),
    }
}
