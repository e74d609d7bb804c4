//! Which words of other versions are understood: two neighbouring versions work together, so that a
//! cluster can be upgraded one node after another.

use crate::limits::PROTOCOL_VERSION;

/// The oldest version whose words are still understood here.
pub const PROTOCOL_OLDEST: u32 = 1;

/// Can a peer that speaks this version be talked with? The next version understands this one, as
/// this one understands the one before.
pub fn understood(version: u32) -> bool {
    (PROTOCOL_OLDEST..=PROTOCOL_VERSION + 1).contains(&version) && version + 1 >= PROTOCOL_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_understand_each_other_and_nobody_else() {
        assert!(understood(PROTOCOL_VERSION));
        assert!(understood(PROTOCOL_VERSION + 1));
        for far in [0, PROTOCOL_VERSION + 2, u32::MAX] {
            assert!(!understood(far), "{far}");
        }
    }
}
