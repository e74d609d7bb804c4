//! Values by name, in the order in which the names were first seen.

use super::text::is_name;
use std::collections::HashMap;

/// Names taken in all. A kernel has some hundreds of fields and at most some thousands of
/// interrupts; what hostile nodes send beyond is dropped.
const NAMES_MAX: usize = 16_384;

/// Values by name, in the order of first appearance over the nodes.
#[derive(Default)]
pub(super) struct Sums<'a, V> {
    entries: Vec<(&'a [u8], V)>,
    places: HashMap<&'a [u8], usize>,
}

impl<'a, V: Default> Sums<'a, V> {
    /// The value of this name, new if it was not seen yet; `None` for a name no kernel would
    /// use, and when there are too many.
    pub(super) fn entry(&mut self, name: &'a [u8]) -> Option<&mut V> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None if self.entries.len() < NAMES_MAX && is_name(name) => {
                self.places.insert(name, self.entries.len());
                self.entries.push((name, V::default()));
                self.entries.len() - 1
            }
            None => return None,
        };
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// The names with their values.
    pub(super) fn into_entries(self) -> Vec<(&'a [u8], V)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_a_bound() {
        let names: Vec<String> = (0..NAMES_MAX + 5).map(|n| format!("n{n}")).collect();
        let mut sums = Sums::<u64>::default();
        for name in names.iter().chain(&names) {
            if let Some(sum) = sums.entry(name.as_bytes()) {
                *sum += 1;
            }
        }
        assert!(sums.entry(b"").is_none() && sums.entry(b"a b").is_none());
        let entries = sums.into_entries();
        assert_eq!(entries.len(), NAMES_MAX);
        assert_eq!(entries[7], (&b"n7"[..], 2));
    }
}
