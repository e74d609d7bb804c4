//! Which packets of one sender were seen already, in a bounded space. Pure.

use krg_types::limits::GOSSIP_REPLAY_WINDOW;

/// The numbers seen of one sender: the highest, and which of those just below it.
pub(super) struct Window {
    highest: u64,
    seen: [u64; GOSSIP_REPLAY_WINDOW / 64],
}

impl Window {
    pub(super) fn new() -> Window {
        Window { highest: 0, seen: [0; GOSSIP_REPLAY_WINDOW / 64] }
    }

    /// False if it was in already, or is too far below the highest. 0 is never new.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        let size = GOSSIP_REPLAY_WINDOW as u64;
        if sequence == 0 || self.highest.saturating_sub(sequence) >= size {
            return false;
        }
        if sequence > self.highest {
            let steps = (sequence - self.highest).min(size);
            for step in 1..=steps {
                let (word, bit) = place(self.highest.wrapping_add(step));
                self.seen[word] &= !bit;
            }
            if steps == size {
                self.seen.fill(0);
            }
            self.highest = sequence;
        }
        let (word, bit) = place(sequence);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }
}

/// Where a number is in the ring of bits.
fn place(sequence: u64) -> (usize, u64) {
    let at = sequence % GOSSIP_REPLAY_WINDOW as u64;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// The ring of bits says what a set of everything seen would say.
        #[test]
        fn the_window_is_a_set_of_the_newest(
            steps in proptest::collection::vec((any::<bool>(), 0u64..6000), 1..200),
        ) {
            let (mut window, mut set, mut highest) = (Window::new(), HashSet::new(), 0u64);
            for (forward, step) in steps {
                let n = if forward { highest + step } else { highest.saturating_sub(step) };
                let too_old = n == 0 || n + GOSSIP_REPLAY_WINDOW as u64 <= highest;
                let expected = !too_old && set.insert(n);
                prop_assert_eq!(window.insert(n), expected, "{} after {}", n, highest);
                highest = highest.max(if too_old { 0 } else { n });
            }
        }
    }

    #[test]
    fn the_last_numbers_do_not_overflow() {
        let mut window = Window::new();
        assert!(window.insert(u64::MAX) && !window.insert(u64::MAX));
        assert!(window.insert(u64::MAX - 1) && !window.insert(1));
    }
}
