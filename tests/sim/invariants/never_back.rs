//! What never goes back (the Raft paper, figure 2: persistent state; section 5.3): a member's vote,
//! also over a crash; what it has applied and the cluster's clock, within a life. Only that a
//! majority gave it their votes a leader forgets when it ends: it must not lead in that term again.

use super::Invariant;
use crate::sim::oracle::Now;
use krg_meta::raft::Vote;
use krg_types::MemberId;
use std::cmp::Ordering;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct NeverBack {
    /// The vote, and in which life.
    votes: BTreeMap<MemberId, (Vote, u64)>,
    /// Machine and life: index, revision, clock.
    applied: BTreeMap<(usize, u64), (u64, u64, u64)>,
}

impl Invariant for NeverBack {
    fn name(&self) -> &'static str {
        "nothing goes back"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news() {
            // A vote that could not be stored was not cast.
            if glance.metrics.running_state.is_ok() {
                let vote = glance.metrics.vote;
                let last = self.votes.insert(glance.member, (vote, glance.life));
                let back = |last: &Vote| vote.partial_cmp(last).is_none_or(Ordering::is_lt);
                if let Some((last, life)) = last.filter(|(last, _)| back(last))
                    && (life == glance.life || last.leader_id != vote.leader_id)
                {
                    return Err(format!("{} voted {last}, then {vote}", glance.member));
                }
            }
            let state = &glance.view.state;
            let reached = (glance.view.applied_index(), state.revision, state.now_ms);
            let last = self.applied.insert((glance.machine, glance.life), reached);
            let last = last.unwrap_or_default();
            if reached.0 < last.0 || reached.1 < last.1 || reached.2 < last.2 {
                return Err(format!("{} was at {last:?}, is at {reached:?}", glance.member));
            }
        }
        Ok(())
    }
}
