//! How much a slow link carries: what a user writes, and what tc(8) is told.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The least: a packet of full size takes 1.5 s then.
const BITS_MIN: u64 = 8_000;
/// The most: above it the rate of a veth is not worth a bound.
const BITS_MAX: u64 = 100_000_000_000;
/// Units, the largest first.
const UNITS: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
/// A bucket holds at least a few packets of full size...
const BURST_BYTES_MIN: u64 = 8 << 10;
/// ...or what comes in this part of a second: timers are no finer on some kernels.
const BURST_PARTS: u64 = 100;
/// Packets wait for at most this part of a second...
const WAIT_PARTS: u64 = 5;
/// ...unless fewer bytes than this are waiting.
const WAIT_BYTES_MIN: u64 = 32 << 10;

/// A rate in bit/s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// The token bucket filter of this rate, in the words of tc(8).
    pub fn token_bucket(self) -> String {
        let bytes = self.0 / 8;
        let burst = (bytes / BURST_PARTS).max(BURST_BYTES_MIN);
        let limit = burst + (bytes / WAIT_PARTS).max(WAIT_BYTES_MIN);
        format!("tbf rate {}bit burst {burst}b limit {limit}b", self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size));
        let (unit, size) = whole.copied().unwrap_or(("bit", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Rate, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let size = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
        let bits = number.parse().ok().zip(size).and_then(|(n, (_, s))| u64::checked_mul(n, *s));
        match bits {
            Some(bits) if (BITS_MIN..=BITS_MAX).contains(&bits) => Ok(Rate(bits)),
            Some(_) => Err(format!("a rate is {} to {}", Rate(BITS_MIN), Rate(BITS_MAX))),
            None => Err(format!("`{text}` is no rate: 64kbit, 1mbit, 1gbit...")),
        }
    }
}

/// What `--rate` takes: a rate, or `none`.
pub fn rate_or_none(text: &str) -> Result<Bound, String> {
    if text == "none" { Ok(Bound(None)) } else { text.parse().map(|r| Bound(Some(r))) }
}

/// A bound, or that there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound(pub Option<Rate>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_and_written() {
        for text in ["8kbit", "64kbit", "1mbit", "2500kbit", "1gbit", "100gbit", "8001bit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("1000kbit".parse::<Rate>(), "1Mbit".parse());
        for bad in ["", "1", "mbit", "-1mbit", "1.5mbit", "1mbit x", "0bit", "7999bit", "1tbit"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert!("99999999999999999999gbit".parse::<Rate>().is_err());
        assert_eq!(rate_or_none("none"), Ok(Bound(None)));
    }

    #[test]
    fn a_full_packet_fits_into_every_bucket() {
        let words = "8kbit".parse::<Rate>().unwrap().token_bucket();
        assert_eq!(words, "tbf rate 8000bit burst 8192b limit 40960b");
        let words = "1gbit".parse::<Rate>().unwrap().token_bucket();
        assert_eq!(words, "tbf rate 1000000000bit burst 1250000b limit 26250000b");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,24}") {
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            }
        }
    }
}
