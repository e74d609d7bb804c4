//! A job is saved: CRIU makes its images while it stands still, it goes on, and what was written
//! becomes a version when all of it is on the disk.

use super::files;
use super::frost::Frost;
use super::host::Host;
use super::manifest::{self, FORMAT, Manifest};
use super::shelf::{Draft, Shelf};
use super::writer::{self, Writer};
use crate::criu::{Criu, Run};
use crate::depart::Still;
use crate::fault;
use crate::hook::{Clock, Hooks, Step, Waiting};
use crate::images;
use crate::images::capture::{Sink, capture};
use crate::job::Job;
use crate::locks;
use crate::members;
use crate::root::ROOT;
use krg_rpc::proto::job::{self as wire, Frozen, Saved};
use krg_sys::clock::wall_ns;
use krg_sys::cred::Caller;
use krg_sys::process::{Signal, wait_readable};
use krg_types::limits::DESCRIPTION_BYTES_MAX;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

/// If nothing could be written for so long, it goes on without having been saved.
const STALLED_MAX: Duration = Duration::from_secs(20);
/// The rest is taken within this.
const TAKE_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A job that is to be saved.
pub struct Saving {
    /// Which.
    pub job: Job,
    /// This node.
    pub own: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its first process here.
    pub init: u32,
    /// What leads out of it, and as CRIU names that.
    pub ends: Vec<wire::End>,
    /// As CRIU names what leads out of it.
    pub names: Vec<String>,
    /// And the pipe of its reports.
    pub report: String,
    /// For CRIU's sockets and logs.
    pub dir: PathBuf,
    /// The program that is the hook too.
    pub program: PathBuf,
    /// What was asked for.
    pub order: wire::Save,
    /// Those that are stopped so that it can be saved, in its own numbers.
    pub stopped: Vec<u32>,
    /// Those that its user had stopped.
    pub halted: Vec<u32>,
}

/// Saves it. While it does, `still` is asked for once, and `goes_on` is told when the job does.
///
/// # Errors
/// Why there is no new version: the job goes on as before.
pub async fn save(
    saving: Saving,
    still: mpsc::Sender<Still>,
    goes_on: oneshot::Sender<()>,
) -> Result<Saved, String> {
    let words = |e: io::Error| e.to_string();
    let mut all = Clock::start();
    let saving = Arc::new(saving);
    let owner = owner_of(&saving)?;
    let (prepared, made_by) = (saving.clone(), owner.clone());
    let prepared = spawn_blocking(move || prepare(&prepared, &made_by)).await;
    let (draft, host) = prepared.map_err(|e| e.to_string())?.map_err(words)?;
    let draft = Arc::new(draft);
    let mut frozen = Clock::start();
    let held = Held::freeze(&saving, &draft).await?;
    fault::point("saving").await;
    let (waiting, taken) = held.take(&saving, &owner, &draft, still).await;
    waiting.let_go().await;
    let frozen_us = frozen.lap_us();
    let _ = goes_on.send(());
    let (told, images, files) = taken?;
    fault::point("saved").await;
    let manifest = manifest(&saving, owner, host, told, images, files);
    let kept = spawn_blocking(move || keep(draft, manifest)).await.map_err(|e| e.to_string())?;
    let (manifest, number, path) = kept.map_err(words)?;
    Ok(Saved {
        app: manifest.app,
        checkpoint: number,
        date: manifest.date,
        bytes: manifest.bytes(),
        files: u32::try_from(manifest.files.len()).unwrap_or(u32::MAX),
        description: manifest.description,
        path: path.to_string_lossy().into_owned(),
        frozen_us,
        total_us: all.lap_us(),
        home: manifest.home,
    })
}

