//! /proc/version: which kernels run.

use super::Part;
use super::text::{put, words};

/// Longest line taken from a node, and longest release shown of one, bytes.
const LINE_MAX: usize = 1024;
const RELEASE_MAX: usize = 64;

/// /proc/version of the cluster (proc_version(5), fs/proc/version.c): the first node's line.
/// Nodes whose line differs are named behind it, `[node 3: 6.1.0-18-amd64]`, so that the text
/// stays one line which begins as the kernel's.
pub fn version(parts: &[Part<'_>]) -> Vec<u8> {
    let mut lines = parts.iter().filter_map(|part| Some((part.node, line(part.text)?)));
    let Some((_, (first, _))) = lines.next() else { return Vec::new() };
    let mut out = first.to_vec();
    for (node, (_, release)) in lines.filter(|(_, (line, _))| *line != first) {
        put!(out, " [node {node}: ");
        out.extend_from_slice(release);
        out.push(b']');
    }
    out.push(b'\n');
    out
}

/// The line and its release, if it is one that a kernel can have written.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let printable = line.len() <= LINE_MAX && !line.iter().any(u8::is_ascii_control);
    let mut words = words(line.strip_prefix(b"Linux version ").filter(|_| printable)?);
    let release = words.next()?;
    let numbered = release.first().is_some_and(u8::is_ascii_digit);
    (numbered && release.len() <= RELEASE_MAX).then_some((line, release))
}
