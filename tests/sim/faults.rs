//! What goes wrong in a run, and when: drawn from the seed. Each run has its own mixture, so that
//! some faults are alone and some are all at once.

use super::cluster::Cluster;
use super::orders::Order;
use super::world::{MACHINES, name};
use krg_types::MemberId;
use openraft::ServerState;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kinds of faults.
const KINDS: usize = 13;
/// Links are slow up to here, ms.
const SLOW_MS_MAX: u64 = 400;
/// And otherwise.
const QUICK_MS: u64 = 12;
/// Who waits for papers asks again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(1_500);
/// An order to leave may lie with a slow machine for so long, and be carried out then.
const LEAVING: Duration = Duration::from_secs(15);
/// The cluster is not made smaller than this.
const MEMBERS_MIN: usize = 3;
/// Every batch that was not synced is kept: the process died, not the machine.
const ALL: usize = usize::MAX;

/// What ends a fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Undo {
    Restart(usize),
    Repair(usize, usize),
    Release(usize, usize),
    Quicken(usize, usize),
}

/// Who brings the faults.
pub struct Faults {
    rng: StdRng,
    weights: [u32; KINDS],
    pause_ms: u64,
    next: Duration,
    undo: BTreeSet<(Duration, Undo)>,
    /// Machines that wait for papers: who they were, and when they asked last.
    joining: BTreeMap<usize, (Option<MemberId>, Duration)>,
    /// When somebody was last told to leave.
    left: Option<Duration>,
    /// Links are held or cut, not both: the simulated network cannot.
    cut: BTreeSet<(usize, usize)>,
}

