//! System calls on a cluster pid, in a session. The kernel knows no process of that number and
//! would say ESRCH, whereupon psutil and what is built on it (Glances) drop the process. Those
//! that only ask are answered from the view, and a signal is sent by way of krgd; all others go
//! their way. Pure, but for `View`.

use krg_sys::seccomp::{Answer, Numbers, Watched};
use krg_types::limits::{JOB_NODE_SHIFT, LOCAL_PID_BITS};

/// Every number by which the view shows a process of a node, or of a job. Those of jobs may be
/// pids of this machine too.
pub const NUMBERS: Numbers = Numbers { from: 1 << JOB_NODE_SHIFT, to: 1 << 30 };
/// `which` of getpriority(2) and ioprio_get(2) for one process.
const PRIO_PROCESS: u64 = 0;
const IOPRIO_WHO_PROCESS: u64 = 1;
/// More cpus than any cluster has; a longer mask is not looked at.
const MASK_BYTES_MAX: u64 = 1 << 20;

/// The calls that are answered, and which argument is the pid.
pub const WATCHED: [Watched; 8] = [
    Watched { number: libc::SYS_getpriority, argument: 1 },
    Watched { number: libc::SYS_ioprio_get, argument: 1 },
    Watched { number: libc::SYS_sched_getaffinity, argument: 0 },
    Watched { number: libc::SYS_sched_getscheduler, argument: 0 },
    Watched { number: libc::SYS_sched_getparam, argument: 0 },
    Watched { number: libc::SYS_getpgid, argument: 0 },
    Watched { number: libc::SYS_getsid, argument: 0 },
    Watched { number: libc::SYS_kill, argument: 0 },
];

/// What the answers are made from.
pub trait View {
    /// A text of the view, by its path below /proc.
    fn text(&self, path: &str) -> Option<String>;
    /// Sends a signal to this process as the caller; 0 only asks whether he may.
    fn signal(&self, pid: u32, signal: i32) -> Result<(), i32>;
}

/// The answer to a call with these arguments.
pub fn answer(number: i64, args: &[u64; 6], view: &dyn View) -> Answer {
    let watched = WATCHED.iter().find(|w| w.number == number);
    let Some(pid) = watched.map(|w| args[usize::from(w.argument)] as u32) else {
        return Answer::Go;
    };
    // What the view shows under a pid of this machine is its own /proc's, which has no such file.
    if pid >> LOCAL_PID_BITS == 0 && view.text(&format!("{pid}/where")).is_none() {
        return Answer::Go;
    }
    let stat = view.text(&format!("{pid}/stat"));
    let Some(fields) = stat.as_deref().and_then(fields) else {
        return Answer::Errno(libc::ESRCH);
    };
    // Fields of proc_pid_stat(5), by their numbers there.
    let field = |n: usize| fields.get(n - 3).and_then(|w| w.parse::<i64>().ok()).unwrap_or(0);
    match number {
        // The system call's own scale: 40 is nice -20 (getpriority(2), "C library differences").
        libc::SYS_getpriority if args[0] == PRIO_PROCESS => Answer::Value(20 - field(19)),
        // No file tells it; "none" is what a process has that never set it.
        libc::SYS_ioprio_get if args[0] == IOPRIO_WHO_PROCESS => Answer::Value(0),
        libc::SYS_sched_getscheduler => Answer::Value(field(41)),
        libc::SYS_sched_getparam => {
            let priority = i32::try_from(field(40)).unwrap_or(0);
            Answer::Bytes(args[1], priority.to_ne_bytes().to_vec(), 0)
        }
        libc::SYS_getpgid => Answer::Value(field(5)),
        libc::SYS_getsid => Answer::Value(field(6)),
        libc::SYS_sched_getaffinity => affinity(pid, field(39), args, view),
        libc::SYS_kill => match view.signal(pid, args[1] as i32) {
            Ok(()) => Answer::Value(0),
            Err(errno) => Answer::Errno(errno),
        },
        _ => Answer::Go,
    }
}

/// The words behind the name, which ends with the last `)`.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(") ")?.1.split_whitespace().collect())
}

