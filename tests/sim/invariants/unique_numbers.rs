//! A number of a sequence is given out once (meta/src/table/sequences.rs), and to whoever asks
//! later a higher one (linearizability; the Raft dissertation, section 6.3).

use super::Invariant;
use crate::sim::history::{Op, Outcome};
use crate::sim::oracle::Now;
use crate::sim::world::lock;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Default)]
pub struct UniqueNumbers;

impl Invariant for UniqueNumbers {
    fn name(&self) -> &'static str {
        "unique numbers"
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let mut given = BTreeSet::new();
        let mut order: Vec<(Duration, Duration, u64)> = Vec::new();
        for asked in &lock(&now.world.history).all {
            let (Op::Take { .. }, Some((returned, Outcome::Number(number)))) =
                (&asked.op, &asked.returned)
            else {
                continue;
            };
            if !given.insert(*number) {
                return Err(format!("{number} was given out twice"));
            }
            order.push((asked.invoked, *returned, *number));
        }
        super::real_time::check(order, "the number")
    }
}
