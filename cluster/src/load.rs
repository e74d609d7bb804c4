//! What a node says of its own load, and how old such a word is when it is read.

use krg_rpc::peers::BootOffset;
use krg_types::limits::{CPUS_PER_NODE_MAX, LOAD_BYTES_MAX, PROCS_PER_NODE_MAX};
use std::fmt;

/// The version of the text form.
const VERSION: u64 = 1;

/// The load vector of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// The load average of the last minute, times 100.
    pub average_100: u32,
    /// Its processors.
    pub cpus: u32,
    /// Its memory, KiB.
    pub memory_kib: u64,
    /// How much of that a new process could have, KiB.
    pub available_kib: u64,
    /// Its processes.
    pub processes: u32,
    /// Its boot clock when this was so, ns.
    pub stamp_ns: u64,
}

/// Why a text is not a load vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a load vector: {0}")]
pub struct BadLoad(&'static str);

impl Load {
    /// From the text that another node sent.
    pub fn parse(text: &str) -> Result<Load, BadLoad> {
        if text.len() > LOAD_BYTES_MAX {
            return Err(BadLoad("too long"));
        }
        let mut numbers = text.split(' ').map(number);
        let mut next = || numbers.next().flatten().ok_or(BadLoad("a number is missing"));
        if next()? != VERSION {
            return Err(BadLoad("of another version"));
        }
        let small = |n: u64| u32::try_from(n).map_err(|_| BadLoad("a number is too large"));
        let load = Load {
            average_100: small(next()?)?,
            cpus: small(next()?)?,
            memory_kib: next()?,
            available_kib: next()?,
            processes: small(next()?)?,
            stamp_ns: next()?,
        };
        if numbers.next().is_some() {
            return Err(BadLoad("more than its numbers"));
        }
        if !(1..=CPUS_PER_NODE_MAX).contains(&load.cpus) {
            return Err(BadLoad("an impossible number of processors"));
        }
        if load.processes as usize > PROCS_PER_NODE_MAX {
            return Err(BadLoad("an impossible number of processes"));
        }
        if load.available_kib > load.memory_kib || load.memory_kib > u64::MAX >> 10 {
            return Err(BadLoad("an impossible memory"));
        }
        Ok(load)
    }

    /// How old it is when the reader's boot clock shows `now_ns`, if its owner's clock is
    /// `offset` from the reader's. Rather too old than too fresh, and never less than nothing.
    pub fn age_ns(&self, now_ns: u64, offset: BootOffset) -> u64 {
        let age = i128::from(now_ns) - i128::from(self.stamp_ns) + i128::from(offset.most_ns);
        u64::try_from(age.max(0)).unwrap_or(u64::MAX)
    }
}

/// Decimal digits and nothing else: what was sent has one form.
fn number(text: &str) -> Option<u64> {
    let plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { average_100, cpus, memory_kib, available_kib, processes, stamp_ns } = self;
        write!(f, "{VERSION} {average_100} {cpus} {memory_kib} {available_kib} ")?;
        write!(f, "{processes} {stamp_ns}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOAD: Load = Load {
        average_100: 1680,
        cpus: 4,
        memory_kib: 24_682_000,
        available_kib: 23_600_000,
        processes: 17,
        stamp_ns: 12_900_000_000_000,
    };

    #[test]
    fn the_text_is_short_and_comes_back() {
        let text = LOAD.to_string();
        assert_eq!(text, "1 1680 4 24682000 23600000 17 12900000000000");
        assert_eq!(Load::parse(&text), Ok(LOAD));
        let most = Load {
            average_100: u32::MAX,
            cpus: CPUS_PER_NODE_MAX,
            memory_kib: u64::MAX >> 10,
            available_kib: u64::MAX >> 10,
            processes: PROCS_PER_NODE_MAX as u32,
            stamp_ns: u64::MAX,
        };
        assert!(most.to_string().len() <= LOAD_BYTES_MAX);
        assert_eq!(Load::parse(&most.to_string()), Ok(most));
    }

    #[test]
    fn what_no_node_says_is_refused() {
        for bad in [
            "",
            "1",
            "2 1 1 1 1 1 1",
            "1 1 1 1 1 1",
            "1 1 1 1 1 1 1 1",
            "1 1 1 1 1 1 1 ",
            "1 1 0 1 1 1 1",
            "1 1 8193 1 1 1 1",
            "1 1 1 1 2 1 1",
            "1 1 1 1 1 1048577 1",
            "1 +1 1 1 1 1 1",
            "1 01 1 1 1 1 1",
            "1 4294967296 1 1 1 1 1",
            "1 1 1 1 1 1 18446744073709551616",
            "1 1 1 18446744073709551615 1 1 1",
        ] {
            assert!(Load::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_age_is_never_understated_and_never_negative() {
        let offset = |middle_ns, most_ns| BootOffset { middle_ns, most_ns };
        let load = Load { stamp_ns: 1_000_000, ..LOAD };
        // The owner's clock is 400 000 to 500 000 ahead: it is 500 000 to 600 000 by ours.
        assert_eq!(load.age_ns(700_000, offset(450_000, 500_000)), 200_000);
        assert_eq!(load.age_ns(100, offset(0, 0)), 0);
        assert_eq!(load.age_ns(u64::MAX, offset(i64::MAX, i64::MAX)), u64::MAX);
        assert_eq!(load.age_ns(0, offset(i64::MIN, i64::MIN)), 0);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_load_has_one_text(text in "[0-9 +.a]{0,140}") {
            if let Ok(load) = Load::parse(&text) {
                prop_assert_eq!(load.to_string(), text);
            }
        }
    }
}
