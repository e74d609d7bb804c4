//! When init starts krgd again after it ended.

use std::time::Duration;

/// A life this long was a good one: the next end is the first again.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// Longest wait before a start.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// Wait before the second start.
const DELAY_FIRST: Duration = Duration::from_millis(50);

/// Counts the ends that came too soon.
#[derive(Default, Debug)]
pub struct Restarts(u32);

impl Restarts {
    /// krgd ended after a life of that length: how long to wait before starting it. At once the
    /// first time, then twice as long each time.
    pub fn delay(&mut self, life: Duration) -> Duration {
        if life >= GOOD_LIFE {
            self.0 = 0;
        }
        let delay = match self.0 {
            0 => Duration::ZERO,
            n => DELAY_FIRST.saturating_mul(1 << (n - 1).min(16)),
        };
        self.0 = self.0.saturating_add(1);
        delay.min(DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_slower_up_to_a_second() {
        let mut restarts = Restarts::default();
        let short = Duration::from_millis(1);
        let ms: Vec<_> = (0..8).map(|_| restarts.delay(short).as_millis()).collect();
        assert_eq!(ms, [0, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(restarts.delay(GOOD_LIFE), Duration::ZERO);
        assert_eq!(restarts.delay(short), DELAY_FIRST);
    }
}
