//! A simulated cluster with one job: three nodes, holders that follow the plans, CRIU's hold on the
//! job's processes, the record, messages, and everything that may die. All chance is from a seed.

use krg_migrate::cluster::{Lost, Record};
use krg_migrate::plan::Move;
use krg_migrate::plan::keep::{self, Keep};
use krg_migrate::plan::source::Source;
use krg_migrate::plan::target::Target;
use std::collections::VecDeque;

pub const NODES: u32 = 3;
pub const HOME: u32 = 1;
/// Looks of a node's keeper before it says that what a holder had is lost.
const GRACE: u32 = 40;

/// What a plan that is wrong would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    None,
    /// The source's processes are not stopped before the target has them.
    NoFence,
    /// The source goes on without having written that it does.
    ResumeUnwritten,
    /// The target runs as soon as it is whole.
    RunBeforeGo,
    /// The target takes the job at whatever revision its record has.
    ClaimAnyRevision,
    /// A job that has a home no more runs on.
    StayHomeless,
}

/// splitmix64.
pub struct Chance {
    state: u64,
    /// Without it nothing goes wrong that is not made to.
    pub wild: bool,
}

impl Chance {
    pub fn new(seed: u64, wild: bool) -> Chance {
        Chance { state: seed, wild }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// In so many of a hundred times, if anything may go wrong.
    pub fn mishap(&mut self, percent: usize) -> bool {
        self.wild && self.below(100) < percent
    }
}

/// The job's processes on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Running,
    /// CRIU has saved them and holds them; are they stopped, too?
    Held(bool),
    /// Stopped, and nobody holds them.
    Stopped,
    /// CRIU has brought them back and holds them; does it live?
    Restored(bool),
}

#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub state: State,
    /// The last number that it has written.
    pub memory: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    Frozen(u64),
    Go,
    Ready,
    Prepared,
    Failed,
}

/// Between the two sides of a move.
#[derive(Default)]
pub struct Stream {
    pub to_target: VecDeque<Message>,
    pub to_source: VecDeque<Message>,
    pub broken: bool,
}

/// A write that was asked for.
pub struct Write {
    pub id: u64,
    pub record: Option<Record>,
    pub if_revision: u64,
    /// Whether it held, once that is decided.
    pub held: Option<bool>,
}

/// One side of a move.
pub struct Side<P> {
    pub plan: P,
    pub this: Move,
    pub stream: usize,
    /// The step has begun: its outcome is waited for.
    pub begun: bool,
    pub write: Option<u64>,
    pub read: Option<(Option<Record>, u64)>,
    pub image: u64,
}

pub struct Holder {
    pub paused: bool,
    /// At home: the job is away. Elsewhere: it has not come yet.
    pub away: bool,
    pub source: Option<Side<Source>>,
    pub target: Option<Side<Target>>,
}

pub struct Node {
    pub up: bool,
    pub krgd: bool,
    pub cut: bool,
    pub holder: Option<Holder>,
    pub copy: Option<Copy>,
    /// Looks in which its own guest was not to be found.
    missed: u32,
}

pub struct World {
    pub chance: Chance,
    pub mutation: Mutation,
    pub nodes: Vec<Node>,
    pub record: Option<Record>,
    pub revision: u64,
    revisions: u64,
    pub writes: Vec<Write>,
    ids: u64,
    pub streams: Vec<Stream>,
    /// The last number in the job's file.
    pub written: u64,
    pub moves: u32,
    /// What was started with it has died.
    pub home_died: bool,
    /// Its starter was told that it is lost.
    pub told_lost: bool,
    /// Something else has died that may have had it.
    pub holder_died: bool,
    pub log: Vec<String>,
}

pub type Outcome = Result<(), String>;

impl World {
    pub fn new(seed: u64, wild: bool, mutation: Mutation) -> World {
        let node =
            |_| Node { up: true, krgd: true, cut: false, holder: None, copy: None, missed: 0 };
        let mut nodes: Vec<Node> = (0..=NODES).map(node).collect();
        nodes[HOME as usize].holder =
            Some(Holder { paused: false, away: false, source: None, target: None });
        nodes[HOME as usize].copy = Some(Copy { state: State::Running, memory: 0 });
        World {
            chance: Chance::new(seed, wild),
            mutation,
            nodes,
            record: None,
            revision: 0,
            revisions: 0,
            writes: Vec::new(),
            ids: 0,
            streams: Vec::new(),
            written: 0,
            moves: 0,
            home_died: false,
            told_lost: false,
            holder_died: false,
            log: Vec::new(),
        }
    }

