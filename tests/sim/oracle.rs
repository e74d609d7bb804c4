//! Looks at every machine after each step and asks every invariant whether it still holds.

use super::invariants::{self, Invariant};
use super::world::{Heard, MACHINES, World, mix};
use krg_meta::keys::Keys;
use krg_meta::log::decode_entry;
use krg_meta::published::View;
use krg_meta::raft::LogId;
use krg_meta::store::Store;
use krg_types::MemberId;
use krg_types::limits::GROUP_MAIN;
use openraft::{BasicNode, RaftMetrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One machine that runs, as it is now.
#[derive(Clone)]
pub struct Glance {
    pub machine: usize,
    pub life: u64,
    pub member: MemberId,
    pub metrics: RaftMetrics<MemberId, BasicNode>,
    pub view: Arc<View>,
    /// Its log: each entry's place and a hash of it.
    pub log: Arc<BTreeMap<u64, (LogId, u64)>>,
    /// From here on its log may differ from what was seen last.
    pub log_from: u64,
}

/// What an invariant looks at.
pub struct Now<'a> {
    /// Those that run.
    pub glances: &'a [Glance],
    /// Those of them that have changed since the last look.
    pub changed: &'a [usize],
    pub heard: &'a [(usize, u64, Heard)],
    pub world: &'a World,
}

impl<'a> Now<'a> {
    /// Those that have changed.
    pub fn news(&self) -> impl Iterator<Item = &'a Glance> {
        let (glances, changed) = (self.glances, self.changed);
        glances.iter().filter(move |glance| changed.contains(&glance.machine))
    }
}

/// All invariants, and what was seen last.
pub struct Oracle {
    invariants: Vec<Box<dyn Invariant>>,
    last: Vec<Option<Glance>>,
    /// A hash of everything that was seen: the same for the same seed.
    pub trace: u64,
    /// How often something had changed.
    pub looks: u64,
}

impl Oracle {
    pub fn new() -> Oracle {
        let last = (0..MACHINES).map(|_| None).collect();
        Oracle { invariants: invariants::all(), last, trace: 0, looks: 0 }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// Which invariant does not hold, and how.
    pub fn look(&mut self, world: &World, at: Duration) -> Result<(), String> {
        let changed: Vec<usize> = (0..MACHINES).filter(|n| self.refresh(world, *n)).collect();
        let heard = world.take_heard();
        if let Some(broken) = world.broken() {
            return Err(broken);
        }
        if changed.is_empty() && heard.is_empty() {
            return Ok(());
        }
        self.looks += 1;
        let glances: Vec<Glance> = self.last.iter().flatten().cloned().collect();
        for glance in glances.iter().filter(|glance| changed.contains(&glance.machine)) {
            self.trace = mix((self.trace, at, glance.machine, fingerprint(glance)));
        }
        let now = Now { glances: &glances, changed: &changed, heard: &heard, world };
        for invariant in &mut self.invariants {
            let held = invariant.look(&now);
            held.map_err(|why| format!("{}: {why}", invariant.name()))?;
        }
        Ok(())
    }

    /// Asks what can only be asked at the end.
    ///
    /// # Errors
    /// As `look`.
    pub fn end(&mut self, world: &World) -> Result<(), String> {
        let glances: Vec<Glance> = self.last.iter().flatten().cloned().collect();
        let now = Now { glances: &glances, changed: &[], heard: &[], world };
        for invariant in &mut self.invariants {
            let held = invariant.end(&now);
            held.map_err(|why| format!("{}: {why}", invariant.name()))?;
        }
        let history = format!("{:?}", super::world::lock(&world.history).all);
        self.trace = mix((self.trace, history));
        Ok(())
    }

    /// The machines that run, as they were seen last.
    pub fn glances(&self) -> impl Iterator<Item = &Glance> {
        self.last.iter().flatten()
    }

    /// Looks at one machine; has it changed?
    fn refresh(&mut self, world: &World, machine: usize) -> bool {
        let slot = world.slot(machine);
        let Some(meta) = &slot.meta else {
            return self.last[machine].take().is_some();
        };
        let (view, life) = (meta.view(), slot.lives);
        let receiver = meta.metrics();
        let metrics = receiver.borrow();
        let old = self.last[machine].take().filter(|old| old.life == life);
        if let Some(old) = &old
            && Arc::ptr_eq(&old.view, &view)
            && same(&old.metrics, &metrics)
        {
            self.last[machine] = Some(Glance { log_from: u64::MAX, ..old.clone() });
            return false;
        }
        // What was applied before does not change any more; the rest is read anew.
        let log_from = old.as_ref().map_or(0, |old| old.view.applied_index());
        let mut log = old.map_or_else(Arc::default, |old| old.log);
        read_log(Arc::make_mut(&mut log), slot.store.as_ref(), log_from);
        if let Some(purged) = metrics.purged {
            let log = Arc::make_mut(&mut log);
            *log = log.split_off(&(purged.index + 1));
        }
        let (member, metrics) = (meta.own(), metrics.clone());
        self.last[machine] = Some(Glance { machine, life, member, metrics, view, log, log_from });
        true
    }
}

/// Times since something are left out: they change all the time.
fn same(
    one: &RaftMetrics<MemberId, BasicNode>,
    other: &RaftMetrics<MemberId, BasicNode>,
) -> bool {
    (one.vote, one.state, one.last_log_index, one.last_applied, one.current_leader)
        == (
            other.vote,
            other.state,
            other.last_log_index,
            other.last_applied,
            other.current_leader,
        )
        && one.membership_config.log_id() == other.membership_config.log_id()
        && (one.snapshot, one.purged) == (other.snapshot, other.purged)
}

fn fingerprint(glance: &Glance) -> String {
    let m = &glance.metrics;
    let numbers = (glance.life, glance.member, m.vote, m.state, m.last_log_index, m.last_applied);
    format!("{numbers:?} {:?} {:?} {:?}", m.current_leader, m.snapshot, m.purged)
}

fn read_log(log: &mut BTreeMap<u64, (LogId, u64)>, store: &dyn Store, from: u64) {
    let keys = Keys(GROUP_MAIN);
    log.split_off(&from);
    let found = store.range(&keys.entry(from), &keys.entries_end(), usize::MAX);
    for (_, bytes) in found.unwrap_or_default() {
        if let Ok(entry) = decode_entry(&bytes) {
            log.insert(entry.log_id.index, (entry.log_id, mix(&bytes)));
        }
    }
}
