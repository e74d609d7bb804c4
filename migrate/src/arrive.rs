//! A job comes to this node. What is made of it here does not run before the other side has said
//! that it is gone there; if that side is not heard any more, the record decides, and when nobody
//! has written there whose the job is, it is this node's from then on.

use crate::checkpoint::frost::Frost;
use crate::checkpoint::host::Host;
use crate::cluster::Cluster;
use crate::criu::{Criu, Run};
use crate::fault;
use crate::hook::{self, Clock, Hooks, Waiting};
use crate::images;
use crate::images::freight;
use crate::images::store::Images;
use crate::inside::{End, Inside};
use crate::job::Job;
use crate::locks::{self, Lock};
use crate::members;
use crate::place;
use crate::plan::target::{Step, Target};
use crate::plan::{Event, Move, Wrote};
use crate::root::ROOT;
use krg_rpc::proto::job::{Arrival, Arrived, Begin, Frozen, Prepared, arrival, arrived};
use krg_sys::feature::has_pid_blocks;
use krg_sys::open_file::open_file;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

/// The connection for its images comes within this, and what was on its way with it after them.
const FREIGHT_MAX: Duration = Duration::from_secs(60);
/// What the images themselves take is bounded where they come.
const IMAGES_MAX: Duration = Duration::from_secs(86_400);
const BROKEN_OFF: &str = "it was broken off while it came";
/// It is agreed on within this, or asked whether it was.
const GO_MAX: Duration = Duration::from_secs(10);
/// Between questions whose it is.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What the other side says and hears: messages of an `Arrive` call.
pub struct Other {
    /// It says.
    pub says: mpsc::Receiver<Arrival>,
    /// It hears.
    pub hears: mpsc::Sender<Arrived>,
}

impl Other {
    async fn tell(&self, what: arrived::What) {
        // If it is gone that shows in what it does not say.
        let _ = self.hears.send(Arrived { what: Some(what) }).await;
    }

    async fn next(&mut self, most: Duration) -> Option<arrival::What> {
        timeout(most, self.says.recv()).await.ok()??.what
    }
}

/// A job that has come, and what was on its way to and from it.
pub struct Come {
    /// Which.
    pub job: Job,
    /// It.
    pub inside: Inside,
    /// What goes on.
    pub frozen: Frozen,
    /// To be kept until the job has its place here.
    pub scratch: Scratch,
}

/// The directory of an arrival, which is put away when this is dropped.
pub struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Why a job has not come.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotCome {
    /// In words.
    pub why: String,
    /// It is agreed that it is here, and it is nowhere.
    pub is_lost: bool,
}

/// What an arrival needs of this node.
pub struct Ground {
    /// The other nodes.
    pub cluster: Arc<dyn Cluster>,
    /// Where jobs have their places.
    pub places: PathBuf,
    /// The program that is the hook too.
    pub program: PathBuf,
}

/// Takes it in, as `plan::target` decides. Its place is taken, and the tree of its home is there
/// already.
///
/// # Errors
/// Why it has not come; the other side was told.
pub async fn arrive(begin: Begin, other: &mut Other, ground: Ground) -> Result<Come, NotCome> {
    let dir = place::criu_dir(&ground.places, begin.job, &begin.trace);
    let taken = take_in(begin, other, ground).await;
    match taken {
        Ok(come) => {
            other.tell(arrived::What::Runs(true)).await;
            Ok(come)
        }
        Err(not_come) => {
            // What CRIU has left of it, should that have been killed.
            let _ = spawn_blocking(move || place::clear(&dir)).await;
            other.tell(arrived::What::Failed(not_come.why.clone())).await;
            Err(not_come)
        }
    }
}

