//! What went over the wire and what was refused: counted always, logged now and then.

use crate::seal::Refusal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Refusals of one kind are logged at most so often: an outsider must not fill the disk.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Running totals.
#[derive(Default)]
pub(super) struct Counters {
    sent: (AtomicU64, AtomicU64),
    received: (AtomicU64, AtomicU64),
    foreign: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    logged: Mutex<[Option<Instant>; Refusal::ALL.len()]>,
}

/// Totals since the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Packets sent.
    pub sent_packets: u64,
    /// Their bytes, sealed.
    pub sent_bytes: u64,
    /// Packets believed.
    pub received_packets: u64,
    /// Their bytes, sealed.
    pub received_bytes: u64,
    /// Entries about nodes that are no members, or about earlier lives of members.
    pub foreign_entries: u64,
    /// Packets refused, by reason.
    pub refused: Vec<(Refusal, u64)>,
}

impl Totals {
    /// Packets refused for one reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused.iter().find(|r| r.0 == why).map_or(0, |r| r.1)
    }
}

impl Counters {
    pub(super) fn sent(&self, bytes: usize) {
        add(&self.sent, bytes);
    }

    pub(super) fn received(&self, bytes: usize) {
        add(&self.received, bytes);
    }

    pub(super) fn foreign(&self, entries: usize) {
        self.foreign.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Counts, and logs unless that was done a moment ago.
    pub(super) fn refused(&self, from: SocketAddr, why: Refusal) {
        let total = self.refused[why as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut logged[why as usize];
        if last.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(%from, total, "a packet of the gossip was refused: {why}");
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Totals {
            sent_packets: get(&self.sent.0),
            sent_bytes: get(&self.sent.1),
            received_packets: get(&self.received.0),
            received_bytes: get(&self.received.1),
            foreign_entries: get(&self.foreign),
            refused: Refusal::ALL.map(|r| (r, get(&self.refused[r as usize]))).to_vec(),
        }
    }
}

fn add(counter: &(AtomicU64, AtomicU64), bytes: usize) {
    counter.0.fetch_add(1, Ordering::Relaxed);
    counter.1.fetch_add(bytes as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter() {
        let counters = Counters::default();
        for (i, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, i);
            counters.refused(([127, 0, 0, 1], 1).into(), why);
            assert_eq!(counters.totals().refused(why), 1);
        }
    }
}
