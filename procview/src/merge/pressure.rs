//! /proc/pressure/*: how much time is lost to waiting.

use super::Part;
use super::text::{first_word, hundredths, lines, number, put, words};

/// /proc/pressure/{cpu,io,memory,irq} of the cluster (Documentation/accounting/psi.rst): every
/// number of a `some` or `full` line is the mean over the nodes that have the line. A share of
/// time stays between 0 and 100 that way, and `total` goes on growing at the rate that the
/// averages tell, as readers of either expect.
pub fn pressure(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for kind in ["some", "full"] {
        let mut sums = [0u64; 4];
        let mut count = 0u64;
        for numbers in parts.iter().filter_map(|part| parse(part.text, kind.as_bytes())) {
            count += 1;
            for (sum, n) in sums.iter_mut().zip(numbers) {
                *sum = sum.saturating_add(n);
            }
        }
        if count == 0 {
            continue;
        }
        let [avg10, avg60, avg300, total] = sums.map(|sum| sum / count);
        out.extend_from_slice(kind.as_bytes());
        for (name, share) in [("avg10", avg10), ("avg60", avg60), ("avg300", avg300)] {
            put!(out, " {name}={}.{:02}", share / 100, share % 100);
        }
        put!(out, " total={total}\n");
    }
    out
}

/// The numbers of a node's line of this kind; averages in hundredths of a percent.
fn parse(text: &[u8], kind: &[u8]) -> Option<[u64; 4]> {
    let line = lines(text).find_map(|line| {
        let (word, rest) = first_word(line);
        (word == kind).then_some(rest)
    })?;
    let value = |name: &[u8]| words(line).find_map(|word| word.strip_prefix(name));
    let share = |name: &[u8]| value(name).and_then(hundredths).map(|n| n.min(10_000));
    let total = value(b"total=").and_then(number)?;
    Some([share(b"avg10=")?, share(b"avg60=")?, share(b"avg300=")?, total])
}
