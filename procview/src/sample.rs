//! One pass over this node's processes and its whole-system files, made only when somebody asks.

use crate::numbers::{self, Block, Shown};
use crate::table::{Look, Row, Seen, TEXTS, Table};
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
/// A process first seen so short a time ago is looked at with every list: it may be on its way
/// from fork(2) to execve(2).
const YOUNG_NS: u64 = 1_500_000_000;
/// What can change without the process running is looked at in every pass of so many.
const SLOW_PASSES: u64 = 10;
/// The places of these in `PidFile::SAMPLED`.
const STAT: usize = 0;
const STATUS: usize = 1;
const CMDLINE: usize = 3;

/// What the last passes found.
#[derive(Default, Debug)]
pub struct Sample {
    /// The processes.
    pub table: Table,
    /// Boot clock when the last pass over all their texts began.
    pub procs_stamp_ns: u64,
    /// Boot clock when they were last listed.
    pub list_stamp_ns: u64,
    /// Passes over all texts.
    pub passes: u64,
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

/// What a viewer asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The processes are wanted.
    pub procs: bool,
    /// Whole-system files, bits by their numbers.
    pub files: u64,
    /// The list of processes, and the files, may be so old.
    pub max_age: Duration,
    /// The texts of processes that were listed before may be.
    pub texts_max_age: Duration,
}

/// A look at the processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// None is due.
    None,
    /// Who has come and who is gone.
    List,
    /// All texts.
    Texts,
}

/// Who knows the jobs of this node.
pub trait Jobs: Send + Sync + std::fmt::Debug {
    /// Their numbers.
    fn blocks(&self) -> Vec<Block>;
}

/// There are none.
#[derive(Debug)]
pub struct NoJobs;

impl Jobs for NoJobs {
    fn blocks(&self) -> Vec<Block> {
        Vec::new()
    }
}

/// Samples on demand; many viewers share one pass.
#[derive(Debug)]
pub struct Sampler {
    procfs: Arc<Procfs>,
    jobs: Box<dyn Jobs>,
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
    blocks: Vec<Block>,
    texts: [Vec<u8>; TEXTS],
    file: Vec<u8>,
}

/// How much of a process must be read, after its stat and its status were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    /// It has not run.
    None,
    /// It has run, and is the program that it was.
    Run,
    /// Everything.
    All,
}

impl Effort {
    fn of(row: Option<&Row>, texts: &[Vec<u8>; TEXTS]) -> Effort {
        let Some(row) = row else { return Effort::All };
        let is = |i: usize| row.texts[i].as_deref() == Some(texts[i].as_slice());
        if is(STAT) && is(STATUS) {
            return Effort::None;
        }
        let old = row.texts[STAT].as_deref().and_then(crate::render::stat::parse);
        match (old, crate::render::stat::parse(&texts[STAT])) {
            (Some(old), Some(new)) if old.is_program_of(&new) => Effort::Run,
            _ => Effort::All,
        }
    }
}

/// What was read of a process: each text is there or not, or was not asked for.
struct Looked {
    oversize: u64,
    have: [Option<bool>; TEXTS],
}

impl Looked {
    fn read(&mut self, at: DirAt<'_>, i: usize, buffers: &mut Buffers) -> io::Result<()> {
        if self.have[i].is_none() {
            return Ok(());
        }
        let file = PidFile::SAMPLED[i];
        let read = at.read(file.name(), &mut buffers.texts[i], SAMPLED_TEXT_BYTES_MAX);
        match read {
            Ok(()) => self.have[i] = Some(true),
            Err(e) if e.raw_os_error() == Some(libc::EFBIG) => self.oversize |= file.bit(),
            // Without stat there is no process any more; the others may be refused.
            Err(e) if file == PidFile::Stat => return Err(e),
            Err(_) => {}
        }
        Ok(())
    }

    /// For the table, with the bits of those that were not asked for.
    fn texts<'a>(&self, buffers: &'a Buffers) -> ([Look<'a>; TEXTS], u64) {
        let mut kept = 0;
        let texts = std::array::from_fn(|i| match self.have[i] {
            Some(true) => Look::Text(buffers.texts[i].as_slice()),
            Some(false) => Look::Absent,
            None => {
                kept |= PidFile::SAMPLED[i].bit();
                Look::Kept
            }
        });
        (texts, kept)
    }
}

impl Sampler {
    /// A sampler over this procfs.
    pub fn new(procfs: Arc<Procfs>, jobs: impl Jobs + 'static) -> Arc<Sampler> {
        let turn = Turn { rested: Instant::now(), buffers: Buffers::default() };
        let jobs = Box::new(jobs);
        Arc::new(Sampler { procfs, jobs, turn: Mutex::new(turn), sample: RwLock::default() })
    }