async fn take_in(begin: Begin, other: &mut Other, ground: Ground) -> Result<Come, NotCome> {
    let job = Job::hear(&begin).map_err(|why| NotCome { why, is_lost: false })?;
    let mut taker = Taker::new(begin, job, other, ground);
    let mut plan = Target::default();
    while !plan.is_over() {
        let step = plan.step();
        if let Some(name) = point_before(step) {
            fault::point(name).await;
        }
        plan.hear(taker.does(step).await);
    }
    let is_lost = plan.step() == Step::Lost;
    let Taker { come, why, .. } = taker;
    let why = why.unwrap_or_else(|| "the other node has broken it off".into());
    come.ok_or(NotCome { why, is_lost })
}

/// Where a test may hold it.
fn point_before(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::Restore => "received",
        Step::Hear => "restored",
        Step::Claim => "claiming",
        Step::Release => "going",
        _ => return None,
    })
}

/// Does the steps of the plan.
struct Taker<'a> {
    begin: Begin,
    this: Move,
    job: Job,
    other: &'a mut Other,
    ground: Ground,
    ready: Option<Ready>,
    images: Images,
    frozen: Option<Frozen>,
    locks: Vec<Lock>,
    run: Option<Run>,
    waiting: Option<Waiting>,
    served: Option<JoinHandle<io::Result<()>>>,
    outside: Option<(File, String, Vec<End>)>,
    restore_us: u64,
    has_asked: bool,
    come: Option<Come>,
    /// What has not gone well.
    why: Option<String>,
}

/// Waits for it to come.
struct Ready {
    hooks: Hooks,
    door: UnixListener,
    freight: tokio::net::UnixListener,
    ends: Vec<End>,
    report: File,
    report_name: String,
}

