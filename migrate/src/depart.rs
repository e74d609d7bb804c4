//! A job leaves this node, as `plan::source` decides. It stands still from the moment CRIU begins;
//! from when the other side has it whole the record says whose it is, and until that is known
//! nothing of it runs here. Its processes get SIGSTOP while CRIU holds them, so that they stay
//! where they are even if CRIU and their holder die before that.

use crate::cluster::{Cluster, Record};
use crate::criu::{Criu, Run};
use crate::fault;
use crate::hook::{self, Clock, Hooks, Waiting};
use crate::images;
use crate::images::capture::{Sink, capture};
use crate::images::freight::Freight;
use crate::locks;
use crate::members;
use crate::plan::source::{Source, Step};
use crate::plan::{Event, Move, Wrote};
use krg_rpc::bulk::{Breaker, Preface};
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::proto::job::{Arrival, Arrived, Begin, Frozen, Moved, Phase, arrival, arrived};
use krg_rpc::tonic::Streaming;
use krg_sys::process::{PidFd, Signal};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// The other side is ready within this.
pub(crate) const READY_MAX: Duration = Duration::from_secs(15);
/// And has all of it whole, after the last of it was sent.
pub(crate) const PREPARED_MAX: Duration = Duration::from_secs(60);
/// It says so that it runs.
pub(crate) const RUNS_MAX: Duration = Duration::from_secs(20);
/// Between questions whose it is.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A connection for its images is made within this.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What is said on its way.
pub(crate) const SAID: usize = 4;
const NONSENSE: &str = "the other node says what makes no sense";
const NOT_HELD: &str = "it is not held";

/// A job that is to leave.
pub struct Departure {
    /// All that is told of it.
    pub begin: Begin,
    /// Where to.
    pub to: u32,
    /// Its first process here.
    pub init: u32,
    /// As CRIU names what leads out of it.
    pub names: Vec<String>,
    /// For CRIU's sockets and logs.
    pub dir: PathBuf,
    /// The program that is the hook too.
    pub program: PathBuf,
    /// What is agreed of it, with its revision.
    pub record: (Option<Record>, u64),
}

/// It stands still: its holder is to stop what flows, and to tell what was on its way.
pub type Still = oneshot::Sender<io::Result<Frozen>>;

/// Moves it. While it does, `still` is asked for once.
///
/// # Errors
/// Why it has not: then it runs here as before.
pub async fn depart(
    mut leaving: Departure,
    cluster: &Arc<dyn Cluster>,
    still: mpsc::Sender<Still>,
) -> Result<Moved, String> {
    may_leave(&leaving)?;
    leaving.begin.revision = recorded(&leaving, cluster).await?;
    let mut leaver = Leaver::new(leaving, cluster.clone(), still);
    let mut plan = Source::default();
    while !plan.is_over() {
        let step = plan.step();
        if let Some(name) = point_before(step) {
            fault::point(name).await;
        }
        plan.hear(leaver.does(step).await);
    }
    leaver.outcome(plan.step())
}

/// Where a test may hold it.
fn point_before(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::Dump => "ready",
        Step::Fence => "dumped",
        Step::TakeBack => "fenced",
        Step::Hear => "sent",
        Step::Commit => "prepared",
        Step::Undo => "undoing",
        Step::End => "committed",
        Step::SayGo => "ended",
        _ => return None,
    })
}

/// What the time until here was for.
fn phase_of(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::Announce => "ready",
        Step::Dump => "dump",
        Step::Send => "send",
        Step::Hear => "restore",
        Step::Commit => "commit",
        Step::SayGo => "resume",
        _ => return None,
    })
}

fn may_leave(leaving: &Departure) -> Result<(), String> {
    let Begin { home, from, .. } = leaving.begin;
    if home != from && locks::are_abroad() {
        return Err(locks::ABROAD.into());
    }
    match &leaving.record.0 {
        // A record of another job that had its number.
        Some(record) if record.lost.is_some() && home == from => Ok(()),
        Some(record) if record.lost.is_some() => Err("its home has ended it".into()),
        Some(record) if record.holder != from => {
            Err(format!("it is agreed that it is on node {}", record.holder))
        }
        None if home != from => Err("its home has ended it".into()),
        _ => Ok(()),
    }
}

/// The revision of its record, which it gets now if it has none: nothing that is written for a job
/// without one, or for another of its number, can come to hold for this.
async fn recorded(leaving: &Departure, cluster: &Arc<dyn Cluster>) -> Result<u64, String> {
    let words = |e: io::Error| e.to_string();
    let (record, revision) = &leaving.record;
    if record.as_ref().is_some_and(|record| record.lost.is_none()) {
        return Ok(*revision);
    }
    let Begin { job, home, from, moves, .. } = leaving.begin;
    let first =
        Record { home, holder: from, moves: moves.saturating_sub(1), ..Record::default() };
    cluster.set_record(job, Some(&first), *revision).await.map_err(words)?;
    match cluster.record(job).await.map_err(words)? {
        (Some(now), revision) if now == first => Ok(revision),
        _ => Err("it could not be agreed on where it is".into()),
    }
}

