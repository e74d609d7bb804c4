//! One, three or five vote (meta/src/voters.rs), one change at a time (the Raft dissertation,
//! section 4.1; here through joint consensus, section 4.3): never nobody, never more than five.

use super::Invariant;
use crate::sim::oracle::Now;
use krg_meta::voters::voters_wanted;

#[derive(Default)]
pub struct Voters;

impl Invariant for Voters {
    fn name(&self) -> &'static str {
        "voters"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news() {
            let stored = &glance.metrics.membership_config;
            let configs = stored.membership().get_joint_config();
            let bad = configs.iter().any(|voters| voters.is_empty() || voters.len() > 5);
            if configs.len() > 2 || bad {
                return Err(format!("{} knows {configs:?}", glance.member));
            }
        }
        Ok(())
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.glances {
            let stored = &glance.metrics.membership_config;
            let configs = stored.membership().get_joint_config();
            let members = glance.view.state.members().count();
            let wanted = voters_wanted(members);
            let voters = configs.first().map_or(0, |voters| voters.len());
            if configs.len() != 1 || voters != wanted || ![1, 3, 5].contains(&voters) {
                let who = glance.member;
                return Err(format!("{who}: {members} members, but these vote: {configs:?}"));
            }
        }
        Ok(())
    }
}
