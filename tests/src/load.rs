//! Clients that write, watch and read on every node all the time while a test does its worst, and
//! the check that what they were told was true.

use crate::talk::Talk;
use crate::{Lab, within};
use krg_rpc::proto::control::{ConfigEvent, ConfigWatchRequest};
use krg_types::limits::PROTOCOL_VERSION;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

/// Between two writes of one writer.
const PACE: Duration = Duration::from_millis(10);
/// Between two linearizable reads of one reader, and between tries to reach a node.
const READ_PACE: Duration = Duration::from_millis(50);
/// A write may take so long.
const WRITE_MAX: Duration = Duration::from_secs(3);
/// Once nothing is wrong any more, all nodes have the same within this.
const AGREE_MAX: Duration = Duration::from_secs(15);

/// A write that was acknowledged, or a read that was answered: the revision, and when.
#[derive(Clone, Debug)]
struct Told {
    what: String,
    revision: u64,
    begun: Instant,
    done: Instant,
}

/// What a watcher of one node saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Each key with its revision.
    keys: BTreeMap<String, u64>,
    /// The newest revision.
    last: u64,
    /// How often changes could not be told one by one.
    gaps: u32,
    /// While the present state is told after such a gap.
    catching_up: bool,
}

#[derive(Default)]
struct Story {
    acknowledged: Vec<Told>,
    reads: Vec<Told>,
    /// Every key that somebody tried to write.
    tried: BTreeSet<String>,
    seen: BTreeMap<u32, Seen>,
    /// What must never happen, in words.
    wrong: Vec<String>,
    errors: BTreeMap<String, u32>,
}

struct Shared {
    lab: String,
    prefix: String,
    story: Mutex<Story>,
}

impl Shared {
    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The clients, until `end`.
pub struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What came of it, in numbers.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Writes that were acknowledged.
    pub writes: usize,
    /// Linearizable reads that were answered.
    pub reads: usize,
    /// Gaps that watchers were told of.
    pub gaps: u32,
    /// Errors by their words.
    pub errors: BTreeMap<String, u32>,
}

static LOADS: AtomicU32 = AtomicU32::new(0);

impl Load {
    /// A writer, a watcher and a reader for each of the nodes.
    pub fn start(lab: &Lab, nodes: &[u32]) -> Load {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads");
        let n = LOADS.fetch_add(1, Ordering::Relaxed);
        let (lab, prefix) = (lab.name.clone(), format!("load{n}/"));
        let shared = Arc::new(Shared { lab, prefix, story: Mutex::default() });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for node in nodes.iter().copied() {
            let (s, stop) = (shared.clone(), stopped.clone());
            tasks.push(runtime.spawn(until(stop.clone(), write(s.clone(), node, stop.clone()))));
            tasks.push(runtime.spawn(read(s, node, stop)));
        }
        // Watchers stay to the end: they are to see the last write too.
        for node in nodes.iter().copied() {
            drop(runtime.spawn(watch_node(shared.clone(), node)));
        }
        Load { runtime, shared, stop, tasks }
    }

