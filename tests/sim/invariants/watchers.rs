//! A watcher hears of each change once, in order and without a hole, unless it is told of the hole
//! (meta/src/watch.rs), also over restarts of its node.

use super::Invariant;
use crate::sim::oracle::Now;
use crate::sim::world::Heard;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Watchers {
    /// All revisions that anybody heard of.
    revisions: BTreeSet<u64>,
    /// What each machine's watcher has heard, gaps filled; and its last revision.
    heard: BTreeMap<usize, (Vec<(u64, u64)>, u64)>,
    told: BTreeMap<usize, BTreeSet<u64>>,
}

impl Invariant for Watchers {
    fn name(&self) -> &'static str {
        "watchers"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for (machine, life, heard) in now.heard {
            let (gaps, last) = self.heard.entry(*machine).or_default();
            let told = self.told.entry(*machine).or_default();
            match heard {
                Heard::Began(from) if *from == *last + 1 => {}
                Heard::Began(1) => {
                    // A machine that begins anew.
                    (*last, *gaps, *told) = (0, Vec::new(), BTreeSet::new());
                }
                Heard::Began(from) => {
                    return Err(format!("machine {machine}: from {from} on, after {last}"));
                }
                Heard::Event(event) if event.revision > *last && !event.changes.is_empty() => {
                    *last = event.revision;
                    told.insert(event.revision);
                    self.revisions.insert(event.revision);
                }
                Heard::Gap(revision) if *revision >= *last => {
                    gaps.push((*last, *revision));
                    *last = *revision;
                }
                other => {
                    let (words, life) = (format!("{other:?} after {last}"), *life);
                    return Err(format!("machine {machine}, life {life}: {words}"));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        // A revision that nobody at all heard of shows in the rows that it wrote last.
        if let Some(state) = now.glances.first().map(|glance| &glance.view.state) {
            self.revisions.extend(state.config.iter().map(|(_, row)| row.revision));
            self.revisions.extend(state.sequences.iter().map(|(_, row)| row.revision));
            self.revisions.extend(state.nodes.iter().map(|(_, row)| row.revision));
        }
        for (machine, (gaps, last)) in &self.heard {
            let told = &self.told[machine];
            let gap = |n: u64| gaps.iter().any(|(from, to)| (from + 1..=*to).contains(&n));
            let missed = self.revisions.range(..=*last).find(|n| !told.contains(n) && !gap(**n));
            if let Some(missed) = missed {
                return Err(format!("machine {machine} heard of {last}, but not of {missed}"));
            }
        }
        Ok(())
    }
}
