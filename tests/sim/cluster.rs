//! The simulated machines and their network, step by step.

use super::host;
use super::oracle::Oracle;
use super::orders::Order;
use super::world::{MACHINES, Papers, World, lock, name};
use krg_meta::memory::MemoryStore;
use krg_meta::published::View;
use krg_types::{MemberId, NodeId};
use rand::Rng;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use turmoil::{Builder, Sim};

thread_local! {
    /// What panicked on this thread, even where nobody waits for the task.
    pub static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Messages take so long at least and, where nothing is wrong, at most.
const LATENCY_MS: (u64, u64) = (1, 12);
/// Bytes of messages that one connection holds; more would be a panic of the simulation.
const SEGMENTS_MAX: usize = 1 << 20;
/// A simulated run never takes so long.
const RUN_MAX: Duration = Duration::from_secs(3600);

/// The machines, and who watches them.
pub struct Cluster {
    pub sim: Sim<'static>,
    pub world: Arc<World>,
    pub oracle: Oracle,
    /// Who runs, as far as is known: a machine whose daemon has ended is found out.
    up: [bool; MACHINES],
}

impl Cluster {
    /// One founder, and machines that are of no cluster yet.
    pub fn new(seed: u64) -> Cluster {
        krg_meta::runtime::seed_this_thread(seed);
        PANICKED.take();
        let snapshots = match seed % 3 {
            0 => (10_000, 2_000),
            1 => (200, 50),
            _ => (40, 5),
        };
        let world = World::new(seed, snapshots);
        let mut rng = world.rng("network");
        let tick_ms = [1, 3, 5, 5, 8][rng.gen_range(0..5)];
        let mut builder = Builder::new();
        builder
            .rng_seed(rng.r#gen())
            .epoch(SystemTime::UNIX_EPOCH + RUN_MAX)
            .simulation_duration(RUN_MAX)
            .tick_duration(Duration::from_millis(tick_ms))
            .min_message_latency(Duration::from_millis(LATENCY_MS.0))
            .max_message_latency(Duration::from_millis(LATENCY_MS.1))
            .tcp_capacity(SEGMENTS_MAX)
            .enable_random_order();
        let mut sim = builder.build();
        let one = NodeId::new(1).unwrap();
        world.slot(0).papers = Some(Papers { member: MemberId::new(one, 1), founder: true });
        for machine in 0..MACHINES {
            let world = world.clone();
            sim.host(name(machine), move || host::live(world.clone(), machine));
        }
        let mut up = [false; MACHINES];
        up[0] = true;
        Cluster { sim, world, oracle: Oracle::new(), up }
    }

    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// One step of everything, then a look at it.
    ///
    /// # Errors
    /// What does not hold.
    pub fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|e| format!("a host failed: {e}"))?;
        if let Some(what) = PANICKED.take() {
            return Err(format!("panic: {what}"));
        }
        let now = self.now();
        self.oracle.look(&self.world, now)
    }

    /// Is its daemon running?
    pub fn is_up(&mut self, machine: usize) -> bool {
        if self.world.slot(machine).ended.is_some() {
            self.up[machine] = false;
        }
        self.up[machine]
    }

    /// Machines whose daemon runs.
    pub fn running(&mut self) -> Vec<usize> {
        (0..MACHINES).filter(|n| self.is_up(*n)).collect()
    }

    /// The power fails, or the daemon is killed: so many batches that were not synced are kept.
    pub fn crash(&mut self, machine: usize, kept: usize) {
        {
            let mut slot = self.world.slot(machine);
            // First, so that nothing is written while the daemon's parts are dropped.
            let found = slot.store.crash_keeping(kept);
            slot.store = found;
        }
        self.sim.crash(name(machine));
        self.clear(machine);
    }

    fn clear(&mut self, machine: usize) {
        let mut slot = self.world.slot(machine);
        (slot.meta, slot.orders) = (None, None);
        self.up[machine] = false;
    }

    /// The daemon starts again, with room on its disk.
    pub fn restart(&mut self, machine: usize, kept: usize) {
        if self.is_up(machine) || self.world.slot(machine).papers.is_none() {
            return;
        }
        {
            let mut slot = self.world.slot(machine);
            let found = slot.store.crash_keeping(kept);
            found.set_room(None);
            slot.store = found;
            slot.ended = None;
        }
        self.sim.bounce(name(machine));
        self.up[machine] = true;
    }

    /// The store is gone for good, and with it the membership.
    pub fn wipe(&mut self, machine: usize) -> Option<MemberId> {
        self.crash(machine, 0);
        let mut slot = self.world.slot(machine);
        slot.store = MemoryStore::new();
        slot.attempts += 1;
        let was = slot.papers.take().map(|papers| papers.member);
        lock(&self.world.wiped).extend(was);
        was
    }

    /// A machine that is a member no more begins anew, outside.
    pub fn dismiss(&mut self, machine: usize) {
        self.wipe(machine);
        let mut slot = self.world.slot(machine);
        (slot.watched, slot.told, slot.ended) = (0, false, None);
    }

    /// Gives an order to a machine's administrator; is there one?
    pub fn order(&mut self, machine: usize, order: Order) -> bool {
        let slot = self.world.slot(machine);
        slot.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }

    /// The newest state that anybody has.
    pub fn newest(&self) -> Option<Arc<View>> {
        let views = self.oracle.glances().map(|glance| glance.view.clone());
        views.max_by_key(|view| view.applied_index())
    }

    /// Was this machine a member, and is none any more?
    pub fn is_dismissed(&mut self, machine: usize, by: &View) -> bool {
        let slot = self.world.slot(machine);
        let Some(papers) = slot.papers else { return false };
        let known = by.state.info().newest_serial >= papers.member.serial();
        known && by.state.member(papers.member).is_none()
    }

    /// How everybody stands, for whoever has to find out what went wrong.
    pub fn standing(&mut self) -> String {
        let mut lines = Vec::new();
        for machine in 0..MACHINES {
            let up = self.is_up(machine);
            let slot = self.world.slot(machine);
            let member = slot.papers.map(|papers| papers.member.to_string());
            let metrics = slot.meta.as_ref().map(|meta| meta.metrics().borrow().to_string());
            let ended = slot.ended.clone().unwrap_or_default();
            let name = name(machine);
            lines.push(format!("{name} {member:?} up {up} {ended} {metrics:?}"));
        }
        lines.join("\n")
    }
}
