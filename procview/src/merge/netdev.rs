//! /proc/net/dev: what the network interfaces did.

use super::Part;
use super::name::of_node;
use super::text::{lines, numbers, put, split_at_byte};

/// Longest name of an interface: Linux's IFNAMSIZ is 16 with its final zero. Tools copy the name
/// into an array of that size, and old net-tools do so without a look at its length.
const NAME_MAX: usize = 15;

const HEADER: &[u8] = b"\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|\
bytes    packets errs drop fifo colls carrier compressed
";

/// Widths of the 16 columns in net/core/net-procfs.c.
const WIDTHS: [usize; 16] = [7, 7, 4, 4, 4, 5, 10, 9, 8, 7, 4, 4, 4, 5, 7, 10];

/// /proc/net/dev of the cluster (proc_pid_net(5), net/core/net-procfs.c): every node's lines
/// below one header, each under the name `n3-eth0`.
pub fn netdev(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for part in parts {
        for line in lines(part.text) {
            put_line(&mut out, part, line);
        }
    }
    out
}

fn put_line(out: &mut Vec<u8>, part: &Part<'_>, line: &[u8]) -> Option<()> {
    // The last colon: an alias of old (`eth0:1`) holds one itself.
    let at = line.iter().rposition(|b| *b == b':')?;
    let (name, rest) = (line.get(..at)?.trim_ascii(), line.get(at + 1..)?);
    let name = split_at_byte(name, b':').map_or(name, |(device, _)| device);
    let name = of_node(part.node, name, NAME_MAX)?;
    let start = out.len();
    put!(out, "{:>width$}", "", width = 6usize.saturating_sub(name.len()));
    out.extend_from_slice(&name);
    out.push(b':');
    let mut count = 0;
    for (n, width) in numbers(rest).zip(WIDTHS) {
        put!(out, " {n:>width$}");
        count += 1;
    }
    out.push(b'\n');
    if count < WIDTHS.len() {
        out.truncate(start);
    }
    Some(())
}
