//! One process, from the texts of it that travel in samples.

use crate::merge::text::{lines, number, numbers, split_at_byte, words};
use crate::render::Place;
use crate::render::stat::{fields, is_kthread, split};
use crate::store::Process;
use krg_rpc::proto::view::ViewProcess;
use krg_sys::cred::Caller;
use krg_types::PidFile;
use krg_types::limits::CPUS_PER_NODE_MAX;

/// The places of these in `PidFile::SAMPLED`.
const STAT: usize = 0;
const STATUS: usize = 1;
const STATM: usize = 2;
const CMDLINE: usize = 3;
const ENVIRON: usize = 4;

/// The last field of stat that is told: its policy.
const LAST_FIELD: usize = 41;

/// What of a process is wanted beside its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Wants<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// Its command line.
    pub command: bool,
    /// Its environment too, where the caller may read it.
    pub environment: bool,
    /// KiB of a page on its node.
    pub page_kib: u64,
}

/// What is told of it; `None`: its texts are none of a process. What of it is too long to travel in
/// samples is left empty: bits as in `PidFile`, the second value.
pub fn process(
    process: &Process,
    place: &Place<'_>,
    wants: &Wants<'_>,
) -> Option<(ViewProcess, u64)> {
    let mut told = ViewProcess {
        node: place.node.get(),
        start_ticks: process.start_ticks,
        ..ViewProcess::default()
    };
    stat(&mut told, &process.texts[STAT], place)?;
    let sole = status(&mut told, &process.texts[STATUS], wants.page_kib);
    let root = wants.caller.uid == 0;
    if !root {
        told.wchan = 0;
    }
    told.shared_pages = numbers(&process.texts[STATM]).nth(2).unwrap_or(0);
    let mut missing = 0;
    if wants.command {
        missing |= process.oversize & PidFile::Cmdline.bit();
        told.cmdline = process.texts[CMDLINE].to_vec();
    }
    // Who may trace a process reads its environment (ptrace(2)): the sample was read as root.
    let own =
        sole == Some((wants.caller.uid, wants.caller.gid)) && process.uid == wants.caller.uid;
    if wants.environment && (root || own) {
        missing |= process.oversize & PidFile::Environ.bit();
        told.environment = process.texts[ENVIRON].to_vec();
    }
    Some((told, missing))
}

/// What proc_pid_stat(5) says. Numbers of processes become the cluster's.
fn stat(told: &mut ViewProcess, raw: &[u8], place: &Place<'_>) -> Option<()> {
    let (pid, comm, rest) = split(raw.strip_suffix(b"\n").unwrap_or(raw))?;
    told.local_pid = u32::try_from(number(pid)?).ok()?;
    told.pid = place.pid(pid).filter(|pid| *pid != 0)?;
    told.comm = comm.to_vec();
    let short = |word| number(word).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let long = |word| number(word).unwrap_or(0);
    let mut parent = None;
    for (field, word) in fields(rest)?.take_while(|(field, _)| *field <= LAST_FIELD) {
        match field {
            3 => match word {
                [letter] => told.state = u32::from(*letter),
                _ => return None,
            },
            4 => parent = Some(word),
            5 => told.pgrp = place.pid(word).unwrap_or(0),
            6 => told.session = place.pid(word).unwrap_or(0),
            7 => told.tty = short(word),
            8 if word.starts_with(b"-") => told.tpgid = u32::MAX,
            8 => told.tpgid = place.pid(word).unwrap_or(0),
            9 => told.flags = long(word),
            10 => told.minor_faults = long(word),
            12 => told.major_faults = long(word),
            14 => told.utime_ticks = long(word),
            15 => told.stime_ticks = long(word),
            16 => told.cutime_ticks = long(word),
            17 => told.cstime_ticks = long(word),
            18 => told.priority = signed(word),
            19 => told.nice = signed(word),
            20 => told.threads = short(word),
            23 => told.vsize_bytes = long(word),
            24 => told.rss_pages = long(word),
            35 => told.wchan = long(word),
            39 => {
                let cpu = short(word).min(CPUS_PER_NODE_MAX);
                told.processor = place.cpu_base.saturating_add(cpu);
            }
            40 => told.rt_priority = short(word),
            LAST_FIELD => told.policy = short(word),
            _ => {}
        }
    }
    told.ppid = place.parent(parent?, is_kthread(told.flags))?;
    Some(())
}