/// What does the steps of the plan.
struct Leaver {
    leaving: Departure,
    this: Move,
    cluster: Arc<dyn Cluster>,
    still: mpsc::Sender<Still>,
    clock: Clock,
    frozen: Clock,
    phases: Vec<Phase>,
    say: Option<mpsc::Sender<Arrival>>,
    answers: Option<Streaming<Arrived>>,
    freight: Option<(Freight, Breaker)>,
    held: Option<Held>,
    told: Option<Frozen>,
    image_bytes: u64,
    frozen_us: u64,
    has_asked: bool,
    /// What has not gone well.
    why: Option<String>,
}

impl Leaver {
    fn new(leaving: Departure, cluster: Arc<dyn Cluster>, still: mpsc::Sender<Still>) -> Leaver {
        Leaver {
            this: Move::of(&leaving.begin, leaving.to),
            leaving,
            cluster,
            still,
            clock: Clock::start(),
            frozen: Clock::start(),
            phases: Vec::new(),
            say: None,
            answers: None,
            freight: None,
            held: None,
            told: None,
            image_bytes: 0,
            frozen_us: 0,
            has_asked: false,
            why: None,
        }
    }

    async fn does(&mut self, step: Step) -> Event {
        let done = match step {
            Step::Announce => self.announce().await,
            Step::Dump => self.dump().await,
            Step::Fence => self.fence(),
            Step::TakeBack => self.take_back().await,
            Step::Send => self.send().await,
            Step::Hear => self.hear().await,
            Step::Commit => return self.write(self.this.committed(), step).await,
            Step::Undo => return self.write(self.this.undone(), step).await,
            Step::Ask => return self.ask().await,
            Step::LetGo => {
                if let Some(held) = self.held.take() {
                    held.let_go().await;
                }
                Ok(())
            }
            Step::End | Step::Lose => {
                if let Some(held) = self.held.take() {
                    held.end(self.leaving.init).await;
                }
                Ok(())
            }
            Step::SayGo => self.say_go().await,
            Step::Moved | Step::Stayed | Step::Lost => Ok(()),
        };
        match done {
            Ok(()) => {
                self.lap(step);
                Event::Done
            }
            Err(why) => {
                self.why.get_or_insert(why);
                Event::Failed
            }
        }
    }

    fn lap(&mut self, step: Step) {
        if let Some(name) = phase_of(step) {
            self.phases.push(Phase { name: name.into(), us: self.clock.lap_us() });
        }
    }

    fn outcome(self, step: Step) -> Result<Moved, String> {
        let Leaver { phases, image_bytes, frozen_us, why, .. } = self;
        let Begin { home, moves, .. } = self.leaving.begin;
        let moved = Moved { node: self.leaving.to, home, moves, ..Moved::default() };
        match step {
            Step::Moved => Ok(Moved { phases, image_bytes, frozen_us, ..moved }),
            Step::Lost => Err("its home has ended it".into()),
            _ => Err(why.unwrap_or_else(|| "the other node has broken it off".into())),
        }
    }

    /// Has the other side made ready.
    async fn announce(&mut self) -> Result<(), String> {
        let Departure { begin, to, .. } = &self.leaving;
        let channel = self.cluster.channel(*to).await.map_err(|e| e.to_string())?;
        let (say, said) = mpsc::channel(SAID);
        let first = arrival::What::Begin(begin.clone());
        let _ = say.send(Arrival { what: Some(first) }).await;
        let mut client = MovesClient::new(channel);
        let answers = timeout(READY_MAX, client.arrive(ReceiverStream::new(said))).await;
        let answers = answers.map_err(|_| format!("node {to} does not answer"))?;
        let answers = answers.map_err(|status| krg_rpc::status::why(&status))?;
        (self.say, self.answers) = (Some(say), Some(answers.into_inner()));
        match self.answer(READY_MAX).await? {
            arrived::What::Ready(_) => {}
            _ => return Err(NONSENSE.into()),
        }
        let Departure { begin, to, .. } = &self.leaving;
        self.freight = Some(freight_to(&*self.cluster, begin, *to).await?);
        Ok(())
    }

