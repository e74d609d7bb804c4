//! A member whose store is gone has no vote any more (the Raft paper, section 5.2: votes are on
//! stable storage; a voter that forgot its vote could give it twice): nothing runs under its
//! number, and nobody begins to lead under it.

use super::Invariant;
use crate::sim::oracle::Now;
use crate::sim::world::lock;
use krg_types::MemberId;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct OldMembership {
    /// The highest term in which each led, when its store was lost.
    terms: BTreeMap<MemberId, u64>,
    led: BTreeMap<MemberId, u64>,
}

impl Invariant for OldMembership {
    fn name(&self) -> &'static str {
        "no vote by an old membership"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for wiped in lock(&now.world.wiped).iter() {
            self.terms.entry(*wiped).or_insert_with(|| {
                // It may have led in the very term that it was lost in, unseen so far.
                let terms = now.glances.iter().map(|g| g.metrics.vote.leader_id.term);
                terms.max().unwrap_or(u64::MAX).max(self.led.get(wiped).copied().unwrap_or(0))
            });
        }
        for glance in now.news() {
            if self.terms.contains_key(&glance.member) {
                return Err(format!("machine {} runs as {}", glance.machine, glance.member));
            }
            let vote = glance.metrics.vote;
            let (leader, term) = (vote.leader_id.node_id, vote.leader_id.term);
            let led = self.led.entry(leader).or_default();
            *led = term.max(*led);
            if self.terms.get(&leader).is_some_and(|last| term > *last) {
                return Err(format!("{} votes for {leader}, who has no vote", glance.member));
            }
        }
        Ok(())
    }
}
