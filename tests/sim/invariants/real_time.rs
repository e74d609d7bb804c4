//! Real time (Herlihy and Wing, Linearizability, section 2; the Raft dissertation, section 6.4):
//! whoever asks after an answer was given sees a revision that is no older than that answer's.

use super::Invariant;
use crate::sim::history::Outcome;
use crate::sim::oracle::Now;
use crate::sim::world::lock;
use std::time::Duration;

#[derive(Default)]
pub struct RealTime;

impl Invariant for RealTime {
    fn name(&self) -> &'static str {
        "real time"
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let history = lock(&now.world.history);
        let spans = history.all.iter().filter_map(|asked| {
            let (returned, outcome) = asked.returned.as_ref()?;
            match outcome {
                Outcome::Done(revision) | Outcome::Read(revision, _) => {
                    Some((asked.invoked, *returned, *revision))
                }
                _ => None,
            }
        });
        check(spans.collect(), "revision")
    }
}

/// Values of spans (from, to, value): what begins after another has ended is no lower.
pub fn check(mut spans: Vec<(Duration, Duration, u64)>, what: &str) -> Result<(), String> {
    let mut ended = spans.clone();
    ended.sort_unstable_by_key(|span| span.1);
    spans.sort_unstable();
    let (mut highest, mut next) = ((Duration::ZERO, 0), 0);
    for (from, _, value) in spans {
        while let Some((_, to, earlier)) = ended.get(next).filter(|span| span.1 < from) {
            if *earlier > highest.1 {
                highest = (*to, *earlier);
            }
            next += 1;
        }
        if value < highest.1 {
            let (to, earlier) = highest;
            let words = format!("{what} {earlier} was told at {to:?}");
            return Err(format!("{words}; who asked at {from:?} was told {value}"));
        }
    }
    Ok(())
}
