//! /proc/uptime: how long, and how idle.

use super::Part;
use super::text::{hundredths, put, words};

/// /proc/uptime of the cluster (proc_uptime(5), fs/proc/uptime.c), by Kerrighed's rule: up for as
/// long as the node that is up the longest, which the caller knows; idle for the mean of the
/// nodes' idle times.
pub fn uptime(max_uptime_ns: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let idles = parts.iter().filter_map(|part| words(part.text).nth(1).and_then(hundredths));
    let (sum, count) =
        idles.fold((0u64, 0u64), |(sum, n), idle| (sum.saturating_add(idle), n + 1));
    let idle = sum / count.max(1);
    let up = max_uptime_ns / 10_000_000;
    let mut out = Vec::new();
    put!(out, "{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100);
    out
}