    async fn answer(&mut self, most: Duration) -> Result<arrived::What, String> {
        let node = self.leaving.to;
        let answers = self.answers.as_mut().ok_or("nobody was asked")?;
        let told = timeout(most, answers.message()).await;
        let told = told.map_err(|_| format!("node {node} does not answer"))?;
        // What that node has against it comes as an answer: all else is the connection's own end.
        match told.ok().flatten().and_then(|told| told.what) {
            Some(arrived::What::Failed(why)) => Err(format!("node {node}: {why}")),
            Some(what) => Ok(what),
            None => Err(format!("node {node} has broken it off")),
        }
    }

    async fn dump(&mut self) -> Result<(), String> {
        self.frozen = Clock::start();
        let (freight, breaker) = self.freight.take().ok_or("nobody waits for it")?;
        self.held = Some(Held::freeze(&self.leaving, freight, breaker).await?);
        Ok(())
    }

    fn fence(&mut self) -> Result<(), String> {
        let held = self.held.as_mut().ok_or(NOT_HELD)?;
        held.fence(self.leaving.init);
        // If it has died before that, what they have done since is in no image.
        match held.is_let_go() {
            true => Err("CRIU was ended".into()),
            false => Ok(()),
        }
    }

    async fn take_back(&mut self) -> Result<(), String> {
        let (ask, told) = oneshot::channel();
        self.still.send(ask).await.map_err(|_| "its holder is gone")?;
        let told = told.await.map_err(|_| "its holder is gone")?;
        self.told = Some(told.map_err(|e| e.to_string())?);
        Ok(())
    }

    async fn send(&mut self) -> Result<(), String> {
        let told = self.told.take().ok_or("nothing was told")?;
        self.image_bytes = self.held.as_mut().ok_or(NOT_HELD)?.send_last().await?;
        let say = self.say.as_ref().ok_or("nobody listens")?;
        let what = Some(arrival::What::Frozen(told));
        say.send(Arrival { what }).await.map_err(|_| "the other node takes no more")?;
        Ok(())
    }

    async fn hear(&mut self) -> Result<(), String> {
        match self.answer(PREPARED_MAX).await? {
            arrived::What::Prepared(_) => Ok(()),
            _ => Err(NONSENSE.into()),
        }
    }

    async fn write(&mut self, record: Record, step: Step) -> Event {
        let Move { revision, .. } = self.this;
        let job = self.leaving.begin.job;
        let wrote = match self.cluster.set_record(job, Some(&record), revision).await {
            Ok(true) => Wrote::Yes,
            Ok(false) => Wrote::No,
            Err(e) => {
                tracing::warn!(job, error = %e, "not known whose it is now");
                self.why.get_or_insert_with(|| "it could not be agreed on".into());
                Wrote::Unknown
            }
        };
        self.lap(step);
        Event::Wrote(wrote)
    }

    async fn ask(&mut self) -> Event {
        if std::mem::replace(&mut self.has_asked, true) {
            sleep_until(Instant::now() + ASK_AGAIN).await;
        }
        let job = self.leaving.begin.job;
        match self.cluster.record(job).await {
            Ok((record, revision)) => Event::Read(self.this.whose(record.as_ref(), revision)),
            Err(e) => {
                tracing::warn!(job, error = %e, "not known whose it is now");
                Event::Unread
            }
        }
    }

    async fn say_go(&mut self) -> Result<(), String> {
        if let Some(say) = &self.say {
            let _ = say.send(Arrival { what: Some(arrival::What::Go(true)) }).await;
        }
        let told = self.answer(RUNS_MAX).await;
        let frozen_us = Hooks::frozen_us(&self.leaving.dir);
        self.frozen_us = frozen_us.unwrap_or_else(|| self.frozen.lap_us());
        if !matches!(told, Ok(arrived::What::Runs(_))) {
            // It is the other's: that one asks the record if it has not heard.
            tracing::warn!(job = self.leaving.begin.job, ?told, "not heard that it runs");
        }
        Ok(())
    }
}

/// A way for the images of a job that a node waits for.
pub(crate) async fn freight_to(
    cluster: &dyn Cluster,
    begin: &Begin,
    to: u32,
) -> Result<(Freight, Breaker), String> {
    let whom = Preface { job: begin.job, trace: begin.trace.clone() };
    let bulk = timeout(CONNECT_MAX, cluster.images_to(to, &whom)).await;
    let bulk = bulk.map_err(|_| format!("node {to} does not answer"))?;
    let bulk = bulk.map_err(|e| format!("node {to} takes no images: {e}"))?;
    let breaker = bulk.breaker();
    Ok((Freight::new(bulk.sender()), breaker))
}

/// Sends the images, and tells when that was all.
struct Sends {
    freight: Freight,
    tell: Option<oneshot::Sender<u64>>,
}

impl Sink for Sends {
    fn begin(&mut self, image: u32, name: &str) -> io::Result<()> {
        self.freight.begin(image, name)
    }

    fn take(&mut self, image: u32, pipe: &File) -> io::Result<u64> {
        self.freight.take(image, pipe)
    }