impl<'a> Taker<'a> {
    fn new(begin: Begin, job: Job, other: &'a mut Other, ground: Ground) -> Taker<'a> {
        Taker {
            this: Move::of(&begin, ground.cluster.own()),
            begin,
            job,
            other,
            ground,
            ready: None,
            images: Images::default(),
            frozen: None,
            locks: Vec::new(),
            run: None,
            waiting: None,
            served: None,
            outside: None,
            restore_us: 0,
            has_asked: false,
            come: None,
            why: None,
        }
    }

    async fn does(&mut self, step: Step) -> Event {
        if matches!(step, Step::Hear | Step::Claim) && self.run.as_ref().is_none_or(Run::is_over)
        {
            self.why.get_or_insert_with(|| "CRIU was ended".into());
            return Event::Died;
        }
        let done = match step {
            Step::Prepare => self.prepare().await,
            Step::Receive => self.receive().await,
            Step::Restore => self.restore().await,
            Step::Hear => self.hear().await,
            Step::Ask => return self.ask().await,
            Step::Claim => return self.claim().await,
            Step::Release => self.release().await,
            Step::Refuse => {
                self.refuse().await;
                Ok(())
            }
            Step::Runs | Step::NotCome | Step::Lost => Ok(()),
        };
        match done {
            Ok(()) => Event::Done,
            Err(why) => {
                self.why.get_or_insert(why);
                Event::Failed
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), String> {
        let dir = place::criu_dir(&self.ground.places, self.job.id, &self.begin.trace);
        let criu = Criu::new(&dir).map_err(words)?;
        place::mark_coming(&dir, self.job.pids.unwrap_or_default()).map_err(words)?;
        if !self.begin.host.is_empty() {
            let saved = Host::read(&self.begin.host)?;
            let here = criu.version().and_then(Host::here).map_err(words)?;
            saved.fits(&here).map_err(|e| e.to_string())?;
        }
        let hooks = Hooks::new(criu.dir(), &self.ground.program).map_err(words)?;
        let door = images::serve_door(criu.dir()).map_err(words)?;
        let freight = freight::door(criu.dir()).map_err(words)?;
        let Made { ends, theirs, report, report_name } = Made::new(&self.begin).map_err(words)?;
        // It waits for the first image: so its start is over when they come.
        self.run = Some(criu.restore(theirs, &hooks).map_err(words)?);
        self.ready = Some(Ready { hooks, door, freight, ends, report, report_name });
        let paths = std::mem::take(&mut self.begin.paths);
        spawn_blocking(move || look_up(&paths));
        fault::point("arriving").await;
        self.other.tell(arrived::What::Ready(true)).await;
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), String> {
        let door = &self.ready.as_ref().ok_or("it is not ready")?.freight;
        let bulk = tokio::select! {
            bulk = freight::taken(door, &*self.ground.cluster, self.begin.from) => bulk,
            // There is nothing to be said before they have come.
            _ = self.other.next(FREIGHT_MAX) => return Err(BROKEN_OFF.into()),
        };
        let bulk = bulk.map_err(words)?;
        let breaker = bulk.breaker();
        let mut coming = spawn_blocking(move || freight::receive(bulk));
        let (mut images, mut frozen) = (None, None);
        while images.is_none() || frozen.is_none() {
            let most = if images.is_none() { IMAGES_MAX } else { FREIGHT_MAX };
            tokio::select! {
                come = &mut coming, if images.is_none() => {
                    let come = come.map_err(|e| e.to_string())?;
                    images = Some(come.map_err(|e| format!("{BROKEN_OFF}: {e}"))?);
                }
                said = self.other.next(most), if frozen.is_none() => match said {
                    Some(arrival::What::Frozen(told)) => frozen = Some(told),
                    _ => {
                        breaker.pull();
                        return Err(BROKEN_OFF.into());
                    }
                },
            }
        }
        (self.images, self.frozen) = (images.unwrap_or_default(), frozen);
        let locks = self.images.change(locks::IMAGE, locks::take_out).map_err(words)?;
        self.locks = locks.unwrap_or_default();
        Ok(())
    }

    async fn restore(&mut self) -> Result<(), String> {
        let mut clock = Clock::start();
        let ready = self.ready.take().ok_or("it is not ready")?;
        let Ready { hooks, door, ends, report, report_name, .. } = ready;
        let run = self.run.as_ref().ok_or("it is not ready")?;
        let (held, held_too) = (run.held().again(), run.held().again());
        let (held, held_too) = (held.map_err(words)?, held_too.map_err(words)?);
        let images = std::mem::take(&mut self.images);
        self.served = Some(spawn_blocking(move || images.serve(&door, held)));
        let waiting = spawn_blocking(move || hooks.wait(hook::Step::Restored, held_too)).await;
        match waiting.map_err(|e| e.to_string())? {
            Ok(Some(waiting)) => self.waiting = Some(waiting),
            Ok(None) | Err(_) => return Err(failed(self.run.take()).await),
        }
        self.outside = Some((report, report_name, ends));
        self.restore_us = clock.lap_us();
        Ok(())
    }

    /// The other side has killed its own.
    async fn hear(&mut self) -> Result<(), String> {
        let prepared = Prepared { restore_us: self.restore_us };
        self.other.tell(arrived::What::Prepared(prepared)).await;
        match self.other.next(GO_MAX).await {
            Some(arrival::What::Go(true)) => Ok(()),
            _ => {
                let (job, trace) = (self.job.id, &self.begin.trace);
                tracing::warn!(job, trace, "the other side is not heard");
                Err("the other node has broken it off".into())
            }
        }
    }

    async fn ask(&mut self) -> Event {
        if std::mem::replace(&mut self.has_asked, true) {
            sleep_until(Instant::now() + ASK_AGAIN).await;
        }
        match self.ground.cluster.record(self.job.id).await {
            Ok((record, revision)) => Event::Read(self.this.whose(record.as_ref(), revision)),
            Err(e) => {
                tracing::warn!(job = self.job.id, error = %e, "not known whose it is");
                Event::Unread
            }
        }
    }

    async fn claim(&mut self) -> Event {
        let (record, revision) = (self.this.committed(), self.this.revision);
        let cluster = &self.ground.cluster;
        Event::Wrote(match cluster.set_record(self.job.id, Some(&record), revision).await {
            Ok(true) => Wrote::Yes,
            Ok(false) => Wrote::No,
            Err(e) => {
                tracing::warn!(job = self.job.id, error = %e, "not known whose it is");
                Wrote::Unknown
            }
        })
    }

    async fn release(&mut self) -> Result<(), String> {
        let waiting = self.waiting.take().ok_or("it is not held")?;
        let init = waiting.init;
        let locks = std::mem::take(&mut self.locks);
        let again = spawn_blocking(move || locks::take_again(&locks, init)).await;
        if let Ok(Err(e)) = again {
            // It is this node's: it runs, and is told of.
            tracing::error!(job = self.job.id, error = %e, "a lock of it is lost: another has it");
        }
        // Should its holder be killed from here on, others know what to end.
        place::note(&self.ground.places, &self.job, init).map_err(words)?;
        waiting.go(numbers(&self.job, init)).map_err(words)?;
        let run = self.run.take().ok_or("it is not held")?;
        let finished = spawn_blocking(move || run.finish()).await;
        finished.map_err(|e| e.to_string())?.map_err(words)?;
        Frost::again(init, &self.begin.stopped).thaw(None);
        if let Some(Ok(Err(e))) = match self.served.take() {
            Some(served) => Some(served.await),
            None => None,
        } {
            tracing::debug!(job = self.job.id, error = %e, "images");
        }
        tracing::debug!(job = self.job.id, trace = self.begin.trace, init, "it has come");
        let (report, report_name, ends) = self.outside.take().ok_or("it has no ends")?;
        let inside = Inside::new(init, report, report_name, ends).map_err(words)?;
        let frozen = self.frozen.take().unwrap_or_default();
        let dir = place::criu_dir(&self.ground.places, self.job.id, &self.begin.trace);
        let (job, scratch) = (self.job.clone(), Scratch(dir));
        self.come = Some(Come { job, inside, frozen, scratch });
        Ok(())
    }

    async fn refuse(&mut self) {
        match (self.waiting.take(), self.run.take()) {
            (Some(waiting), run) => {
                waiting.refuse();
                let _ = failed(run).await;
            }
            // It waits for images, and has made nothing.
            (None, Some(run)) => {
                let _ = spawn_blocking(move || run.kill()).await;
            }
            (None, None) => {}
        }
    }
}

/// What the job has open is looked up once: each part of each name costs a question to its home,
/// and CRIU would ask them one after the other while it stands still.
fn look_up(paths: &[String]) {
    for path in paths {
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            let _ = std::fs::symlink_metadata(Path::new(ROOT).join(path));
        }
    }
}

fn words(e: io::Error) -> String {
    e.to_string()
}

async fn failed(run: Option<Run>) -> String {
    match spawn_blocking(move || run.map(Run::finish)).await {
        Ok(Some(Err(e))) => e.to_string(),
        _ => "CRIU has not brought it back".into(),
    }
}

/// The next number of its processes, and the last. The next follows the highest that is in use;
/// what is behind the last wraps around. A kernel that numbers all namespaces alike would number
/// the whole node so.
fn numbers(job: &Job, init: u32) -> Option<(u32, u32)> {
    job.pids.filter(|_| has_pid_blocks()).map(|(first, last)| {
        let next = members::highest(init) + 1;
        (if (first..=last).contains(&next) { next } else { first }, last)
    })
}

/// This side of what leads out of it.
pub(crate) struct Made {
    pub(crate) ends: Vec<End>,
    pub(crate) theirs: Vec<(OwnedFd, String)>,
    pub(crate) report: File,
    pub(crate) report_name: String,
}

impl Made {
    pub(crate) fn new(begin: &Begin) -> io::Result<Made> {
        let (mut ends, mut theirs) = (Vec::new(), Vec::new());
        for told in &begin.ends {
            let (end, fd) = End::again(told, begin.uid)?;
            ends.push(end);
            theirs.push((fd, told.name.clone()));
        }
        let (report, told) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let report_name = format!("pipe:[{}]", open_file(&told)?.ino);
        theirs.push((told, begin.report.clone()));
        Ok(Made { ends, theirs, report: File::from(report), report_name })
    }
}
