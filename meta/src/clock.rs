//! The cluster's clock: it goes on from where the state has it, by the leader's monotonic clock.
//! Wall clocks have no part in it, so machines whose clocks differ agree on what has expired.

use std::sync::Mutex;
use tokio::time::Instant;

/// The clock of one member, for the time that it leads.
#[derive(Debug, Default)]
pub struct ClusterClock {
    anchor: Mutex<Option<Anchor>>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    term: u64,
    then_ms: u64,
    then: Instant,
}

impl ClusterClock {
    /// The time in `term`, when the state's time is `state_ms`.
    pub fn now_ms(&self, term: u64, state_ms: u64) -> u64 {
        let mut anchor = self.anchor.lock().unwrap_or_else(|e| e.into_inner());
        let fresh = || Anchor { term, then_ms: state_ms, then: Instant::now() };
        let anchor = match *anchor {
            Some(a) if a.term == term => a,
            _ => *anchor.insert(fresh()),
        };
        let since_ms = u64::try_from(anchor.then.elapsed().as_millis()).unwrap_or(u64::MAX);
        anchor.then_ms.saturating_add(since_ms).max(state_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_and_never_back() {
        let clock = ClusterClock::default();
        assert_eq!(clock.now_ms(1, 500), 500);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now_ms(1, 500), 750);
        // Another led meanwhile, and longer.
        assert_eq!(clock.now_ms(3, 9_000), 9_000);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(clock.now_ms(3, 9_000), 9_010);
        assert_eq!(clock.now_ms(3, 9_500), 9_500);
    }
}