/// Whose the job is. All of it must be: what of another's is in its memory is not the owner's to
/// read in an image, nor to be brought back for him.
fn owner_of(saving: &Saving) -> Result<Caller, String> {
    if saving.order.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes"));
    }
    if saving.job.home != saving.own && locks::are_abroad() {
        let why = "it has locked files of its home since it is away: it can be saved at home";
        return Err(why.into());
    }
    for pid in members::all(saving.init) {
        // Of who may not be looked at it is the superuser's.
        let uid = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
        if saving.job.uid != 0 && uid.is_ok_and(|uid| uid != saving.job.uid) {
            let number = members::number(pid).unwrap_or(0);
            return Err(format!("process {number} of it is not its owner's alone"));
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", saving.init));
    let status = status.map_err(|e| e.to_string())?;
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let gid = numbers("Gid:").first().copied().ok_or("its first process has no group")?;
    Ok(Caller { uid: saving.job.uid, gid, groups: numbers("Groups:") })
}

fn prepare(saving: &Saving, owner: &Caller) -> io::Result<(Draft, Host)> {
    let (app, trace) = (saving.job.id, &saving.order.trace);
    let shelf = Shelf::make(Path::new(ROOT), &saving.order.dir, app, owner.uid, owner.gid)?;
    let draft = shelf.draft(trace)?;
    Ok((draft, Host::here(Criu::new(&saving.dir)?.version()?)?))
}

fn manifest(
    saving: &Saving,
    owner: Caller,
    host: Host,
    told: Frozen,
    images: Vec<manifest::Image>,
    files: Vec<manifest::SavedFile>,
) -> Manifest {
    let job = &saving.job;
    // Lines of a person's are not to be taken for this program's.
    let words = saving.order.description.replace(char::is_control, " ");
    let words = words.trim();
    Manifest {
        format: FORMAT,
        cluster: saving.cluster.clone(),
        app: job.id,
        name: job.name.clone(),
        command: job.command.clone(),
        uid: owner.uid,
        gid: owner.gid,
        groups: owner.groups,
        home: job.home,
        node: saving.own,
        date: wall_ns() / 1_000_000_000,
        description: if words.is_empty() { "No description" } else { words }.to_owned(),
        host,
        krg: env!("CARGO_PKG_VERSION").to_owned(),
        program: job.program,
        pids: job.pids,
        ends: saving.ends.iter().cloned().map(Into::into).collect(),
        report: saving.report.clone(),
        unread: told.unread.into_iter().map(Into::into).collect(),
        stopped: saving.stopped.clone(),
        halted: saving.halted.clone(),
        images,
        files,
        sum: String::new(),
    }
}

/// Writes what is known of it, and makes it a version.
fn keep(draft: Arc<Draft>, mut manifest: Manifest) -> io::Result<(Manifest, u32, PathBuf)> {
    writer::sum(&mut manifest.images, &draft)?;
    files::sum(&mut manifest.files, &draft)?;
    let draft = Arc::into_inner(draft).ok_or_else(|| io::Error::other("it is written still"))?;
    draft.file(manifest::NAME)?.write_all(&manifest.written()?)?;
    let number = draft.number()?;
    draft.file("description.txt")?.write_all(manifest.describe(number).as_bytes())?;
    let (number, path) = draft.keep(number)?;
    Ok((manifest, number, path))
}

type Taken = (Frozen, Vec<manifest::Image>, Vec<manifest::SavedFile>);

/// It stands still in CRIU's hands.
struct Held {
    run: Run,
    waiting: Waiting,
    /// Dropped: all that was made by now is all there is.
    barrier: OwnedFd,
    all: oneshot::Receiver<Vec<manifest::Image>>,
    caught: JoinHandle<io::Result<u64>>,
}

/// Writes the images, and tells when that was all.
struct Writes {
    draft: Arc<Draft>,
    writer: Option<Writer>,
    tell: Option<oneshot::Sender<Vec<manifest::Image>>>,
    /// How often something was written.
    count: Arc<AtomicU64>,
    /// Why it could not be.
    broken: Arc<Mutex<Option<io::Error>>>,
}

impl Writes {
    fn noted<T>(&self, written: io::Result<T>) -> io::Result<T> {
        self.count.fetch_add(1, Relaxed);
        written.map_err(|e| {
            let why = io::Error::new(e.kind(), e.to_string());
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            why
        })
    }

    fn writer(&mut self) -> io::Result<(&mut Writer, &Draft)> {
        let writer = self.writer.as_mut().ok_or(io::ErrorKind::InvalidData)?;
        Ok((writer, &self.draft))
    }
}

impl Sink for Writes {
    fn begin(&mut self, image: u32, name: &str) -> io::Result<()> {
        let (writer, draft) = self.writer()?;
        let begun = writer.begin(draft, image, name);
        self.noted(begun)
    }

    fn take(&mut self, image: u32, pipe: &File) -> io::Result<u64> {
        let (writer, draft) = self.writer()?;
        let taken = writer.take(draft, image, pipe);
        self.noted(taken)
    }

    fn idle(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn all(&mut self, _bytes: u64) -> io::Result<()> {
        let images = self.writer.take().map(Writer::finish).unwrap_or_default();
        let _ = self.tell.take().map(|tell| tell.send(images));
        Ok(())
    }
}

/// What remains of that when all is taken.
struct Taker {
    run: Run,
    waiting: Waiting,
    caught: JoinHandle<io::Result<u64>>,
}

impl Held {
    async fn freeze(saving: &Saving, draft: &Arc<Draft>) -> Result<Held, String> {
        let words = |e: io::Error| e.to_string();
        let criu = Criu::new(&saving.dir).map_err(words)?;
        let hooks = Hooks::new(criu.dir(), &saving.program).map_err(words)?;
        let door = images::capture_door(criu.dir()).map_err(words)?;
        let run = criu.dump(saving.init, &saving.names, &hooks).map_err(words)?;
        let again = || run.held().again().map_err(words);
        let (ended, ended_too, stuck) = (again()?, again()?, again()?);
        let (cut, barrier) = nix::unistd::pipe().map_err(|e| e.to_string())?;
        let (tell, all) = oneshot::channel();
        let (written, failed) =
            (Arc::<AtomicU64>::default(), Arc::<Mutex<Option<io::Error>>>::default());
        let (count, broken, draft) = (written.clone(), failed.clone(), draft.clone());
        let away = saving.job.home != saving.own;
        let caught = spawn_blocking(move || {
            let writer = Some(Writer::new(away));
            let mut writes = Writes { draft, writer, tell: Some(tell), count, broken };
            capture(&door, ended, cut, &mut writes)
        });
        let watch = tokio::spawn(watch(written, stuck));
        let waiting = spawn_blocking(move || hooks.wait(Step::Dumped, ended_too)).await;
        watch.abort();
        match waiting.map_err(|e| e.to_string())? {
            Ok(Some(waiting)) => Ok(Held { run, waiting, barrier, all, caught }),
            ended => {
                drop(barrier);
                if ended.is_err() {
                    run.kill();
                    let _ = caught.await;
                    return Err("CRIU was not heard".into());
                }
                let _ = caught.await;
                let why = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                let said =
                    spawn_blocking(move || run.finish()).await.map_err(|e| e.to_string())?;
                Err(match (why, said) {
                    (Some(why), _) => format!("it could not be written: {why}"),
                    (None, Err(e)) => e.to_string(),
                    (None, Ok(())) => "CRIU has ended too early".into(),
                })
            }
        }
    }

    /// Takes the rest: what is on its way to it, and its files.
    async fn take(
        self,
        saving: &Arc<Saving>,
        owner: &Caller,
        draft: &Arc<Draft>,
        still: mpsc::Sender<Still>,
    ) -> (Taker, Result<Taken, String>) {
        let Held { run, waiting, barrier, all, caught } = self;
        let taken = async {
            drop(barrier);
            let images = all.await.map_err(|_| "the images could not be written")?;
            let (ask, told) = oneshot::channel();
            still.send(ask).await.map_err(|_| "its holder is gone")?;
            let told =
                told.await.map_err(|_| "its holder is gone")?.map_err(|e| e.to_string())?;
            let mut files = Vec::new();
            if saving.order.files {
                let (init, owner, draft) = (saving.init, owner.clone(), draft.clone());
                let copied = spawn_blocking(move || files::copy(init, &owner, &draft)).await;
                files = copied.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            }
            // What they have done since CRIU let go of them would be in one part, and not in the
            // others.
            match wait_readable(run.held().as_fd(), Duration::ZERO) {
                Ok(false) => Ok((told, images, files)),
                _ => Err("CRIU was ended".into()),
            }
        };
        let late = || "it could not be written in time".to_owned();
        let taken = timeout(TAKE_MAX, taken).await.unwrap_or_else(|_| Err(late()));
        (Taker { run, waiting, caught }, taken)
    }
}

impl Taker {
    /// It goes on.
    async fn let_go(self) {
        self.waiting.refuse();
        let run = self.run;
        // That it was refused is what it says.
        let _ = spawn_blocking(move || run.finish()).await;
        let _ = self.caught.await;
    }
}

/// Ends CRIU when nothing is written any more: a disk, or a node, that does not answer is not to
/// hold up the job.
async fn watch(written: Arc<AtomicU64>, criu: krg_sys::process::PidFd) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        sleep_until(Instant::now() + LOOK_AGAIN).await;
        match written.load(Relaxed) {
            now if now != last => (last, since) = (now, Instant::now()),
            _ if since.elapsed() > STALLED_MAX => {
                let _ = criu.signal(Signal::SIGKILL);
                return;
            }
            _ => {}
        }
    }
}

/// Stops a job, to be saved and ended without doing anything more in between.
pub async fn stop(init: u32) -> Frost {
    spawn_blocking(move || Frost::over(init)).await.unwrap_or_default()
}
