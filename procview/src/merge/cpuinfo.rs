//! /proc/cpuinfo: what the cpus are.

use super::text::{number, put, split_at_byte};
use super::{Part, with_room};

/// Highest socket number that is moved (x86 kept it in 16 bits); a stranger one stays.
const SOCKET_MAX: u64 = u16::MAX as u64;

/// /proc/cpuinfo of the cluster (proc_cpuinfo(5), arch/x86/kernel/cpu/proc.c): the nodes' texts
/// one after the other. `processor` becomes the cluster's cpu number; `physical id` moves above
/// the sockets of the nodes before, so that counting its values counts the sockets. `core id` and
/// `apicid` stay: they mean something within a socket only.
pub fn cpuinfo(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.text.len() + 16).sum());
    let mut sockets = 0;
    for (part, room) in with_room(parts).filter(|(part, _)| !part.text.is_empty()) {
        if !out.is_empty() && !out.ends_with(b"\n\n") {
            out.push(b'\n');
        }
        let highest = one_node(&mut out, part, room, sockets);
        sockets += highest.map_or(0, |socket| socket + 1);
    }
    out
}

/// Adds a node's text; tells its highest socket number.
fn one_node(out: &mut Vec<u8>, part: &Part<'_>, room: u32, sockets: u64) -> Option<u64> {
    let (mut next, mut highest, mut keep) = (0, None, true);
    for line in part.text.strip_suffix(b"\n").unwrap_or(part.text).split(|b| *b == b'\n') {
        let (key, value) = split_at_byte(line, b':').unwrap_or((line, b""));
        let label = line.get(..key.len() + 1).unwrap_or(line);
        let value = number(value.trim_ascii());
        match (key.trim_ascii_end(), value) {
            (b"processor", Some(cpu)) => {
                // A number out of order would name some cpu twice: its whole block goes.
                keep = (next..u64::from(room)).contains(&cpu);
                if keep {
                    next = cpu + 1;
                    out.extend_from_slice(label);
                    put!(out, " {}\n", u64::from(part.cpu_base).saturating_add(cpu));
                }
            }
            (b"physical id", Some(socket)) if keep && socket <= SOCKET_MAX => {
                highest = highest.max(Some(socket));
                out.extend_from_slice(label);
                put!(out, " {}\n", sockets + socket);
            }
            (b"", _) if !keep => keep = true,
            _ if keep => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            _ => {}
        }
    }
    highest
}
