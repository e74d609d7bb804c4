//! What the simulated machines, their clients and whoever watches them share.

use super::history::History;
use super::orders::Order;
use krg_meta::Meta;
use krg_meta::memory::MemoryStore;
use krg_meta::watch::Event;
use krg_types::MemberId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;

/// Where every machine listens.
pub const PORT: u16 = 7600;
/// Machines of one run, in and out of the cluster.
pub const MACHINES: usize = 7;

/// Who a machine is in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Papers {
    pub member: MemberId,
    pub founder: bool,
}

/// One machine: what outlives its crashes, and a way into its present life.
#[derive(Default)]
pub struct Slot {
    pub papers: Option<Papers>,
    pub store: Arc<MemoryStore>,
    /// Lives of its daemon so far; durable.
    pub lives: u64,
    pub meta: Option<Meta>,
    pub orders: Option<mpsc::UnboundedSender<Order>>,
    /// Why its present life has ended by itself.
    pub ended: Option<String>,
    /// It was told that it is a member no more.
    pub told: bool,
    /// Its attempts to become a member; each has a key of its own.
    pub attempts: u64,
    /// The last revision that its watcher has.
    pub watched: u64,
}

/// What a watcher hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// It begins at this revision.
    Began(u64),
    Event(Event),
    /// Everything up to this revision is left out.
    Gap(u64),
}

/// Everything that is shared. One thread at a time has it: the locks never wait.
pub struct World {
    pub seed: u64,
    slots: Vec<Mutex<Slot>>,
    pub history: Mutex<History>,
    /// Machine, life, and what its watcher heard there.
    heard: Mutex<Vec<(usize, u64, Heard)>>,
    /// What went wrong where no invariant looks.
    broken: Mutex<Vec<String>>,
    clients: AtomicBool,
    /// The outcome of the last probe from each machine.
    pub probes: Mutex<BTreeMap<usize, Result<(), String>>>,
    /// Memberships whose store is gone.
    pub wiped: Mutex<Vec<MemberId>>,
    /// Snapshots come after so many entries, and leave so many behind them.
    pub snapshots: (u64, u64),
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The same number for the same things, in every run.
pub fn mix(things: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    things.hash(&mut hasher);
    hasher.finish()
}

/// The name of a machine on the network.
pub fn name(machine: usize) -> String {
    format!("n{}", machine + 1)
}

/// Where it listens.
pub fn address(machine: usize) -> String {
    format!("{}:{PORT}", name(machine))
}

/// Simulated time since the beginning; on a host, to within its step.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl World {
    pub fn new(seed: u64, snapshots: (u64, u64)) -> Arc<World> {
        Arc::new(World {
            seed,
            slots: (0..MACHINES).map(|_| Mutex::default()).collect(),
            history: Mutex::default(),
            heard: Mutex::default(),
            broken: Mutex::default(),
            clients: AtomicBool::new(true),
            probes: Mutex::default(),
            wiped: Mutex::default(),
            snapshots,
        })
    }

    pub fn slot(&self, machine: usize) -> MutexGuard<'_, Slot> {
        lock(&self.slots[machine])
    }

    /// A source of chance of its own for each purpose.
    pub fn rng(&self, purpose: impl Hash) -> StdRng {
        StdRng::seed_from_u64(mix((self.seed, purpose)))
    }

    pub fn hear(&self, machine: usize, life: u64, heard: Heard) {
        lock(&self.heard).push((machine, life, heard));
    }

    pub fn take_heard(&self) -> Vec<(usize, u64, Heard)> {
        std::mem::take(&mut *lock(&self.heard))
    }

    pub fn broke(&self, what: String) {
        lock(&self.broken).push(what);
    }

    pub fn broken(&self) -> Option<String> {
        lock(&self.broken).first().cloned()
    }

    pub fn clients_on(&self) -> bool {
        self.clients.load(Ordering::Relaxed)
    }

    pub fn stop_clients(&self) {
        self.clients.store(false, Ordering::Relaxed);
    }

    /// Which machine holds these papers.
    pub fn machine_of(&self, member: MemberId) -> Option<usize> {
        (0..MACHINES).find(|n| self.slot(*n).papers.is_some_and(|p| p.member == member))
    }
}