fn signed(word: &[u8]) -> i32 {
    let (word, sign) = word.strip_prefix(b"-").map_or((word, 1), |word| (word, -1));
    sign * number(word).and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

/// What proc_pid_status(5) says. Its uid and gid, if all of each are the same and it has no
/// capabilities: then who has the same may trace it.
fn status(told: &mut ViewProcess, raw: &[u8], page_kib: u64) -> Option<(u32, u32)> {
    let (mut uids, mut gids, mut capable) = (None, None, false);
    for line in lines(raw) {
        let Some((key, value)) = split_at_byte(line, b':') else { continue };
        match key {
            b"Uid" => uids = ids(value),
            b"Gid" => gids = ids(value),
            // The kernel counts more exactly here than in stat.
            b"VmRSS" if page_kib > 0 => {
                told.rss_pages =
                    numbers(value).next().map_or(told.rss_pages, |kib| kib / page_kib);
            }
            b"VmLck" => told.locked_memory = numbers(value).next().unwrap_or(0) > 0,
            b"CapPrm" => capable = value.trim_ascii().iter().any(|digit| *digit != b'0'),
            _ => {}
        }
    }
    if let Some([real, effective, _]) = uids {
        (told.ruid, told.euid) = (real, effective);
    }
    if let Some([real, effective, _]) = gids {
        (told.rgid, told.egid) = (real, effective);
    }
    let sole = |ids: [u32; 3]| (ids[0] == ids[1] && ids[1] == ids[2]).then_some(ids[0]);
    uids.and_then(sole).zip(gids.and_then(sole)).filter(|_| !capable)
}

/// Real, effective and saved.
fn ids(value: &[u8]) -> Option<[u32; 3]> {
    let mut all = words(value).map(|word| u32::try_from(number(word)?).ok());
    Some([all.next()??, all.next()??, all.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use krg_types::NodeId;
    use proptest::prelude::*;

    const STATUS_TEXT: &str = "Name:\tx\nUid:\t33\t33\t33\t33\nGid:\t33\t33\t33\t33\n\
        VmLck:\t       4 kB\nVmRSS:\t      40 kB\nCapPrm:\t0000000000000000\n";

    fn of(texts: [&[u8]; 5]) -> Process {
        let mut process = Process { start_ticks: 22, uid: 33, gid: 33, ..Process::default() };
        for (slot, text) in process.texts.iter_mut().zip(texts) {
            *slot = text.into();
        }
        process
    }

    fn told(process: &Process, uid: u32, environment: bool) -> Option<(ViewProcess, u64)> {
        let numbers = &Numbers::default();
        let node = NodeId::new(2).unwrap();
        let place = Place { node, cpu_base: 16, start_shift_ticks: 1000, numbers };
        let caller = &Caller { uid, gid: uid, groups: Vec::new() };
        super::process(
            process,
            &place,
            &Wants { caller, command: true, environment, page_kib: 4 },
        )
    }

    fn stat_text() -> String {
        let mut words: Vec<String> = (1..=52).map(|n| n.to_string()).collect();
        words[1] = "(a\n\\n) S)".into();
        words[2] = "R".into();
        words[7] = "-1".into();
        words[18] = "-5".into();
        words.join(" ")
    }

    #[test]
    fn every_number_is_in_its_place() {
        let stat = stat_text();
        let process =
            of([stat.as_bytes(), STATUS_TEXT.as_bytes(), b"9 8 7 6", b"a\0b\0", b"K=V\0"]);
        let (p, missing) = told(&process, 0, true).unwrap();
        assert_eq!((p.pid, p.local_pid, p.ppid), (8_388_609, 1, 8_388_612));
        assert_eq!((p.pgrp, p.session, p.tty, p.tpgid), (8_388_613, 8_388_614, 7, u32::MAX));
        assert_eq!((p.comm.as_slice(), p.state), (&b"a\n\\n) S"[..], u32::from(b'R')));
        assert_eq!((p.flags, p.minor_faults, p.major_faults), (9, 10, 12));
        assert_eq!(
            [p.utime_ticks, p.stime_ticks, p.cutime_ticks, p.cstime_ticks],
            [14, 15, 16, 17]
        );
        assert_eq!((p.priority, p.nice, p.threads, p.start_ticks), (18, -5, 20, 22));
        assert_eq!((p.vsize_bytes, p.rss_pages, p.shared_pages), (23, 10, 7));
        assert_eq!((p.wchan, p.processor, p.rt_priority, p.policy), (35, 55, 40, 41));
        assert_eq!((p.ruid, p.euid, p.rgid, p.egid, p.locked_memory), (33, 33, 33, 33, true));
        assert_eq!(
            (p.cmdline.as_slice(), p.environment.as_slice()),
            (&b"a\0b\0"[..], &b"K=V\0"[..])
        );
        assert_eq!(missing, 0);
    }

    #[test]
    fn an_environment_is_told_to_its_own_user_and_root() {
        let stat = stat_text();
        let with =
            |status: &str| of([stat.as_bytes(), status.as_bytes(), b"", b"", b"SECRET=1\0"]);
        let sees = |process: &Process, uid| {
            let (told, _) = told(process, uid, true).unwrap();
            !told.environment.is_empty()
        };
        let plain = with(STATUS_TEXT);
        assert!(sees(&plain, 0) && sees(&plain, 33) && !sees(&plain, 34));
        let undumpable = Process { uid: 0, ..plain.clone() };
        assert!(sees(&undumpable, 0) && !sees(&undumpable, 33));
        for other in ["Uid:\t33\t33\t0", "Uid:\t0\t33\t33", "Gid:\t33\t33\t8", "CapPrm:\t0001"] {
            let (key, _) = other.split_once(':').unwrap();
            let changed = STATUS_TEXT.lines().map(|line| match line.starts_with(key) {
                true => format!("{other}\n"),
                false => format!("{line}\n"),
            });
            let process = with(&changed.collect::<String>());
            assert!(sees(&process, 0) && !sees(&process, 33), "{other}");
        }
        assert!(told(&plain, 33, false).unwrap().0.environment.is_empty());
        assert_eq!(told(&plain, 33, false).unwrap().0.wchan, 0, "as the kernel hides it");
    }

    #[test]
    fn what_is_too_long_for_a_sample_is_named() {
        let stat = stat_text();
        let bits = PidFile::Cmdline.bit() | PidFile::Environ.bit() | PidFile::Status.bit();
        let long = Process {
            oversize: bits,
            ..of([stat.as_bytes(), STATUS_TEXT.as_bytes(), b"", b"", b""])
        };
        assert_eq!(told(&long, 0, false).unwrap().1, PidFile::Cmdline.bit());
        assert_eq!(
            told(&long, 0, true).unwrap().1,
            PidFile::Cmdline.bit() | PidFile::Environ.bit()
        );
        assert_eq!(told(&long, 34, true).unwrap().1, PidFile::Cmdline.bit());
    }

    #[test]
    fn what_is_no_process_is_left_out() {
        for bad in ["", "5", "5 (a", "0 (a) S 1", "5 (a) S x", "4194304 (a) S 1"] {
            assert!(told(&of([bad.as_bytes(), b"", b"", b"", b""]), 0, true).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            stat in proptest::collection::vec(any::<u8>(), 0..200),
            status in proptest::collection::vec(any::<u8>(), 0..200),
            fields in proptest::collection::vec(any::<i64>(), 0..60),
        ) {
            told(&of([&stat, &status, &status, &stat, &stat]), 0, true);
            let words: Vec<String> = fields.iter().map(i64::to_string).collect();
            let stat = format!("5 (a) S {}", words.join(" "));
            told(&of([stat.as_bytes(), &status, b"", b"", b""]), 7, true);
        }
    }
}
