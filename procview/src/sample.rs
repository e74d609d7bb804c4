//! One pass over this node's processes and its whole-system files, made only when somebody asks.

use crate::table::{Seen, TEXTS, Table};
use krg_sys::clock::boot_ns;
use krg_sys::procfs::{DirAt, Procfs};
use krg_types::limits::{PROCS_PER_NODE_MAX, SAMPLED_TEXT_BYTES_MAX, SYSTEM_FILE_BYTES_MAX};
use krg_types::{PidFile, SystemFile};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Of one processor's time at most a quarter goes into passes: after one that took t the next
/// begins no earlier than t * this later.
const REST_PER_PASS: u32 = 3;
/// A viewer waits at most so long for that.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// What the last passes found.
#[derive(Default, Debug)]
pub struct Sample {
    /// The processes.
    pub table: Table,
    /// Boot clock when the last pass over them began.
    pub procs_stamp_ns: u64,
    /// The whole-system files, in the order of their numbers.
    pub files: [FileSample; SystemFile::ALL.len()],
}

/// One whole-system file.
#[derive(Clone, Default, Debug)]
pub struct FileSample {
    /// Boot clock when it was read; 0 = never.
    pub stamp_ns: u64,
    /// Counts its changes.
    pub version: u64,
    /// Its text; `None` where this kernel has no such file.
    pub text: Option<Vec<u8>>,
}

/// Samples on demand; many viewers share one pass.
#[derive(Debug)]
pub struct Sampler {
    procfs: Arc<Procfs>,
    /// Held during a pass, so that those who come meanwhile find it done.
    turn: Mutex<Turn>,
    sample: RwLock<Sample>,
}

#[derive(Debug)]
struct Turn {
    /// Not before this may the next pass begin.
    rested: Instant,
    buffers: Buffers,
}

#[derive(Default, Debug)]
struct Buffers {
    texts: [Vec<u8>; TEXTS],
    file: Vec<u8>,
}

impl Sampler {
    /// A sampler over this procfs.
    pub fn new(procfs: Arc<Procfs>) -> Arc<Sampler> {
        let turn = Turn { rested: Instant::now(), buffers: Buffers::default() };
        Arc::new(Sampler { procfs, turn: Mutex::new(turn), sample: RwLock::default() })
    }

    /// Looks at the sample.
    pub fn with<T>(&self, look: impl FnOnce(&Sample) -> T) -> T {
        look(&self.sample.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Sees to it that the processes (if `procs`) and the `files` (bits) are no older than
    /// `max_age` was when this was called; with 0, what happened before the call is in it. Waits
    /// where the bound on the cost of passes demands it, but no longer than `WAIT_MAX`: then the
    /// last pass must do, and its stamp says how old it is.
    pub async fn refresh(self: &Arc<Self>, procs: bool, files: u64, max_age: Duration) {
        let asked_ns = boot_ns();
        let mut turn = self.turn.lock().await;
        let young = |stamp_ns: u64| {
            let age = u128::from(asked_ns.saturating_sub(stamp_ns));
            stamp_ns != 0 && age <= max_age.as_nanos()
        };
        let old = |f: &SystemFile| {
            let stamp_ns = self.with(|s| s.files[f.id() as usize].stamp_ns);
            files & f.bit() != 0 && !young(stamp_ns)
        };
        let files: Vec<SystemFile> = SystemFile::ALL.into_iter().filter(old).collect();
        let mut procs = procs && !young(self.with(|s| s.procs_stamp_ns));
        if procs && turn.rested > Instant::now() {
            procs = turn.rested <= Instant::now() + WAIT_MAX;
            if procs {
                sleep_until(turn.rested).await;
            }
        }
        if !procs && files.is_empty() {
            return;
        }
        let mut buffers = std::mem::take(&mut turn.buffers);
        let me = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            if procs {
                me.pass(&mut buffers);
            }
            let cost = begun.elapsed();
            files.into_iter().for_each(|f| me.read_file(f, &mut buffers.file));
            (buffers, cost)
        });
        if let Ok((buffers, cost)) = work.await {
            turn.buffers = buffers;
            if procs {
                turn.rested = Instant::now() + cost * REST_PER_PASS;
            }
        }
    }

    fn pass(&self, buffers: &mut Buffers) {
        let stamp = boot_ns();
        let names = self.procfs.root().names(".", PROCS_PER_NODE_MAX).unwrap_or_default();
        self.write().table.begin();
        for name in &names {
            let Ok(pid) = name.parse::<u32>() else { continue };
            // A process that ends meanwhile is left out, as if the pass had begun later.
            let _ = self.look_at(name, pid, buffers);
        }
        let mut sample = self.write();
        sample.table.end();
        sample.procs_stamp_ns = stamp;
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sample> {
        self.sample.write().unwrap_or_else(|e| e.into_inner())
    }

    /// The lock is held for one row at a time: viewers read while a long pass goes on.
    fn look_at(&self, name: &str, pid: u32, buffers: &mut Buffers) -> io::Result<()> {
        let dir = self.procfs.dir(name)?;
        let at = DirAt(dir.as_fd());
        let owner = nix::sys::stat::fstat(&dir)?;
        let mut have = [false; TEXTS];
        let mut oversize = 0;
        for (i, file) in PidFile::SAMPLED.into_iter().enumerate() {
            match at.read(file.name(), &mut buffers.texts[i], SAMPLED_TEXT_BYTES_MAX) {
                Ok(()) => have[i] = true,
                Err(e) if e.raw_os_error() == Some(libc::EFBIG) => oversize |= file.bit(),
                // Without stat there is no process any more; the others may be refused.
                Err(e) if file == PidFile::Stat => return Err(e),
                Err(_) => {}
            }
        }
        let stat = crate::render::stat::parse(&buffers.texts[0]);
        let start_ticks = stat.ok_or(io::ErrorKind::InvalidData)?.starttime;
        let texts = std::array::from_fn(|i| have[i].then_some(buffers.texts[i].as_slice()));
        let (uid, gid) = (owner.st_uid, owner.st_gid);
        self.write().table.see(&Seen { pid, start_ticks, uid, gid, oversize, texts });
        Ok(())
    }

    fn read_file(&self, file: SystemFile, buf: &mut Vec<u8>) {
        let stamp_ns = boot_ns();
        // net/ is a link through `self`: its own thread group's, which is this node's network.
        let read = self.procfs.root().read(file.path(), buf, SYSTEM_FILE_BYTES_MAX);
        let text = read.is_ok().then_some(buf.as_slice());
        let mut sample = self.write();
        let slot = &mut sample.files[file.id() as usize];
        if slot.stamp_ns == 0 || slot.text.as_deref() != text {
            slot.version += 1;
            slot.text = text.map(<[u8]>::to_vec);
        }
        slot.stamp_ns = stamp_ns;
    }
}