    pub fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    pub fn say(&mut self, what: String) {
        self.log.push(what);
    }

    /// Most nodes can agree.
    fn can_agree(&self) -> bool {
        let able = self.nodes[1..].iter().filter(|node| node.up && node.krgd && !node.cut);
        able.count() > NODES as usize / 2
    }

    pub fn reaches_record(&self, node: u32) -> bool {
        let node = &self.nodes[node as usize];
        node.up && node.krgd && !node.cut && self.can_agree()
    }

    pub fn reaches(&self, from: u32, to: u32) -> bool {
        let (from, to) = (&self.nodes[from as usize], &self.nodes[to as usize]);
        from.up && to.up && to.krgd && !from.cut && !to.cut
    }

    pub fn ask_write(&mut self, record: Option<Record>, if_revision: u64) -> u64 {
        self.ids += 1;
        self.writes.push(Write { id: self.ids, record, if_revision, held: None });
        self.ids
    }

    /// One of the writes that are on their way comes to hold, or not.
    pub fn apply(&mut self, at: usize) {
        if !self.can_agree() {
            return;
        }
        let Some(write) = self.writes.get_mut(at).filter(|write| write.held.is_none()) else {
            return;
        };
        let holds = write.if_revision == self.revision;
        write.held = Some(holds);
        if holds {
            self.revisions += 1;
            self.record = write.record.clone();
            self.revision = if self.record.is_some() { self.revisions } else { 0 };
            let words = format!("  record {}: {:?}", self.revision, self.record);
            self.say(words);
        }
    }

    /// It is never heard of again, or may come to hold much later.
    pub fn lose(&mut self, at: usize) {
        if self.writes.get(at).is_some_and(|write| write.held.is_none()) {
            self.writes.remove(at);
        }
    }

    /// A connection ends; what was on its way may have come.
    pub fn break_stream(&mut self, at: usize) {
        let Some(stream) = self.streams.get_mut(at).filter(|stream| !stream.broken) else {
            return;
        };
        stream.broken = true;
        let queues = [&mut stream.to_target, &mut stream.to_source];
        for queue in queues {
            let kept = self.chance.below(queue.len() + 1);
            if self.chance.wild {
                queue.truncate(kept);
            }
        }
    }

    pub fn break_streams_of(&mut self, node: u32) {
        let holder = self.nodes[node as usize].holder.as_ref();
        let sides = holder.map(|holder| {
            let source = holder.source.as_ref().map(|side| side.stream);
            [source, holder.target.as_ref().map(|side| side.stream)]
        });
        for stream in sides.into_iter().flatten().flatten() {
            self.break_stream(stream);
        }
    }

    /// A running copy writes its next number.
    pub fn work(&mut self, node: u32) -> Outcome {
        let written = self.written;
        let Some(copy) = &mut self.node(node).copy else { return Ok(()) };
        if copy.state != State::Running {
            return Ok(());
        }
        copy.memory += 1;
        let number = copy.memory;
        if number != written + 1 {
            return Err(format!("node {node} writes {number} after {written}"));
        }
        self.written = number;
        Ok(())
    }

    pub fn running(&self) -> Vec<u32> {
        let is_running = |node: &u32| {
            self.nodes[*node as usize].copy.is_some_and(|copy| copy.state == State::Running)
        };
        (1..=NODES).filter(is_running).collect()
    }

    /// Never two.
    pub fn check(&self) -> Outcome {
        match self.running() {
            two if two.len() > 1 => Err(format!("it runs on {two:?}")),
            _ => Ok(()),
        }
    }

    /// krgd puts away what nobody holds, and writes what became of it.
    pub fn keeper(&mut self, node: u32) {
        if !self.nodes[node as usize].krgd || !self.nodes[node as usize].up {
            return;
        }
        let is_held = self.nodes[node as usize].holder.is_some();
        if !is_held {
            self.node(node).copy = None;
        }
        let Some(record) = self.record.clone().filter(|_| self.reaches_record(node)) else {
            return;
        };
        match keep::keep(&record, node, is_held, |_| true) {
            Keep::Mark(lost) => {
                self.node(node).missed += 1;
                if lost == Lost::Home || self.nodes[node as usize].missed > GRACE {
                    self.node(node).missed = 0;
                    let revision = self.revision;
                    self.ask_write(Some(Record { lost: Some(lost), ..record }), revision);
                }
            }
            Keep::Leave | Keep::Forget => self.node(node).missed = 0,
        }
    }
}
