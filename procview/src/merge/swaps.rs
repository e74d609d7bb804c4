//! /proc/swaps: where pages are swapped to.

use super::Part;
use super::text::{lines, number, put, words};

const HEADER: &[u8] = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
/// Longest file name taken, bytes (Linux's PATH_MAX, each byte perhaps written as `\040`).
const PATH_MAX: usize = 4 * 4096;

/// /proc/swaps of the cluster (proc_swaps(5), mm/swapfile.c): every node's lines below one
/// header, each file named `/node3/dev/sda2`: one word, and a path that no node has, so that no
/// tool takes it for a device or a file of its own.
pub fn swaps(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for part in parts {
        for line in lines(part.text) {
            put_line(&mut out, part, line);
        }
    }
    out
}

/// As mm/swapfile.c formats it: the name takes 40 columns, then tabs.
fn put_line(out: &mut Vec<u8>, part: &Part<'_>, line: &[u8]) -> Option<()> {
    let mut words = words(line);
    let path = words.next().filter(|path| path.starts_with(b"/") && path.len() <= PATH_MAX)?;
    let kind = words.next().filter(|kind| matches!(*kind, b"file" | b"partition"))?;
    let (size, used) = (words.next().and_then(number)?, words.next().and_then(number)?);
    let priority = words.next().filter(|word| {
        number(word.strip_prefix(b"-").unwrap_or(word)).is_some_and(|n| n <= 32_768)
    })?;
    let start = out.len();
    put!(out, "/node{}", part.node);
    out.extend_from_slice(path);
    let pad = 40usize.saturating_sub(out.len() - start).max(1);
    put!(out, "{:pad$}", "");
    out.extend_from_slice(if kind == b"file" { b"file\t" } else { b"partition" });
    let tab = |n: u64| if n < 10_000_000 { "\t" } else { "" };
    put!(out, "\t{size}\t{}{used}\t{}", tab(size), tab(used));
    out.extend_from_slice(priority);
    out.push(b'\n');
    Some(())
}