impl Faults {
    pub fn new(cluster: &Cluster) -> Faults {
        let mut rng = cluster.world.rng("faults");
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = if rng.gen_bool(0.6) { rng.gen_range(1..10) } else { 0 };
        }
        // There is always somebody who comes: one machine alone is no cluster.
        weights[0] = weights[0].max(4);
        let pause_ms = [100, 300, 1_000, 2_000][rng.gen_range(0..4)];
        let (undo, joining, left, cut) = Default::default();
        Faults { rng, weights, pause_ms, next: Duration::ZERO, undo, joining, left, cut }
    }

    /// The first machines come before anything goes wrong.
    pub fn gather(&mut self, count: usize) {
        for machine in 1..count {
            self.joining.insert(machine, (None, Duration::ZERO));
        }
    }

    /// Do all who asked have their papers?
    pub fn is_gathered(&self) -> bool {
        self.joining.is_empty()
    }

    /// What is due now.
    pub fn step(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        self.upkeep(cluster);
        if now < self.next {
            return;
        }
        let pause_ms = self.rng.gen_range(self.pause_ms / 2..self.pause_ms * 2);
        self.next = now + Duration::from_millis(pause_ms);
        let total: u32 = self.weights.iter().sum();
        let mut drawn = self.rng.gen_range(0..total);
        let kind = self.weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        self.bring(cluster, kind.unwrap_or(0));
    }

    /// What ends by itself: faults, waiting for papers, memberships.
    pub fn upkeep(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        while let Some((at, undo)) = self.undo.first().copied()
            && at <= now
        {
            self.undo.remove(&(at, undo));
            self.end(cluster, undo);
        }
        for machine in 0..MACHINES {
            let own = cluster.world.slot(machine).meta.as_ref().map(|meta| meta.view());
            let told = cluster.world.slot(machine).told;
            if told || own.is_some_and(|view| cluster.is_dismissed(machine, &view)) {
                cluster.dismiss(machine);
            }
            // It has failed, was stopped, or got papers that it had not asked for again.
            let has_papers = cluster.world.slot(machine).papers.is_some();
            let waits = has_papers
                && !cluster.is_up(machine)
                && !self.undo.iter().any(|(_, undo)| *undo == Undo::Restart(machine));
            if waits {
                self.later(cluster, 200..3_000, Undo::Restart(machine));
            }
        }
        self.papers(cluster);
    }

    fn papers(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        for (machine, (was, asked)) in self.joining.clone() {
            if cluster.world.slot(machine).papers.is_some() {
                self.joining.remove(&machine);
                cluster.restart(machine, ALL);
                continue;
            }
            let running = cluster.running();
            if now < asked + ASK_AGAIN || running.is_empty() {
                continue;
            }
            let newest = cluster.newest();
            let still = was.filter(|was| {
                let known = |view: &krg_meta::published::View| {
                    let state = &view.state;
                    let after = state.members().any(|(_, node)| node.superseded == Some(*was));
                    let unheard = state.info().newest_serial < was.serial();
                    unheard || state.member(*was).is_some() || after
                };
                newest.as_ref().is_none_or(|view| known(view))
            });
            self.joining.insert(machine, (still, now));
            let by = running[self.rng.gen_range(0..running.len())];
            cluster.order(
                by,
                match still {
                    Some(was) => Order::Readmit(machine, was),
                    None => Order::Admit(machine),
                },
            );
        }
    }

    fn later(&mut self, cluster: &Cluster, ms: std::ops::Range<u64>, undo: Undo) {
        let after = Duration::from_millis(self.rng.gen_range(ms));
        self.undo.insert((cluster.now() + after, undo));
    }

    fn one(&mut self, of: &[usize]) -> Option<usize> {
        (!of.is_empty()).then(|| of[self.rng.gen_range(0..of.len())])
    }

    fn bring(&mut self, cluster: &mut Cluster, kind: usize) {
        let running = cluster.running();
        let Some(victim) = self.one(&running) else { return };
        match kind {
            0 => self.join(cluster),
            1 => self.leave(cluster),
            // In good order; it is started again like one that failed.
            3 if self.rng.gen_bool(0.5) => drop(cluster.order(victim, Order::Stop)),
            2 | 3 => {
                // Power, or only the process.
                let kept = if kind == 3 { ALL } else { self.rng.gen_range(0..4) };
                cluster.crash(victim, kept);
                self.later(cluster, 50..6_000, Undo::Restart(victim));
            }
            4 => {
                let side: BTreeSet<usize> =
                    (0..MACHINES).filter(|_| self.rng.gen_bool(0.5)).collect();
                self.part(cluster, &side, 300..8_000);
            }
            5 => self.part(cluster, &BTreeSet::from([victim]), 300..8_000),
            6 => {
                let leader = leader(cluster).unwrap_or(victim);
                self.part(cluster, &BTreeSet::from([leader]), 300..6_000);
            }
            7 => {
                let other = self.rng.gen_range(0..MACHINES);
                if other != victim && !self.cut.contains(&pair(victim, other)) {
                    self.cut.insert(pair(victim, other));
                    cluster.sim.partition_oneway(name(victim), name(other));
                    let (one, other) = pair(victim, other);
                    self.later(cluster, 300..6_000, Undo::Repair(one, other));
                }
            }
            8 => self.hold(cluster, victim),
            9 => {
                let other = self.rng.gen_range(0..MACHINES);
                if other != victim {
                    let slow = Duration::from_millis(self.rng.gen_range(20..SLOW_MS_MAX));
                    cluster.sim.set_link_max_message_latency(name(victim), name(other), slow);
                    let (one, other) = pair(victim, other);
                    self.later(cluster, 1_000..10_000, Undo::Quicken(one, other));
                }
            }
            10 => {
                let slot = cluster.world.slot(victim);
                match self.rng.gen_bool(0.5) {
                    true => slot.store.set_room(Some(self.rng.gen_range(0..20_000))),
                    false => slot.store.set_syncs_fail(true),
                }
            }
            11 => self.wipe(cluster),
            _ => drop(cluster.order(victim, Order::Snapshot)),
        }
    }

    fn join(&mut self, cluster: &mut Cluster) {
        let outside = |n: &usize| cluster.world.slot(*n).papers.is_none();
        let outside: Vec<usize> =
            (0..MACHINES).filter(outside).filter(|n| !self.joining.contains_key(n)).collect();
        if let Some(machine) = self.one(&outside) {
            self.joining.insert(machine, (None, Duration::ZERO));
        }
    }

    fn leave(&mut self, cluster: &mut Cluster) {
        let Some(view) = cluster.newest() else { return };
        let staying = view.state.members().filter(|(_, node)| !node.leaving);
        let staying: Vec<MemberId> = staying.map(|(member, _)| member).collect();
        let running = cluster.running();
        if staying.len() <= MEMBERS_MIN || !self.joining.is_empty() {
            return;
        }
        let node = staying[self.rng.gen_range(0..staying.len())].node();
        if let Some((by, node)) = self.one(&running).zip(node) {
            self.left = Some(cluster.now());
            cluster.order(by, Order::Leave(node));
        }
    }

    /// Cuts a side off from the others.
    fn part(&mut self, cluster: &mut Cluster, side: &BTreeSet<usize>, ms: std::ops::Range<u64>) {
        let after = cluster.now() + Duration::from_millis(self.rng.gen_range(ms));
        for one in 0..MACHINES {
            for other in one + 1..MACHINES {
                if side.contains(&one) != side.contains(&other) && self.cut.insert((one, other)) {
                    cluster.sim.partition(name(one), name(other));
                    self.undo.insert((after, Undo::Repair(one, other)));
                }
            }
        }
    }

    /// As if the machine stood still: what it says and hears waits.
    fn hold(&mut self, cluster: &mut Cluster, machine: usize) {
        let after = cluster.now() + Duration::from_millis(self.rng.gen_range(100..5_000));
        for other in (0..MACHINES).filter(|other| *other != machine) {
            if self.cut.insert(pair(machine, other)) {
                cluster.sim.hold(name(machine), name(other));
                let (one, other) = pair(machine, other);
                self.undo.insert((after, Undo::Release(one, other)));
            }
        }
    }

    /// Only if a majority of the voters keeps its stores, whatever happens until it is replaced:
    /// so not while somebody leaves, when two may have to do for three.
    fn wipe(&mut self, cluster: &mut Cluster) {
        let members: Vec<usize> =
            (0..MACHINES).filter(|n| cluster.world.slot(*n).papers.is_some()).collect();
        let Some(victim) = self.one(&members) else { return };
        let Some(papers) = cluster.world.slot(victim).papers else { return };
        let wiped = super::world::lock(&cluster.world.wiped).clone();
        let leaves = self.left.is_some_and(|at| cluster.now() < at + LEAVING);
        let safe = leader(cluster).is_some()
            && self.joining.is_empty()
            && !leaves
            && cluster.newest().is_some_and(|view| view.state.members().all(|(_, n)| !n.leaving))
            && cluster.oracle.glances().all(|glance| {
                let stored = &glance.metrics.membership_config;
                let configs = stored.membership().get_joint_config();
                let applied = glance.metrics.last_applied >= *stored.log_id();
                let whole = |voters: &BTreeSet<MemberId>| {
                    voters.len() >= 3 && !voters.iter().any(|voter| wiped.contains(voter))
                };
                configs.len() == 1 && applied && configs.iter().all(whole)
            });
        let is_member = cluster.newest().is_some_and(|view| {
            view.state.member(papers.member).is_some_and(|node| !node.leaving)
        });
        if safe && is_member {
            let was = cluster.wipe(victim);
            self.joining.insert(victim, (was, cluster.now()));
        }
    }

    fn end(&mut self, cluster: &mut Cluster, undo: Undo) {
        match undo {
            Undo::Restart(machine) => {
                let kept = self.rng.gen_range(0..3);
                cluster.restart(machine, kept);
            }
            Undo::Repair(one, other) => {
                self.cut.remove(&(one, other));
                cluster.sim.repair(name(one), name(other));
            }
            Undo::Release(one, other) => {
                self.cut.remove(&(one, other));
                cluster.sim.release(name(one), name(other));
            }
            Undo::Quicken(one, other) => {
                let quick = Duration::from_millis(QUICK_MS);
                cluster.sim.set_link_max_message_latency(name(one), name(other), quick);
            }
        }
    }

    /// Ends all faults.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        for (_, undo) in std::mem::take(&mut self.undo) {
            self.end(cluster, undo);
        }
        for machine in 0..MACHINES {
            let store = cluster.world.slot(machine).store.clone();
            store.set_room(None);
            store.set_syncs_fail(false);
            cluster.restart(machine, 0);
        }
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// The machine that leads, as far as can be seen.
fn leader(cluster: &Cluster) -> Option<usize> {
    let leads = cluster.oracle.glances().filter(|g| g.metrics.state == ServerState::Leader);
    leads.max_by_key(|g| g.metrics.current_term).map(|g| g.machine)
}
