//! How far another node's boot clock is from ours, from the stamps of one probe. Pure.

use krg_rpc::peers::BootOffset;

/// The interval in which (their clock - ours) lies when a question left at `sent_ns`, was
/// answered with `theirs_ns`, and the answer came at `got_ns` (both by our clock).
pub fn measure(sent_ns: u64, theirs_ns: u64, got_ns: u64) -> (i64, i64) {
    let diff = |a: u64, b: u64| {
        let d = i128::from(a) - i128::from(b);
        i64::try_from(d).unwrap_or(if d < 0 { i64::MIN } else { i64::MAX })
    };
    (diff(theirs_ns, got_ns), diff(theirs_ns, sent_ns))
}

/// Takes in one measurement. The middle moves only when it must: start times shown to users are
/// rebased with it, and must not flicker with the length of a round trip.
pub fn refine(old: Option<BootOffset>, (least_ns, most_ns): (i64, i64)) -> BootOffset {
    let middle = least_ns.saturating_add((most_ns.saturating_sub(least_ns)) / 2);
    match old {
        Some(old) if (least_ns..=most_ns).contains(&old.middle_ns) => BootOffset {
            middle_ns: old.middle_ns,
            // A shorter round trip says more; the bounds only ever hold for one clock pair.
            most_ns: old.most_ns.min(most_ns).max(old.middle_ns),
        },
        _ => BootOffset { middle_ns: middle, most_ns },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_offset_lies_in_the_interval() {
        // Their clock is 1000 ahead; 30 there, 10 back.
        let (least, most) = measure(500, 500 + 30 + 1000, 540);
        assert_eq!((least, most), (990, 1030));
    }

    #[test]
    fn the_middle_stays_while_measurements_agree() {
        let first = refine(None, (990, 1030));
        assert_eq!(first, BootOffset { middle_ns: 1010, most_ns: 1030 });
        let second = refine(Some(first), (1000, 1020));
        assert_eq!(second, BootOffset { middle_ns: 1010, most_ns: 1020 });
        let moved = refine(Some(second), (5000, 5010));
        assert_eq!(moved, BootOffset { middle_ns: 5005, most_ns: 5010 });
    }

    #[test]
    fn hostile_stamps_do_not_overflow() {
        let (least, most) = measure(0, u64::MAX, u64::MAX);
        refine(refine(None, (least, most)).into(), measure(u64::MAX, 0, u64::MAX));
        refine(None, (i64::MIN, i64::MAX));
    }
}