    fn idle(&mut self) -> io::Result<()> {
        self.freight.idle()
    }

    fn all(&mut self, bytes: u64) -> io::Result<()> {
        self.freight.all(bytes)?;
        let _ = self.tell.take().map(|tell| tell.send(bytes));
        Ok(())
    }
}

/// It stands still in CRIU's hands.
struct Held {
    run: Option<Run>,
    waiting: Option<Waiting>,
    /// Dropped: all that was made by now is all that is sent.
    barrier: Option<std::os::fd::OwnedFd>,
    breaker: Breaker,
    caught: tokio::task::JoinHandle<io::Result<u64>>,
    sent: Option<oneshot::Receiver<u64>>,
    /// They were stopped before, by their user.
    still: Vec<u32>,
    /// They were stopped by us.
    stopped: Vec<PidFd>,
}

impl Held {
    async fn freeze(
        leaving: &Departure,
        freight: Freight,
        breaker: Breaker,
    ) -> Result<Held, String> {
        let words = |e: io::Error| e.to_string();
        let criu = Criu::new(&leaving.dir).map_err(words)?;
        let hooks = Hooks::new(criu.dir(), &leaving.program).map_err(words)?;
        let door = images::capture_door(criu.dir()).map_err(words)?;
        let is_stopped = |pid: &u32| {
            krg_sys::process::stat(*pid).ok().flatten().is_some_and(|stat| stat.state == 'T')
        };
        let still = members::all(leaving.init).into_iter().filter(is_stopped).collect();
        let run = criu.dump(leaving.init, &leaving.names, &hooks).map_err(words)?;
        let (ended, ended_too) = (run.held().again(), run.held().again());
        let (ended, ended_too) = (ended.map_err(words)?, ended_too.map_err(words)?);
        let (cut, barrier) = nix::unistd::pipe().map_err(|e| e.to_string())?;
        let (tell, sent) = oneshot::channel();
        let caught = spawn_blocking(move || {
            let mut sends = Sends { freight, tell: Some(tell) };
            capture(&door, ended, cut, &mut sends)
        });
        let waiting = spawn_blocking(move || hooks.wait(hook::Step::Dumped, ended_too)).await;
        let waiting = waiting.map_err(|e| e.to_string())?.map_err(words);
        let mut held = Held {
            run: Some(run),
            waiting: None,
            barrier: Some(barrier),
            breaker,
            caught,
            sent: Some(sent),
            still,
            stopped: Vec::new(),
        };
        match waiting {
            Ok(Some(waiting)) => {
                held.waiting = Some(waiting);
                Ok(held)
            }
            Ok(None) => Err(match held.run.take().map(Run::finish) {
                Some(Err(e)) => e.to_string(),
                _ => "CRIU has ended too early".into(),
            }),
            Err(why) => {
                held.let_go().await;
                Err(why)
            }
        }
    }

    /// From now on they do not run even if CRIU lets them go. It comes after the images were made,
    /// so that they know nothing of it.
    fn fence(&mut self, init: u32) {
        let all = members::all(init).into_iter().filter(|pid| !self.still.contains(pid));
        for process in all.filter_map(|pid| PidFd::open(pid).ok().flatten()) {
            if let Ok(true) = process.signal(Signal::SIGSTOP) {
                self.stopped.push(process);
            }
        }
    }

    /// Does CRIU hold them no more?
    fn is_let_go(&self) -> bool {
        self.run.as_ref().is_none_or(Run::is_over)
    }

    /// The other side gets the last of the images; how many bytes they were.
    async fn send_last(&mut self) -> Result<u64, String> {
        self.barrier = None;
        let sent = self.sent.take().ok_or("sent already")?;
        sent.await.map_err(|_| "the other node takes no more".into())
    }

    /// It runs on here. What has them go on comes before CRIU lets them go: then they never stop.
    async fn let_go(mut self) {
        // Nobody wants the rest of it.
        self.breaker.pull();
        for process in self.stopped.drain(..) {
            let _ = process.signal(Signal::SIGCONT);
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.refuse();
        }
        self.finish().await;
    }

    /// It is another's now.
    async fn end(mut self, init: u32) {
        if let Ok(Some(first)) = PidFd::open(init) {
            let _ = first.signal(Signal::SIGKILL);
        }
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.go(None);
        }
        self.finish().await;
        // All of its namespace has ended before it can be waited for.
        let _ = spawn_blocking(move || krg_sys::process::reap(init)).await;
    }

    async fn finish(mut self) {
        self.barrier = None;
        if let Some(run) = self.run.take() {
            // That what it was killing is dead already is no news.
            let _ = spawn_blocking(move || run.finish()).await;
        }
        let _ = self.caught.await;
    }
}
