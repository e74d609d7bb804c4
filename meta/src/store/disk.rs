//! The store on disk: the only file that names sled, so that what sled does not do by itself is
//! done in one place. Its flush is no barrier against a power cut, so a sync of its file follows;
//! it panics where it should return an error, so panics are caught; and it takes a damaged end of
//! its log for a torn one, so a mark outside tells how far it must reach.

use super::parts::{self, cut, head_key, join, part_key};
use super::{Change, Pace, Pair, Store, StoreError};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// sled's own thread writes and collects garbage this often, ms.
const FLUSH_EVERY_MS: u64 = 500;
/// sled's cache, bytes: the state is in memory, so this serves the log only.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's threads hold its file no longer after it was closed.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// Where the number of the newest batch is kept, apart from heads (0) and parts (1).
const NUMBER_KEY: &[u8] = &[2];
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
    /// The number of the newest batch; held while a batch is written.
    newest: Mutex<u64>,
    /// Why nothing more is taken.
    poison: Mutex<Option<String>>,
    /// Locked while the store is open.
    lock: Option<File>,
}

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
        let store = SledStore {
            db: Some(db),
            file: open(dir.join("store/db"))?,
            mark: open(dir.join("mark"))?,
            newest: Mutex::new(0),
            poison: Mutex::default(),
            lock: Some(lock),
        };
        let newest = store.call(|db| db.get(NUMBER_KEY))?;
        let newest = newest.map_or(Ok(0), |n| number(&n))?;
        let mark = read_mark(&store.mark)?;
        if newest < mark {
            return Err(StoreError::Damaged(format!(
                "it ends with batch {newest}, but batch {mark} was durable"
            )));
        }
        *store.newest() = newest;
        // What an earlier process wrote and did not sync is made durable before it is relied on.
        store.sync()?;
        Ok(store)
    }

    // A panic while it was held leaves a plain number.
    fn newest(&self) -> MutexGuard<'_, u64> {
        self.newest.lock().unwrap_or_else(|e| e.into_inner())
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

    fn write_numbered(&self, changes: Vec<Change>, number: u64) -> Result<(), StoreError> {
        // Of one key the last change counts, and each key's old parts are looked up once.
        let last: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            changes.into_iter().map(|c| (c.key, c.value)).collect();
        let mut batch = sled::Batch::default();
        for (key, value) in last {
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
        batch.insert(NUMBER_KEY, &marked(number)[..]);
        self.call(|db| db.apply_batch(batch))
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = self.call(|db| db.get(head_key(key)))? else { return Ok(None) };
        join(&head, |n| self.part(key, n)).map(Some)
    }

    fn range(&self, from: &[u8], to: &[u8], count_max: usize) -> Result<Vec<Pair>, StoreError> {
        let range = head_key(from)..head_key(to);
        let heads: Vec<(sled::IVec, sled::IVec)> =
            self.call(|db| db.range(range).take(count_max).collect())?;
        let mut pairs = Vec::with_capacity(heads.len());
        for (head_key, head) in heads {
            let key = parts::key_of(&head_key);
            let value = join(&head, |n| self.part(&key, n))?;
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut newest = self.newest();
        self.check()?;
        let number = *newest + 1;
        self.poisoning(self.write_numbered(changes, number))?;
        *newest = number;
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        let number = *self.newest();
        let done = self.call(|db| db.flush().map(drop)).and_then(|()| {
            self.file.sync_data().map_err(|e| StoreError::io("sync of the store", &e))?;
            // Not made durable itself: an older mark asks for less, never for too much.
            let mark = self.mark.write_all_at(&marked(number), 0);
            mark.map_err(|e| StoreError::io("the store's mark", &e))
        });
        self.poisoning(done)
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
        File::open(dir.parent().unwrap_or(Path::new("/")))?.sync_all()
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
        .flush_every_ms(Some(FLUSH_EVERY_MS));
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

fn number(bytes: &[u8]) -> Result<u64, StoreError> {
    let number = bytes.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
    match number.filter(|n| marked(*n) == bytes) {
        Some(number) => Ok(number),
        None => Err(StoreError::Damaged("a batch's number is damaged".into())),
    }
}

fn read_mark(file: &File) -> Result<u64, StoreError> {
    let mut bytes = [0; MARK_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => number(&bytes),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => number(&[]),
        Err(e) => Err(StoreError::io("the store's mark", &e)),
    }
}
