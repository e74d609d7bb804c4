//! /proc/meminfo: where the memory is.

use super::Part;
use super::sums::Sums;
use super::text::{lines, number, put, split_at_byte, words};

#[derive(Default)]
struct Field {
    seen: bool,
    value: u64,
    kilobytes: bool,
}

/// /proc/meminfo of the cluster (proc_meminfo(5), fs/proc/meminfo.c): each field is the sum over
/// the nodes that have it, in the order of first appearance. As in Kerrighed `VmallocChunk`, the
/// largest free block, is the maximum; `Hugepagesize` is not an amount: the first node's.
pub fn meminfo(parts: &[Part<'_>]) -> Vec<u8> {
    let mut fields = Sums::<Field>::default();
    for line in parts.iter().flat_map(|part| lines(part.text)) {
        let Some((name, rest)) = split_at_byte(line, b':') else { continue };
        let mut words = words(rest);
        let Some(value) = words.next().and_then(number) else { continue };
        let Some(field) = fields.entry(name) else { continue };
        field.value = match name {
            b"VmallocChunk" => field.value.max(value),
            b"Hugepagesize" if field.seen => field.value,
            _ => field.value.saturating_add(value),
        };
        field.kilobytes |= words.next() == Some(b"kB");
        field.seen = true;
    }
    let mut out = Vec::new();
    for (name, field) in fields.into_entries() {
        put_field(&mut out, name, &field);
    }
    out
}

/// As the kernel aligns it: `%-16s%8lu kB`; a longer label takes from the number's width.
fn put_field(out: &mut Vec<u8>, name: &[u8], field: &Field) {
    let label = (name.len() + 2).max(16);
    out.extend_from_slice(name);
    put!(out, "{:<width$}", ":", width = label - name.len());
    put!(out, "{:>width$}", field.value, width = 24usize.saturating_sub(label));
    out.extend_from_slice(if field.kilobytes { b" kB\n" } else { b"\n" });
}
