//! /proc/stat: what the kernels did since they booted.

use super::sums::Sums;
use super::text::{add_each, first_word, lines, number, numbers, put};
use super::{Part, with_room};
use krg_types::limits::CPUS_PER_NODE_MAX;

/// Columns of a cpu line that are taken: Linux has 10 (`user` to `guest_nice`).
const CPU_COLUMNS_MAX: usize = 16;

/// /proc/stat of the cluster (proc_stat(5), fs/proc/stat.c): the `cpu` line is the sum; the cpus
/// of all nodes follow under their cluster numbers; every other line is summed number by number
/// in the order of first appearance, save `btime`, which the caller gives.
pub fn stat(parts: &[Part<'_>], btime: u64) -> Vec<u8> {
    let mut total = Vec::new();
    let mut cpus = Vec::new();
    let mut others = Sums::<Vec<u64>>::default();
    for (part, room) in with_room(parts) {
        let mut next = 0;
        for line in lines(part.text) {
            let (name, values) = first_word(line);
            match cpu_of(name) {
                Some(Cpu::All) => add_each(&mut total, numbers(values).take(CPU_COLUMNS_MAX)),
                Some(Cpu::One(cpu)) if (next..room).contains(&cpu) => {
                    next = cpu + 1;
                    put!(cpus, "cpu{}", part.cpu_base.saturating_add(cpu));
                    put_numbers(&mut cpus, numbers(values).take(CPU_COLUMNS_MAX));
                }
                Some(_) => {}
                None => match others.entry(name) {
                    Some(sum) if name == b"btime" => *sum = vec![btime],
                    Some(sum) => add_each(sum, numbers(values)),
                    None => {}
                },
            }
        }
    }
    if total.is_empty() {
        total = vec![0; 10];
    }
    let mut out = b"cpu ".to_vec();
    put_numbers(&mut out, total.into_iter());
    out.append(&mut cpus);
    if let Some(sum) = others.entry(b"btime") {
        *sum = vec![btime];
    }
    for (name, sums) in others.into_entries() {
        out.extend_from_slice(name);
        put_numbers(&mut out, sums.into_iter());
    }
    out
}

/// How many cpu numbers a node needs: one more than the highest in its /proc/stat. Give the next
/// node the `cpu_base` after them.
pub fn cpu_room(stat: &[u8]) -> u32 {
    let highest = lines(stat).filter_map(|line| match cpu_of(first_word(line).0) {
        Some(Cpu::One(cpu)) => Some(cpu + 1),
        _ => None,
    });
    highest.max().unwrap_or(0)
}

/// What a cpu line is about.
enum Cpu {
    All,
    One(u32),
    /// A number that no cpu can have.
    Bad,
}

fn cpu_of(name: &[u8]) -> Option<Cpu> {
    let digits = name.strip_prefix(b"cpu")?;
    if digits.is_empty() {
        return Some(Cpu::All);
    }
    let cpu = number(digits).and_then(|n| u32::try_from(n).ok());
    Some(cpu.filter(|n| *n < CPUS_PER_NODE_MAX).map_or(Cpu::Bad, Cpu::One))
}

fn put_numbers(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        put!(out, " {n}");
    }
    out.push(b'\n');
}
