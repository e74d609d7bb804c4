//! /proc/vmstat: what the memory managers did.

use super::Part;
use super::sums::Sums;
use super::text::{first_word, lines, numbers, put};

/// /proc/vmstat of the cluster (proc_vmstat(5), mm/vmstat.c): sums by name, in the order of first
/// appearance.
pub fn vmstat(parts: &[Part<'_>]) -> Vec<u8> {
    let mut sums = Sums::<u64>::default();
    for line in parts.iter().flat_map(|part| lines(part.text)) {
        let (name, rest) = first_word(line);
        let Some(value) = numbers(rest).next() else { continue };
        if let Some(sum) = sums.entry(name) {
            *sum = sum.saturating_add(value);
        }
    }
    let mut out = Vec::new();
    for (name, sum) in sums.into_entries() {
        out.extend_from_slice(name);
        put!(out, " {sum}\n");
    }
    out
}
