//! State machine safety (the Raft paper, figure 3): whoever has applied an index has the same state
//! there, to the last byte; and each revision changed the same rows on every node.

use super::Invariant;
use crate::sim::oracle::Now;
use crate::sim::world::{Heard, mix};
use krg_meta::state::State;
use std::collections::BTreeMap;

/// The whole state is hashed at every so many-th index: it takes time.
const EVERY: u64 = 8;

#[derive(Default)]
pub struct StateMachineSafety {
    states: BTreeMap<u64, u64>,
    changes: BTreeMap<u64, u64>,
}

fn hash(state: &State) -> u64 {
    mix((state.revision, state.now_ms, state.stored()))
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news() {
            let index = glance.view.applied_index();
            if index % EVERY == 0 || self.states.contains_key(&index) {
                let here = hash(&glance.view.state);
                if *self.states.entry(index).or_insert(here) != here {
                    let revision = glance.view.state.revision;
                    let who = glance.member;
                    return Err(format!("{who} differs at entry {index}, revision {revision}"));
                }
            }
        }
        for (machine, _, heard) in now.heard {
            let Heard::Event(event) = heard else { continue };
            let rows = event.changes.iter().map(|c| (c.table, c.key.clone(), c.value.clone()));
            let here = mix(rows.collect::<Vec<_>>());
            if *self.changes.entry(event.revision).or_insert(here) != here {
                let revision = event.revision;
                return Err(format!("revision {revision} is another one on machine {machine}"));
            }
        }
        Ok(())
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let Some(first) = now.glances.first() else { return Err("nobody is there".into()) };
        let (index, state) = (first.view.applied, hash(&first.view.state));
        let other =
            now.glances.iter().find(|g| g.view.applied != index || hash(&g.view.state) != state);
        match other {
            None => Ok(()),
            Some(g) => Err(format!("{} and {} differ in the end", first.member, g.member)),
        }
    }
}