/// The cpus it may use, as the cluster numbers them, in a mask of the caller's length.
fn affinity(pid: u32, cpu: i64, args: &[u64; 6], view: &dyn View) -> Answer {
    // Its node's cpus are the package that the cpu it ran on last is of.
    let package = format!(".sys/cpu/cpu{cpu}/topology/core_siblings_list");
    let node = view.text(&package).map(|list| cpus(&list)).unwrap_or_default();
    let status = view.text(&format!("{pid}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    let allowed = allowed.map(cpus).unwrap_or_default();
    let own: Vec<usize> = allowed.iter().filter_map(|n| node.get(*n).copied()).collect();
    let all = view.text(".sys/cpu/possible").map(|list| cpus(&list)).unwrap_or_default();
    // The kernel's rules: whole words, room for every cpu there is (sched_getaffinity(2)).
    let needed = all.len().div_ceil(64) * 8;
    let room = args[1].min(MASK_BYTES_MAX) as usize;
    if own.is_empty() || room < needed || !room.is_multiple_of(8) {
        return Answer::Errno(libc::EINVAL);
    }
    let mut mask = vec![0u8; needed];
    for cpu in own {
        if let Some(byte) = mask.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    Answer::Bytes(args[2], mask, needed as i64)
}

/// The cpus of a list such as `0-3,8`, bounded.
fn cpus(list: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for item in list.trim().split(',') {
        let (a, b) = item.split_once('-').unwrap_or((item, item));
        let (Ok(a), Ok(b)) = (a.parse::<usize>(), b.parse::<usize>()) else { continue };
        let b = b.min(MASK_BYTES_MAX as usize);
        all.extend(a..=b);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Texts(HashMap<String, String>);

    impl View for Texts {
        fn text(&self, path: &str) -> Option<String> {
            self.0.get(path).cloned()
        }
        fn signal(&self, pid: u32, signal: i32) -> Result<(), i32> {
            match (pid, signal) {
                (8_388_613, 0 | 15) => Ok(()),
                _ => Err(libc::EPERM),
            }
        }
    }

    fn view() -> Texts {
        let numbers: Vec<String> = (4..=52).map(|n| (n * 10).to_string()).collect();
        let mut words = numbers;
        words[19 - 4] = "-5".into();
        words[39 - 4] = "3".into();
        words[41 - 4] = "1".into();
        let stat = format!("8388613 (a ) b) S {}\n", words.join(" "));
        let texts = [
            ("40000/stat", stat.clone()),
            ("32769/where", "2\n".into()),
            ("32769/stat", stat.clone()),
            ("8388613/stat", stat),
            ("8388613/status", "Name:\ta\nCpus_allowed_list:\t1-63\n".into()),
            (".sys/cpu/cpu3/topology/core_siblings_list", "2-3\n".into()),
            (".sys/cpu/possible", "0-5\n".into()),
        ];
        Texts(texts.map(|(k, v)| (k.to_owned(), v)).into())
    }

    fn ask(number: i64, args: [u64; 3]) -> Answer {
        answer(number, &[args[0], args[1], args[2], 0, 0, 0], &view())
    }

    const PID: u64 = 8_388_613;

    #[test]
    fn what_is_asked_is_read_from_the_view() {
        assert_eq!(ask(libc::SYS_getpriority, [0, PID, 0]), Answer::Value(25));
        assert_eq!(ask(libc::SYS_ioprio_get, [1, PID, 0]), Answer::Value(0));
        assert_eq!(ask(libc::SYS_sched_getscheduler, [PID, 0, 0]), Answer::Value(1));
        assert_eq!(ask(libc::SYS_getpgid, [PID, 0, 0]), Answer::Value(50));
        assert_eq!(ask(libc::SYS_getsid, [PID, 0, 0]), Answer::Value(60));
        let priority = 400i32.to_ne_bytes().to_vec();
        assert_eq!(ask(libc::SYS_sched_getparam, [PID, 77, 0]), Answer::Bytes(77, priority, 0));
        assert_eq!(ask(libc::SYS_kill, [PID, 0, 0]), Answer::Value(0));
    }

    #[test]
    fn signals_are_sent_for_the_caller() {
        assert_eq!(ask(libc::SYS_kill, [PID, 15, 0]), Answer::Value(0));
        assert_eq!(ask(libc::SYS_kill, [PID, 9, 0]), Answer::Errno(libc::EPERM));
        assert_eq!(ask(libc::SYS_kill, [PID + 1, 15, 0]), Answer::Errno(libc::ESRCH));
    }

    #[test]
    fn the_affinity_is_in_the_clusters_cpus() {
        // Of the node's cpus 0 and 1, the cluster's 2 and 3, it may use the second.
        let mask = vec![0b1000, 0, 0, 0, 0, 0, 0, 0];
        let args = [PID, 128, 99];
        assert_eq!(ask(libc::SYS_sched_getaffinity, args), Answer::Bytes(99, mask, 8));
        assert_eq!(ask(libc::SYS_sched_getaffinity, [PID, 4, 9]), Answer::Errno(libc::EINVAL));
    }

    #[test]
    fn the_others_go_to_the_kernel_and_who_is_gone_is_gone() {
        assert_eq!(ask(libc::SYS_getpriority, [1, PID, 0]), Answer::Go);
        assert_eq!(ask(libc::SYS_getpgid, [PID + 1, 0, 0]), Answer::Errno(libc::ESRCH));
        assert_eq!(ask(libc::SYS_read, [PID, 0, 0]), Answer::Go);
        assert_eq!(ask(libc::SYS_getpgid, [40_000, 0, 0]), Answer::Go);
        assert_eq!(ask(libc::SYS_getpgid, [32_769, 0, 0]), Answer::Value(50));
    }

    #[test]
    fn lists_are_bounded() {
        assert_eq!(cpus("0-2,7\n"), [0, 1, 2, 7]);
        assert!(cpus("0-99999999999").len() <= MASK_BYTES_MAX as usize + 1);
        assert!(cpus("x,-,3-1").is_empty());
    }
}
