//! Log matching (the Raft paper, figure 3): two logs that hold an entry of the same index and term
//! are the same up to it. By induction it is enough that an entry's place names its content and
//! the place of the entry before it.

use super::Invariant;
use crate::sim::oracle::Now;
use krg_meta::raft::LogId;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct LogMatching {
    /// For each place: the hash of the entry, and the place before it once it was seen.
    entries: BTreeMap<LogId, (u64, Option<LogId>)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for glance in now.news() {
            let mut before: Option<LogId> = None;
            for (index, (id, hash)) in glance.log.range(glance.log_from.saturating_sub(1)..) {
                let follows = before.filter(|before| before.index + 1 == *index);
                before = Some(*id);
                let known = self.entries.entry(*id).or_insert((*hash, follows));
                if known.0 != *hash {
                    return Err(format!("entry {id} of {} is another one", glance.member));
                }
                known.1 = known.1.or(follows);
                if follows.is_some() && known.1 != follows {
                    let (one, other) = (known.1, follows);
                    return Err(format!("entry {id} follows {one:?} and {other:?}"));
                }
            }
        }
        Ok(())
    }
}
