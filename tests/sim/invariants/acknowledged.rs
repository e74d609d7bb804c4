//! What was acknowledged is there (the Raft paper, section 5.4; DESIGN: nothing acknowledged is
//! lost): in the end each key holds what the last acknowledged write of it set, or a later one.

use super::Invariant;
use crate::sim::history::{Op, Outcome};
use crate::sim::oracle::Now;
use crate::sim::world::lock;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Acknowledged;

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged writes"
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let history = lock(&now.world.history);
        let mut last: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for asked in &history.all {
            if let (Op::Set { key, value, .. }, Some(Outcome::Done(revision))) =
                (&asked.op, asked.outcome())
            {
                let newest = last.entry(key).or_default();
                *newest = (*newest).max((*revision, value));
            }
        }
        for glance in now.glances {
            for (key, (revision, value)) in &last {
                let row = glance.view.state.config.row(key);
                let there = row.is_some_and(|row| {
                    row.revision > *revision || row.revision == *revision && row.value.0 == *value
                });
                if !there {
                    let who = glance.member;
                    return Err(format!("{who}: {key} was set at {revision}: {row:?} is there"));
                }
            }
        }
        Ok(())
    }
}