    /// Looks at the sample.
    pub fn with<T>(&self, look: impl FnOnce(&Sample) -> T) -> T {
        look(&self.sample.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Sees to it that what is wanted is no older than it may be, counted from this call; with an
    /// age of 0, what happened before the call is in it. Waits where the bound on the cost of
    /// passes demands it, but no longer than `WAIT_MAX`: then the last pass must do, and its stamp
    /// says how old it is.
    pub async fn refresh(self: &Arc<Self>, wanted: Wanted) {
        let asked_ns = boot_ns();
        let mut turn = self.turn.lock().await;
        let young = |stamp_ns: u64, max_age: Duration| {
            let age = u128::from(asked_ns.saturating_sub(stamp_ns));
            stamp_ns != 0 && age <= max_age.as_nanos()
        };
        let old = |f: &SystemFile| {
            let stamp_ns = self.with(|s| s.files[f.id() as usize].stamp_ns);
            wanted.files & f.bit() != 0 && !young(stamp_ns, wanted.max_age)
        };
        let files: Vec<SystemFile> = SystemFile::ALL.into_iter().filter(old).collect();
        let (texts_ns, list_ns) = self.with(|s| (s.procs_stamp_ns, s.list_stamp_ns));
        let mut pass = match wanted.procs {
            true if !young(texts_ns, wanted.texts_max_age) => Pass::Texts,
            true if !young(list_ns, wanted.max_age) => Pass::List,
            _ => Pass::None,
        };
        if pass != Pass::None && turn.rested > Instant::now() {
            if turn.rested <= Instant::now() + WAIT_MAX {
                sleep_until(turn.rested).await;
            } else {
                pass = Pass::None;
            }
        }
        if pass == Pass::None && files.is_empty() {
            return;
        }
        let mut buffers = std::mem::take(&mut turn.buffers);
        let me = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            if pass != Pass::None {
                me.pass(pass, &mut buffers);
            }
            let cost = begun.elapsed();
            files.into_iter().for_each(|f| me.read_file(f, &mut buffers.file));
            (buffers, cost)
        });
        if let Ok((buffers, cost)) = work.await {
            turn.buffers = buffers;
            if pass != Pass::None {
                turn.rested = Instant::now() + cost * REST_PER_PASS;
            }
        }
    }

    fn pass(&self, pass: Pass, buffers: &mut Buffers) {
        let stamp = boot_ns();
        let names = self.procfs.root().names(".", PROCS_PER_NODE_MAX).unwrap_or_default();
        buffers.blocks = self.jobs.blocks();
        self.write().table.begin();
        for name in &names {
            let Ok(pid) = name.parse::<u32>() else { continue };
            if pass == Pass::List {
                let born_ns = self.write().table.note(pid);
                if born_ns.is_some_and(|born_ns| stamp.saturating_sub(born_ns) > YOUNG_NS) {
                    continue;
                }
            }
            // A process that ends meanwhile is left out, as if the pass had begun later.
            let _ = self.look_at(name, pid, buffers);
        }
        let mut sample = self.write();
        sample.table.end();
        sample.list_stamp_ns = stamp;
        if pass == Pass::Texts {
            sample.procs_stamp_ns = stamp;
            sample.passes += 1;
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sample> {
        self.sample.write().unwrap_or_else(|e| e.into_inner())
    }

    /// A process whose stat and status say what they said has not run since: the rest of it is as
    /// it was, save for what others can change, which every so often is looked at all the same. The
    /// lock is held for one row at a time: viewers read while a long pass goes on.
    fn look_at(&self, name: &str, pid: u32, buffers: &mut Buffers) -> io::Result<()> {
        let dir = self.procfs.dir(name)?;
        let at = DirAt(dir.as_fd());
        let mut looked = Looked { oversize: 0, have: [Some(false); TEXTS] };
        for i in [STAT, STATUS] {
            looked.read(at, i, buffers)?;
        }
        let effort = self.with(|sample| {
            let due = (sample.passes + u64::from(pid)).is_multiple_of(SLOW_PASSES);
            let row = sample.table.row(pid).filter(|_| !due);
            match Effort::of(row, &buffers.texts) {
                // A job's number may come to a process that sleeps.
                Effort::None
                    if numbers::can_be_numbered(&buffers.texts[STATUS], &buffers.blocks) =>
                {
                    Effort::Run
                }
                effort => effort,
            }
        });
        match effort {
            Effort::None => {
                self.write().table.note(pid);
                return Ok(());
            }
            Effort::Run => looked.have[CMDLINE + 1..].fill(None),
            Effort::All => {}
        }
        for i in STATUS + 1..TEXTS {
            looked.read(at, i, buffers)?;
        }
        let owner = nix::sys::stat::fstat(&dir)?;
        let stat = crate::render::stat::parse(&buffers.texts[STAT]);
        let start_ticks = stat.ok_or(io::ErrorKind::InvalidData)?.starttime;
        let (uid, gid) = (owner.st_uid, owner.st_gid);
        let namespace = || String::from_utf8(at.link("ns/pid").ok()?).ok();
        let number = match numbers::shown(&buffers.texts[STATUS], &buffers.blocks, namespace) {
            Shown::Plain => 0,
            Shown::Numbered(number) => number,
            Shown::Elsewhere => return Ok(()),
        };
        let (texts, kept) = looked.texts(buffers);
        let mut sample = self.write();
        let before = sample.table.row(pid).map_or(0, |row| row.oversize);
        let oversize = looked.oversize | (before & kept);
        let seen = Seen { pid, start_ticks, uid, gid, oversize, number, texts };
        sample.table.see(&seen, boot_ns());
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
