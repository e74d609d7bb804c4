//! Process 1 of the cluster: nobody's process, but the root of everybody's tree.

use crate::merge::text::put;
use krg_types::PidFile;
use krg_types::limits::CLUSTER_NAME_BYTES_MAX;

/// Its pid. No cluster pid is that low, so it is free; and tools start their tree at 1.
pub const PID: u32 = 1;
/// Its name.
const COMM: &str = "krg";
/// Ticks after the cluster's boot when it began: 0 would be "unknown" to some tools.
const STARTTIME: u32 = 1;
/// PF_RANDOMIZE, which every process of a user has; above all not PF_KTHREAD.
const FLAGS: u32 = 0x0040_0000;

/// What the synthetic process tells of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Count of the nodes that are online.
    pub nodes: usize,
}

impl Root<'_> {
    /// The text of a file of /proc/1; `None` for one that it does not have.
    pub fn text(&self, file: PidFile) -> Option<Vec<u8>> {
        Some(match file {
            PidFile::Stat => stat(),
            PidFile::Status => status(),
            PidFile::Cmdline => self.cmdline(),
            PidFile::Comm => format!("{COMM}\n").into_bytes(),
            PidFile::Statm => b"0 0 0 0 0 0 0\n".to_vec(),
            PidFile::Environ
            | PidFile::Maps
            | PidFile::Smaps
            | PidFile::SmapsRollup
            | PidFile::NumaMaps => Vec::new(),
            PidFile::Cgroup => b"0::/\n".to_vec(),
            PidFile::Cpuset => b"/\n".to_vec(),
            PidFile::Io => IO.to_vec(),
            PidFile::Schedstat => b"0 0 0\n".to_vec(),
            PidFile::Wchan => b"0".to_vec(),
            PidFile::OomScore | PidFile::OomScoreAdj | PidFile::OomAdj => b"0\n".to_vec(),
            PidFile::Loginuid | PidFile::Sessionid => b"4294967295".to_vec(),
            _ => return None,
        })
    }

    fn cmdline(&self) -> Vec<u8> {
        let plain = |c: char| if c.is_control() { '?' } else { c };
        let name: String = self.cluster.chars().take(CLUSTER_NAME_BYTES_MAX).map(plain).collect();
        let plural = if self.nodes == 1 { "" } else { "s" };
        format!("{COMM}: cluster {name}, {} node{plural}\0", self.nodes).into_bytes()
    }
}

/// All 52 fields of proc_pid_stat(5).
fn stat() -> Vec<u8> {
    let mut out = Vec::new();
    // pid comm state ppid pgrp session tty_nr tpgid flags, 4 faults, 4 times,
    put!(out, "{PID} ({COMM}) S 0 {PID} {PID} 0 -1 {FLAGS} 0 0 0 0 0 0 0 0 ");
    // priority nice num_threads itrealvalue starttime vsize rss rsslim, 12 of memory and signals,
    put!(out, "20 0 1 0 {STARTTIME} 0 0 {} 0 0 0 0 0 0 0 0 0 0 0 0 ", u64::MAX);
    // exit_signal (SIGCHLD) processor rt_priority policy, and 11 more.
    put!(out, "17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
    out
}

/// The fields of proc_pid_status(5) in the order of Linux 6.18, less those of one architecture.
fn status() -> Vec<u8> {
    let mut out = Vec::new();
    put!(out, "Name:\t{COMM}\nUmask:\t0022\nState:\tS (sleeping)\n");
    put!(out, "Tgid:\t{PID}\nNgid:\t0\nPid:\t{PID}\nPPid:\t0\nTracerPid:\t0\n");
    put!(out, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \n");
    put!(out, "NStgid:\t{PID}\nNSpid:\t{PID}\nNSpgid:\t{PID}\nNSsid:\t{PID}\nKthread:\t0\n");
    for field in [
        "VmPeak",
        "VmSize",
        "VmLck",
        "VmPin",
        "VmHWM",
        "VmRSS",
        "RssAnon",
        "RssFile",
        "RssShmem",
        "VmData",
        "VmStk",
        "VmExe",
        "VmLib",
        "VmPTE",
        "VmSwap",
        "HugetlbPages",
    ] {
        put!(out, "{field}:\t{:>8} kB\n", 0);
    }
    put!(out, "CoreDumping:\t0\nTHP_enabled:\t0\nThreads:\t1\nSigQ:\t0/0\n");
    for field in [
        "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd",
        "CapAmb",
    ] {
        put!(out, "{field}:\t{:016x}\n", 0);
    }
    put!(out, "NoNewPrivs:\t1\nSeccomp:\t0\nSeccomp_filters:\t0\n");
    put!(
        out,
        "Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n"
    );
    put!(out, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    out
}

/// The fields of proc_pid_io(5).
const IO: &[u8] = b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n\
    cancelled_write_bytes: 0\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::stat;

    fn text(file: PidFile) -> String {
        let root = Root { cluster: "lab\n1", nodes: 3 };
        String::from_utf8(root.text(file).unwrap()).unwrap()
    }

    #[test]
    fn looks_like_a_process() {
        let line = text(PidFile::Stat);
        assert_eq!(line.split(' ').count(), 52);
        let fields = stat::parse(line.as_bytes()).unwrap();
        assert_eq!((fields.pid, fields.comm, fields.ppid), (1, &b"krg"[..], 0));
        assert_eq!((fields.num_threads, fields.starttime, fields.rss), (1, 1, 0));
        assert!(!fields.is_kthread());
        let field = |n: usize| line.trim_end().split(' ').nth(n - 1).unwrap().to_owned();
        assert_eq!(
            (field(18), field(25), field(38)),
            ("20".into(), u64::MAX.to_string(), "17".into())
        );
        assert_eq!(text(PidFile::Cmdline), "krg: cluster lab?1, 3 nodes\0");
        assert_eq!(text(PidFile::Comm), "krg\n");
        assert_eq!(text(PidFile::Status).lines().filter(|l| l.contains(":\t")).count(), 56);
    }
}