    /// How many writes have been acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.story().acknowledged.len()
    }

    /// Returns when a write that begins now, or later, is acknowledged.
    #[track_caller]
    pub fn goes_on(&self, limit: Duration) -> Duration {
        let now = Instant::now();
        within(limit, || {
            let story = self.shared.story();
            match story.acknowledged.iter().rev().take(1_000).any(|told| told.begun >= now) {
                true => Ok(()),
                false => Err(format!("no write goes through: {:?}", story.errors)),
            }
        });
        now.elapsed()
    }

    /// No write was acknowledged on `node` that began after `since`.
    #[track_caller]
    pub fn nothing_on(&self, node: u32, since: Instant) {
        let mine = format!("{}{node}/", self.shared.prefix);
        let story = self.shared.story();
        let after = story.acknowledged.iter().filter(|told| told.begun > since);
        let found: Vec<&Told> = after.filter(|told| told.what.starts_with(&mine)).collect();
        assert!(found.is_empty(), "node {node} acknowledged {found:?}");
    }

    /// Ends the clients and checks everything that they were told; `nodes` are up.
    #[track_caller]
    pub fn end(self, nodes: &[u32]) -> Sum {
        let _ = self.stop.send(true);
        let tasks = self.tasks;
        self.runtime.block_on(async {
            for task in tasks {
                let _ = task.await;
            }
        });
        let shared = &self.shared;
        within(AGREE_MAX, || {
            self.runtime.block_on(same_on(shared, nodes))?;
            watchers_saw_all(&shared.story(), nodes)
        });
        let story = shared.story();
        assert_eq!(story.wrong, Vec::<String>::new());
        assert_eq!(went_back(&story), Vec::<String>::new());
        let all: BTreeSet<u64> = story.acknowledged.iter().map(|t| t.revision).collect();
        assert_eq!(all.len(), story.acknowledged.len(), "a revision was given out twice");
        Sum {
            writes: story.acknowledged.len(),
            reads: story.reads.len(),
            gaps: story.seen.values().map(|seen| seen.gaps).sum(),
            errors: story.errors.clone(),
        }
    }
}

/// Does it until told to stop. A write that is under way is not dropped: its outcome counts.
async fn until(mut stop: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    let stopped = async {
        let _ = stop.wait_for(|stop| *stop).await;
        sleep_until(tokio::time::Instant::now() + WRITE_MAX + Duration::from_secs(2)).await;
    };
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

async fn write(shared: Arc<Shared>, node: u32, stop: watch::Receiver<bool>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut talk, mut n) = (None::<Talk>, 0);
    while !*stop.borrow() {
        ticks.tick().await;
        let Some(to) = &talk else {
            talk = Talk::to(&shared.lab, node).await.ok();
            continue;
        };
        n += 1;
        let key = format!("{}{node}/{n}", shared.prefix);
        shared.story().tried.insert(key.clone());
        let begun = Instant::now();
        let said = to.set(&key, &format!("{node}.{n}"), Some(0), WRITE_MAX).await;
        let done = Instant::now();
        let mut story = shared.story();
        match said {
            Ok(reply) if reply.done => {
                let revision = reply.revision;
                story.acknowledged.push(Told { what: key, revision, begun, done });
            }
            // Nobody else writes it: this very write was done twice.
            Ok(_) => story.wrong.push(format!("{key} was there before it was written")),
            Err(words) => {
                *story.errors.entry(words).or_default() += 1;
                talk = None;
            }
        }
    }
}

