//! /proc/interrupts and /proc/softirqs: a row per source, a column per cpu.

use super::sums::Sums;
use super::text::{first_word, number, put, split_at_byte, words};
use super::{Part, with_room};

/// Cells (rows times cpus) that are written; rows beyond are dropped. 8192 cpus get 512 rows.
const CELLS_MAX: usize = 4 << 20;
/// Widest column of labels.
const LABEL_MAX: usize = 12;

/// /proc/interrupts of the cluster (proc_interrupts(5), kernel/irq/proc.c): the columns are the
/// cpus of all nodes by cluster number; a row has 0 under the cpus of nodes which lack it, and
/// the first description. `ERR` and `MIS`, which have one number, are summed.
pub fn interrupts(parts: &[Part<'_>]) -> Vec<u8> {
    table(parts, 3)
}

/// /proc/softirqs of the cluster (proc_softirqs(5), fs/proc/softirqs.c): as `interrupts`.
pub fn softirqs(parts: &[Part<'_>]) -> Vec<u8> {
    table(parts, LABEL_MAX)
}

#[derive(Default)]
struct Row<'a> {
    seen: bool,
    /// It has one number, which is not of a cpu.
    single: bool,
    sum: u64,
    /// The numbers of one node each, from this column on.
    cells: Vec<(usize, Vec<u64>)>,
    tail: &'a [u8],
}

fn table(parts: &[Part<'_>], mut label_width: usize) -> Vec<u8> {
    let mut columns = Vec::new();
    let mut rows = Sums::<Row<'_>>::default();
    for (part, room) in with_room(parts) {
        let mut lines = part.text.split(|b| *b == b'\n');
        let cpus = header(lines.next().unwrap_or_default(), room);
        let first = columns.len();
        columns.extend(cpus.iter().flatten().map(|cpu| part.cpu_base.saturating_add(*cpu)));
        for line in lines {
            let Some((label, rest)) = split_at_byte(line, b':') else { continue };
            let Some(row) = rows.entry(label.trim_ascii()) else { continue };
            label_width = label_width.max(label.len()).min(LABEL_MAX);
            add_row(row, label, rest, &cpus, first);
        }
    }
    let mut out = Vec::new();
    put!(out, "{:pad$}", "", pad = label_width + 8);
    for cpu in &columns {
        put!(out, "CPU{cpu:<8}");
    }
    out.push(b'\n');
    let rows_max = CELLS_MAX / columns.len().max(1);
    for (label, row) in rows.into_entries().into_iter().take(rows_max) {
        put!(out, "{:pad$}", "", pad = label_width.saturating_sub(label.len()));
        out.extend_from_slice(label);
        out.push(b':');
        put_cells(&mut out, &row, columns.len());
        out.extend_from_slice(row.tail);
        out.push(b'\n');
    }
    out
}

/// The cpus of the columns; `None` for a column that is dropped, with its numbers.
fn header(line: &[u8], room: u32) -> Vec<Option<u32>> {
    let mut next = 0;
    words(line)
        .map(|word| {
            let cpu = word.strip_prefix(b"CPU").and_then(number);
            let cpu =
                cpu.and_then(|n| u32::try_from(n).ok()).filter(|n| (next..room).contains(n));
            next = cpu.map_or(next, |cpu| cpu + 1);
            cpu
        })
        .collect()
}

/// Adds a node's line to the row.
fn add_row<'a>(
    row: &mut Row<'a>,
    label: &[u8],
    rest: &'a [u8],
    cpus: &[Option<u32>],
    first: usize,
) {
    let (numbers, tail) = leading_numbers(rest, cpus.len());
    let label = label.trim_ascii();
    let named = label.eq_ignore_ascii_case(b"ERR") || label.eq_ignore_ascii_case(b"MIS");
    if !row.seen {
        row.seen = true;
        row.single = named || (numbers.len() == 1 && cpus.len() > 1);
        row.tail = tail;
    }
    if row.single {
        row.sum = numbers.iter().fold(row.sum, |sum, n| sum.saturating_add(*n));
        return;
    }
    let kept = numbers.into_iter().zip(cpus).filter_map(|(n, cpu)| cpu.map(|_| n));
    match row.cells.last_mut() {
        Some((column, cells)) if *column == first => *cells = kept.collect(),
        _ => row.cells.push((first, kept.collect())),
    }
}

/// At most `max` numbers from the start, and what follows the last of them.
fn leading_numbers(mut rest: &[u8], max: usize) -> (Vec<u64>, &[u8]) {
    let mut numbers = Vec::new();
    while numbers.len() < max {
        let (word, after) = first_word(rest);
        let Some(n) = number(word) else { break };
        numbers.push(n);
        rest = after;
    }
    (numbers, rest)
}

/// As the kernel aligns it: `%10u` after a space.
fn put_cells(out: &mut Vec<u8>, row: &Row<'_>, columns: usize) {
    const ZERO: &[u8] = b"          0";
    if row.single {
        put!(out, " {:>10}", row.sum);
        return;
    }
    let mut at = 0;
    for (first, cells) in &row.cells {
        (at..*first).for_each(|_| out.extend_from_slice(ZERO));
        for n in cells {
            put!(out, " {n:>10}");
        }
        at = first + cells.len();
    }
    (at..columns).for_each(|_| out.extend_from_slice(ZERO));
}
