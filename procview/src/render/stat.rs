//! /proc/PID/stat and task/TID/stat.

use super::Place;
use crate::merge::text::{number, put};
use krg_types::limits::CPUS_PER_NODE_MAX;

/// PF_KTHREAD of include/linux/sched.h: a thread of the kernel itself.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Fields of the text that are of use before it is rendered; one that is missing is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatFields<'a> {
    /// The node's own pid (tid in task/TID/stat).
    pub pid: u32,
    /// The name, without its parentheses; any bytes, as the kernel has it (fs/proc/array.c,
    /// do_task_stat: other than in status, nothing is escaped).
    pub comm: &'a [u8],
    /// The letter of the state, such as `R`.
    pub state: u8,
    /// The node's own pid of the parent.
    pub ppid: u32,
    /// The kernel's PF_ flags.
    pub flags: u64,
    /// Clock ticks spent in user mode.
    pub utime: u64,
    /// Clock ticks spent in the kernel.
    pub stime: u64,
    /// Count of threads.
    pub num_threads: u64,
    /// Clock ticks from the node's boot to the start.
    pub starttime: u64,
    /// Virtual memory, bytes.
    pub vsize: u64,
    /// Resident memory, pages.
    pub rss: u64,
    /// Address of the program's text.
    pub startcode: u64,
}

impl StatFields<'_> {
    /// Is it a thread of the kernel?
    pub fn is_kthread(&self) -> bool {
        is_kthread(self.flags)
    }

    /// Is this process still the same one, and has it not called execve(2)?
    pub fn is_program_of(&self, later: &StatFields<'_>) -> bool {
        let same = |s: &StatFields<'_>| (s.starttime, s.startcode);
        same(self) == same(later) && self.comm == later.comm
    }
}

/// Is a process with these flags a thread of the kernel?
pub(crate) fn is_kthread(flags: u64) -> bool {
    flags & PF_KTHREAD != 0
}

/// The text in three: pid, comm, and all that follows the `)`. A comm may hold anything, also
/// `)`; what follows never does, so the last one ends it.
pub(crate) fn split(raw: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = raw.iter().position(|b| *b == b'(')?;
    let close = raw.iter().rposition(|b| *b == b')').filter(|close| *close > open)?;
    let pid = raw.get(..open)?.strip_suffix(b" ")?;
    Some((pid, raw.get(open + 1..close)?, raw.get(close + 1..)?))
}

/// The words behind the comm with the numbers that proc_pid_stat(5) gives them, from 3 on.
pub(crate) fn fields(rest: &[u8]) -> Option<impl Iterator<Item = (usize, &[u8])>> {
    let rest = rest.strip_prefix(b" ")?;
    Some(rest.split(|b| *b == b' ').enumerate().map(|(i, word)| (i + 3, word)))
}

/// Reads the text of /proc/PID/stat (proc_pid_stat(5), fs/proc/array.c).
pub fn parse(raw: &[u8]) -> Option<StatFields<'_>> {
    let (pid, comm, rest) = split(raw.strip_suffix(b"\n").unwrap_or(raw))?;
    let pid = u32::try_from(number(pid)?).ok()?;
    let (mut state, mut ppid, mut values) = (None, None, [0u64; 27]);
    for (field, word) in fields(rest)?.take_while(|(field, _)| *field <= 26) {
        match (field, word) {
            (3, [letter]) => state = Some(*letter),
            (4, _) => ppid = Some(u32::try_from(number(word)?).ok()?),
            // Negative numbers (rss may be for a moment) count as 0.
            _ => values[field] = number(word).unwrap_or(0),
        }
    }
    Some(StatFields {
        pid,
        comm,
        state: state?,
        ppid: ppid?,
        flags: values[9],
        utime: values[14],
        stime: values[15],
        num_threads: values[20],
        starttime: values[22],
        vsize: values[23],
        rss: values[24],
        startcode: values[26],
    })
}

