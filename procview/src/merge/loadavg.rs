//! /proc/loadavg: how many processes want a cpu.

use super::Part;
use super::text::{hundredths, number, put, split_at_byte, words};
use krg_types::GlobalPid;

/// /proc/loadavg of the cluster (proc_loadavg(5), fs/proc/loadavg.c): the averages and the counts
/// of tasks are sums, as the cpus are; the last pid is the last node's, as a cluster pid.
pub fn loadavg(parts: &[Part<'_>]) -> Vec<u8> {
    let mut averages = [0u64; 3];
    let (mut running, mut tasks, mut last) = (0u64, 0u64, 0);
    for part in parts {
        let Some(load) = parse(part.text) else { continue };
        for (sum, average) in averages.iter_mut().zip(load.averages) {
            *sum = sum.saturating_add(average);
        }
        running = running.saturating_add(load.running);
        tasks = tasks.saturating_add(load.tasks);
        let local = u32::try_from(load.last).unwrap_or(0);
        last = GlobalPid::new(part.node, local).map_or(0, GlobalPid::raw);
    }
    let mut out = Vec::new();
    for average in averages {
        put!(out, "{}.{:02} ", average / 100, average % 100);
    }
    put!(out, "{running}/{tasks} {last}\n");
    out
}

/// A node's load.
pub(crate) struct Load {
    /// Over 1, 5 and 15 minutes, in hundredths.
    pub(crate) averages: [u64; 3],
    running: u64,
    tasks: u64,
    last: u64,
}

/// Reads `0.29 0.49 0.23 2/85 6781`.
pub(crate) fn parse(text: &[u8]) -> Option<Load> {
    let mut words = words(text);
    let mut average = || words.next().and_then(hundredths);
    let averages = [average()?, average()?, average()?];
    let (running, tasks) = split_at_byte(words.next()?, b'/')?;
    let last = number(words.next()?)?;
    Some(Load { averages, running: number(running)?, tasks: number(tasks)?, last })
}