async fn read(shared: Arc<Shared>, node: u32, stop: watch::Receiver<bool>) {
    let mut ticks = interval(READ_PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut talk = None::<Talk>;
    while !*stop.borrow() {
        ticks.tick().await;
        let Some(to) = &talk else {
            talk = Talk::to(&shared.lab, node).await.ok();
            continue;
        };
        let begun = Instant::now();
        match to.get("no such key", true).await {
            Ok(reply) => {
                let (what, revision) = (format!("a read on node {node}"), reply.revision);
                let done = Instant::now();
                shared.story().reads.push(Told { what, revision, begun, done });
            }
            Err(_) => talk = None,
        }
    }
}

async fn watch_node(shared: Arc<Shared>, node: u32) {
    let mut ticks = interval(READ_PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(talk) = Talk::to(&shared.lab, node).await else { continue };
        let from = shared.story().seen.entry(node).or_default().last + 1;
        let ask = ConfigWatchRequest {
            version: PROTOCOL_VERSION,
            key: shared.prefix.clone(),
            prefix: true,
            from,
        };
        let Ok(Ok(events)) = timeout(WRITE_MAX, talk.client().config_watch(ask)).await else {
            continue;
        };
        let mut events = events.into_inner();
        while let Ok(Some(event)) = events.message().await {
            let mut story = shared.story();
            let story = &mut *story;
            let seen = story.seen.entry(node).or_default();
            if let Err(words) = seen.take(event) {
                story.wrong.push(format!("node {node}: {words}"));
            }
        }
    }
}

impl Seen {
    /// Each revision once, in order; after a gap, what is there now.
    fn take(&mut self, event: ConfigEvent) -> Result<(), String> {
        let ConfigEvent { revision, key, gap, .. } = event;
        if gap {
            self.gaps += 1;
            self.catching_up = true;
        }
        if !key.is_empty() {
            let before = self.keys.insert(key.clone(), revision);
            match before {
                Some(at) if !self.catching_up => {
                    return Err(format!("{key} of {at} came once more, as of {revision}"));
                }
                Some(at) if at != revision => {
                    return Err(format!("{key} of revision {at} is of {revision} now"));
                }
                _ => {}
            }
        }
        if revision <= self.last && !self.catching_up {
            return Err(format!("{key} of revision {revision} came after {}", self.last));
        }
        self.last = self.last.max(revision);
        Ok(())
    }
}

/// Is every acknowledged write on each of these nodes, as of its revision, and nothing that nobody
/// wrote?
async fn same_on(shared: &Shared, nodes: &[u32]) -> Result<(), String> {
    let mut first: Option<Vec<_>> = None;
    for node in nodes {
        let said = Talk::to(&shared.lab, *node).await?.get(&shared.prefix, false).await?;
        if said.stale {
            return Err(format!("node {node} has no leader"));
        }
        if let Some(first) = &first {
            if *first != said.pairs {
                return Err(format!("node {node} has not what another has"));
            }
            continue;
        }
        let there: BTreeMap<&str, u64> =
            said.pairs.iter().map(|pair| (pair.key.as_str(), pair.revision)).collect();
        let story = shared.story();
        for told in &story.acknowledged {
            let at = there.get(told.what.as_str());
            if at != Some(&told.revision) {
                return Err(format!("node {node}: {told:?} is lost: {at:?}"));
            }
        }
        if let Some(key) = there.keys().find(|key| !story.tried.contains(**key)) {
            return Err(format!("node {node}: nobody wrote {key}"));
        }
        first = Some(said.pairs);
    }
    Ok(())
}

fn watchers_saw_all(story: &Story, nodes: &[u32]) -> Result<(), String> {
    for node in nodes {
        let Some(seen) = story.seen.get(node) else { continue };
        for told in &story.acknowledged {
            let at = seen.keys.get(&told.what);
            if at != Some(&told.revision) {
                return Err(format!("the watcher of node {node} did not see {told:?}: {at:?}"));
            }
        }
    }
    Ok(())
}

/// Whatever began after something was told has a revision after it: a write a later one, a read
/// the same at least.
fn went_back(story: &Story) -> Vec<String> {
    let mut all: Vec<(&Told, bool)> = story.acknowledged.iter().map(|t| (t, true)).collect();
    all.extend(story.reads.iter().map(|t| (t, false)));
    let mut ended: Vec<&Told> = all.iter().map(|(told, _)| *told).collect();
    ended.sort_by_key(|told| told.done);
    all.sort_by_key(|(told, _)| told.begun);
    let (mut found, mut newest, mut at) = (Vec::new(), None::<&Told>, 0);
    for (told, is_write) in all {
        while let Some(before) = ended.get(at).filter(|before| before.done < told.begun) {
            newest = newest.filter(|n| n.revision >= before.revision).or(Some(before));
            at += 1;
        }
        let Some(newest) = newest else { continue };
        let good = match is_write {
            true => told.revision > newest.revision,
            false => told.revision >= newest.revision,
        };
        if !good {
            found.push(format!("{told:?} began after {newest:?}"));
        }
    }
    found
}