/// The text as the cluster shows it: pid, ppid, pgrp, session and tpgid are cluster pids (0 and
/// negative numbers stay; a ppid of 0 becomes the root's, save of a kernel thread), processor is
/// the cluster's cpu, starttime counts from the cluster's boot. All else stays, byte for byte.
pub fn stat(raw: &[u8], place: &Place<'_>) -> Option<Vec<u8>> {
    let kthread = parse(raw)?.is_kthread();
    let (body, end) = match raw.strip_suffix(b"\n") {
        Some(body) => (body, &b"\n"[..]),
        None => (raw, &b""[..]),
    };
    let (pid, comm, rest) = split(body)?;
    let mut out = Vec::with_capacity(raw.len() + 64);
    put!(out, "{} (", place.pid(pid).filter(|pid| *pid != 0)?);
    out.extend_from_slice(comm);
    out.push(b')');
    for (field, word) in fields(rest)? {
        out.push(b' ');
        let negative = word.strip_prefix(b"-").is_some_and(|word| number(word).is_some());
        match field {
            5 | 6 | 8 | 39 if negative => out.extend_from_slice(word),
            4 => put!(out, "{}", place.parent(word, kthread)?),
            5 | 6 | 8 => put!(out, "{}", place.pid(word)?),
            22 => put!(out, "{}", number(word)?.saturating_add(place.start_shift_ticks)),
            39 => put!(out, "{}", u64::from(place.cpu_base).saturating_add(cpu(word)?)),
            _ => out.extend_from_slice(word),
        }
    }
    out.extend_from_slice(end);
    Some(out)
}

/// The letter of the state, without a look at the rest.
pub(crate) fn state(raw: &[u8]) -> Option<u8> {
    let (_, _, rest) = split(raw)?;
    rest.get(1).copied().filter(u8::is_ascii_alphabetic)
}

fn cpu(word: &[u8]) -> Option<u64> {
    number(word).filter(|cpu| *cpu < u64::from(CPUS_PER_NODE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use krg_types::NodeId;

    fn rendered(raw: &str) -> Option<String> {
        let node = NodeId::new(2).unwrap();
        let numbers = &Numbers::default();
        let place = Place { node, cpu_base: 16, start_shift_ticks: 1000, numbers };
        stat(raw.as_bytes(), &place).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn short_texts_keep_what_they_have() {
        assert_eq!(rendered("5 (a) S 0"), Some("8388613 (a) S 1".into()));
        assert_eq!(
            rendered("5 (a) b) S 4 5 -1 34816 -1 0\n").as_deref(),
            Some("8388613 (a) b) S 8388612 8388613 -1 34816 -1 0\n")
        );
    }

    #[test]
    fn what_does_not_parse_is_refused() {
        for bad in [
            "",
            "5",
            "5 (a",
            "5 )a( S 1",
            "5(a) S 1",
            "x (a) S 1",
            "0 (a) S 1",
            "5 (a)S 1",
            "5 (a) S",
            "5 (a) SS 1",
            "5 (a) S -1",
            "5 (a) S x",
            "4194304 (a) S 1",
            "5 (a) S 4194304",
            "5 (a) S 1 x",
            "5 (a) S 1 --1",
            "5 (a)\0S 1",
        ] {
            assert_eq!(rendered(bad), None, "{bad}");
        }
        let mut long: Vec<String> = "5 (a) S".split(' ').map(str::to_owned).collect();
        long.extend((4..=52).map(|_| "1".to_owned()));
        assert!(rendered(&long.join(" ")).is_some());
        long[38] = "8192".into();
        assert_eq!(rendered(&long.join(" ")), None);
    }

    #[test]
    fn fields_have_the_numbers_of_the_manual() {
        let mut words: Vec<String> = (1..=52).map(|n| n.to_string()).collect();
        words[1] = "(\u{fffd}\n) 9 (x)".into();
        words[2] = "S".into();
        let text = words.join(" ");
        let fields = parse(text.as_bytes()).unwrap();
        assert_eq!(fields.comm, "\u{fffd}\n) 9 (x".as_bytes());
        assert_eq!((fields.pid, fields.state, fields.ppid, fields.flags), (1, b'S', 4, 9));
        assert_eq!((fields.utime, fields.stime, fields.num_threads), (14, 15, 20));
        assert_eq!((fields.starttime, fields.vsize, fields.rss), (22, 23, 24));
        words[0] = "8388609".into();
        for (field, value) in
            [(4, 8388612), (5, 8388613), (6, 8388614), (8, 8388616), (22, 1022), (39, 55)]
        {
            words[field - 1] = value.to_string();
        }
        assert_eq!(rendered(&text), Some(words.join(" ")));
    }
}
