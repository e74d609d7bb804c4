//! One owner at a time, and a fence that grows with each change of hands (meta/src/table/leases.rs;
//! the cluster's clock never runs faster than time, so what an owner counts from its question on
//! is safe).

use super::Invariant;
use crate::sim::history::{Op, Outcome};
use crate::sim::oracle::Now;
use crate::sim::world::{Heard, lock};
use krg_meta::table::decode_row;
use krg_meta::table::leases::Lease;
use krg_types::MemberId;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
pub struct Leases {
    /// The newest row of each lease: revision, row.
    rows: BTreeMap<String, (u64, Lease)>,
}

impl Invariant for Leases {
    fn name(&self) -> &'static str {
        "leases"
    }

    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        for (_, _, heard) in now.heard {
            let Heard::Event(event) = heard else { continue };
            for change in event.changes.iter().filter(|c| c.table == "leases") {
                let Some(Ok(row)) = change.value.as_ref().map(|v| decode_row::<Lease>(v)) else {
                    return Err(format!("the row {} went away", change.key));
                };
                let new = (row.revision, row.value);
                let (revision, old) = *self.rows.entry(change.key.clone()).or_insert(new);
                if new.0 <= revision {
                    continue;
                }
                let same_hands = old.owner == new.1.owner && old.fence == new.1.fence;
                if !same_hands && new.1.fence <= old.fence {
                    return Err(format!("{}: {old:?}, then {:?}", change.key, new.1));
                }
                self.rows.insert(change.key.clone(), new);
            }
        }
        Ok(())
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        // What each owner may believe: from the answer until its time, counted from the question.
        let mut held: BTreeMap<&str, Vec<(Duration, Duration, MemberId, u64)>> = BTreeMap::new();
        let history = lock(&now.world.history);
        for asked in &history.all {
            let Op::Lease { name, owner: asker, .. } = &asked.op else { continue };
            let Some((returned, Outcome::Held { owner, left_ms, fence })) = &asked.returned
            else {
                continue;
            };
            let until = asked.invoked + Duration::from_millis(*left_ms);
            if owner == asker && until > *returned {
                held.entry(name).or_default().push((*returned, until, *owner, *fence));
            }
        }
        for (name, mut spans) in held {
            spans.sort_unstable();
            for (n, one) in spans.iter().enumerate() {
                let overlaps = spans[n + 1..].iter().take_while(|other| other.0 < one.1);
                let mut others = overlaps.filter(|other| (other.2, other.3) != (one.2, one.3));
                if let Some(other) = others.next() {
                    return Err(format!("{name}: {one:?} and {other:?} at once"));
                }
            }
        }
        Ok(())
    }
}
