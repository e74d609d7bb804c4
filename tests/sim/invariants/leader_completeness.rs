//! Leader completeness (the Raft paper, figure 3): what is committed in a term is in the logs of
//! all leaders of higher terms. What anybody has applied is committed.

use super::Invariant;
use crate::sim::oracle::Now;
use krg_meta::raft::LogId;
use krg_types::MemberId;
use openraft::ServerState;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct LeaderCompleteness {
    committed: BTreeMap<u64, LogId>,
    seen: BTreeSet<(u64, MemberId)>,
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news() {
            let applied = glance.view.applied_index();
            for (index, (id, _)) in
                glance.log.range(glance.log_from..=applied.max(glance.log_from))
            {
                if *index > applied {
                    continue;
                }
                let known = *self.committed.entry(*index).or_insert(*id);
                if known != *id {
                    return Err(format!("{} has applied {id}, others {known}", glance.member));
                }
            }
        }
        let leads = |state| state == ServerState::Leader;
        for glance in now.news().filter(|glance| leads(glance.metrics.state)) {
            let title = glance.metrics.vote.leader_id;
            let newest = self.committed.values().next_back();
            let newer = newest.is_some_and(|id| {
                let by = (id.leader_id.term, id.leader_id.node_id);
                by > (title.term, title.node_id)
            });
            if newer || !self.seen.insert((title.term, title.node_id)) {
                continue;
            }
            let first = glance.log.keys().next().copied().unwrap_or(0);
            let lacks = self
                .committed
                .range(first..)
                .find(|(index, id)| glance.log.get(index).map(|(own, _)| own) != Some(id));
            if let Some((_, id)) = lacks {
                return Err(format!("{} leads in {} without {id}", glance.member, title.term));
            }
        }
        Ok(())
    }
}
