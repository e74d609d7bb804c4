//! /proc/diskstats: what the disks did.

use super::Part;
use super::name::of_node;
use super::text::{lines, number, put, words};

/// Longest name of a disk: Linux's DISK_NAME_LEN is 32 with its final zero, and procps reads 34.
const NAME_MAX: usize = 31;
/// Fewest numbers behind a name (Linux 2.6.25 to 4.17; 15 since 4.18, 17 since 5.5).
const NUMBERS_MIN: usize = 11;

/// /proc/diskstats of the cluster (proc_diskstats(5), block/genhd.c, iostats.rst): every node's
/// lines, each under the name `n3-sda`. Device numbers and the count of fields stay as they are.
pub fn diskstats(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        for line in lines(part.text) {
            put_line(&mut out, part, line);
        }
    }
    out
}

/// As the kernel formats it: `%4d %7d %s %lu ...`.
fn put_line(out: &mut Vec<u8>, part: &Part<'_>, line: &[u8]) -> Option<()> {
    let mut words = words(line);
    let major = words.next().and_then(number)?;
    let minor = words.next().and_then(number)?;
    let name = of_node(part.node, words.next()?, NAME_MAX)?;
    let start = out.len();
    put!(out, "{major:>4} {minor:>7} ");
    out.extend_from_slice(&name);
    let mut count = 0;
    for n in words.map_while(number) {
        put!(out, " {n}");
        count += 1;
    }
    out.push(b'\n');
    if count < NUMBERS_MIN {
        out.truncate(start);
    }
    Some(())
}
