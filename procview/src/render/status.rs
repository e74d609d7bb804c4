//! /proc/PID/status and task/TID/status.

use super::Place;
use crate::merge::text::{put, split_at_byte};

/// The text as the cluster shows it (proc_pid_status(5), fs/proc/array.c): Tgid, Ngid, Pid, PPid,
/// TracerPid and the first number of NStgid, NSpid, NSpgid and NSsid are cluster pids; 0 stays,
/// but as a PPid it becomes the root's, save of a kernel thread. All else stays, byte for byte,
/// so `Cpus_allowed` counts the node's own cpus. The kernel escapes newlines in Name, so no
/// process can forge a line.
pub fn status(raw: &[u8], place: &Place<'_>, kthread: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len() + 128);
    let mut has_pid = false;
    for line in raw.split_inclusive(|b| *b == b'\n') {
        let (key, value) = split_at_byte(line, b':').unwrap_or((line, b""));
        let parent = key == b"PPid";
        has_pid |= key == b"Pid";
        if !parent && !names_a_pid(key) {
            out.extend_from_slice(line);
            continue;
        }
        let at = value.iter().position(|b| *b != b'\t' && *b != b' ')?;
        let (blank, value) = value.split_at(at);
        let end = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
        let (word, rest) = value.split_at(end);
        out.extend_from_slice(key);
        out.push(b':');
        out.extend_from_slice(blank);
        put!(out, "{}", if parent { place.parent(word, kthread)? } else { place.pid(word)? });
        out.extend_from_slice(rest);
    }
    has_pid.then_some(out)
}

fn names_a_pid(key: &[u8]) -> bool {
    matches!(
        key,
        b"Tgid" | b"Ngid" | b"Pid" | b"TracerPid" | b"NStgid" | b"NSpid" | b"NSpgid" | b"NSsid"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use krg_types::NodeId;

    fn rendered(raw: &str, kthread: bool) -> Option<String> {
        let (node, numbers) = (NodeId::new(1).unwrap(), &Numbers::default());
        let place = Place { node, cpu_base: 4, start_shift_ticks: 9, numbers };
        status(raw.as_bytes(), &place, kthread).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_kernel_thread_has_no_parent() {
        let raw = "Pid:\t2\nPPid:\t0\nNgid:\t0\n";
        assert_eq!(rendered(raw, true).unwrap(), "Pid:\t4194306\nPPid:\t0\nNgid:\t0\n");
        assert_eq!(rendered(raw, false).unwrap(), "Pid:\t4194306\nPPid:\t1\nNgid:\t0\n");
    }

    #[test]
    fn only_first_numbers_change() {
        let raw = "Name:\ta Pid: 7\nPid:\t7\nNSpid:\t7\t1\nThreads:\t7\nodd";
        let want = "Name:\ta Pid: 7\nPid:\t4194311\nNSpid:\t4194311\t1\nThreads:\t7\nodd";
        assert_eq!(rendered(raw, false).unwrap(), want);
        for bad in ["", "Name:\tx\n", "Pid:\tx\n", "Pid:", "Pid:\t4194304\n", "Pid:\t-1\n"] {
            assert_eq!(rendered(bad, false), None, "{bad}");
        }
    }
}
