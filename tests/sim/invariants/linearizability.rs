//! Linearizability (Herlihy and Wing; the Raft dissertation, section 6.3): for each key there is an
//! order of all questions that gives every answer, and that follows real time. Found by
//! stateright's tester.

use super::Invariant;
use crate::sim::linear;
use crate::sim::oracle::Now;
use crate::sim::world::lock;

#[derive(Default)]
pub struct Linearizability;

impl Invariant for Linearizability {
    fn name(&self) -> &'static str {
        "linearizability"
    }

    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        linear::check(&lock(&now.world.history).all)
    }
}
