//! Election safety (the Raft paper, figure 3): a term's leadership is one member's. openraft orders
//! leaders by (term, member), so two may follow each other in a term; but no two ever hold the
//! same leadership, nor one in two of its lives; and nobody leads under a vote for another.

use super::Invariant;
use crate::sim::oracle::Now;
use krg_types::MemberId;
use openraft::ServerState;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct ElectionSafety {
    /// Who led under which title: the machine and its life.
    leaders: BTreeMap<(u64, MemberId), (usize, u64)>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news().filter(|g| g.metrics.state == ServerState::Leader) {
            let vote = glance.metrics.vote;
            let title = (vote.leader_id.term, vote.leader_id.node_id);
            if title.1 != glance.member || !vote.committed {
                return Err(format!("{} leads under the vote {vote}", glance.member));
            }
            let here = (glance.machine, glance.life);
            let leader = *self.leaders.entry(title).or_insert(here);
            if leader != here {
                return Err(format!("{title:?} led on {leader:?} and leads on {here:?}"));
            }
        }
        Ok(())
    }
}
