//! Every merged and every rendered text against a file. `KRG_BLESS=1` writes the files anew.
//!
//! `golden/FILE.CASE.in1.txt` is node 1's text and `in2` node 3's; `out` is the cluster's. The
//! case `same` is two nodes of Linux 6.18, `mixed` nodes of older and newer kernels and of
//! hostile ones. `pid-*` are texts of processes of node 3.

use krg_procview::merge::{Facts, Part, system_file};
use krg_procview::numbers::Numbers;
use krg_procview::render::{Place, stat, status};
use krg_types::{NodeId, SystemFile};
use std::path::PathBuf;

const FACTS: Facts = Facts { btime: 1_700_000_000, uptime_ns: 2_001_379_999_999 };

const FILES: [(&str, SystemFile); 13] = [
    ("stat", SystemFile::Stat),
    ("meminfo", SystemFile::Meminfo),
    ("cpuinfo", SystemFile::Cpuinfo),
    ("loadavg", SystemFile::Loadavg),
    ("uptime", SystemFile::Uptime),
    ("vmstat", SystemFile::Vmstat),
    ("diskstats", SystemFile::Diskstats),
    ("interrupts", SystemFile::Interrupts),
    ("softirqs", SystemFile::Softirqs),
    ("netdev", SystemFile::NetDev),
    ("swaps", SystemFile::Swaps),
    ("pressure", SystemFile::PressureCpu),
    ("version", SystemFile::Version),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"))
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn node(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

/// Compares with `NAME.out.txt`, or writes it.
fn check(name: &str, got: &[u8]) {
    let name = format!("{name}.out");
    if std::env::var_os("KRG_BLESS").is_some() {
        std::fs::write(path(&name), got).unwrap();
    }
    let (got, want) = (String::from_utf8_lossy(got), read(&name));
    assert_eq!(got, String::from_utf8_lossy(&want), "{name}");
}

#[test]
fn merged_texts() {
    for (name, file) in FILES {
        for case in ["same", "mixed"] {
            let name = format!("{name}.{case}");
            let (in1, in2) = (read(&format!("{name}.in1")), read(&format!("{name}.in2")));
            let parts = [
                Part { node: node(1), text: &in1, cpu_base: 0 },
                Part { node: node(3), text: &in2, cpu_base: 4 },
            ];
            check(&name, &system_file(file, &parts, &FACTS));
        }
    }
}

/// One node alone: what its kernel wrote, but for the facts of the cluster and for names.
#[test]
fn one_node_is_itself() {
    for (name, file) in FILES {
        let text = read(&format!("{name}.same.in1"));
        let part = Part { node: node(1), text: &text, cpu_base: 0 };
        let got = String::from_utf8(system_file(file, &[part], &FACTS)).unwrap();
        let mut want = String::from_utf8(text.clone()).unwrap();
        match file {
            SystemFile::Loadavg => want = want.replace("6781", "4201085"),
            SystemFile::Stat => want = replace_line(&want, "btime ", "btime 1700000000"),
            SystemFile::Diskstats | SystemFile::NetDev | SystemFile::Swaps => {
                let got = got.replace("n1-", "").replace("/node1/", "/");
                assert_eq!(squeezed(&got), squeezed(&want), "{name}");
                continue;
            }
            _ => {}
        }
        assert_eq!(got, want, "{name}");
    }
}

/// The text with the line that starts so replaced.
fn replace_line(text: &str, start: &str, new: &str) -> String {
    let lines = text.lines().map(|line| if line.starts_with(start) { new } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The words of every line: names of devices move the columns.
fn squeezed(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn texts_of_processes() {
    let (node, numbers) = (node(3), &Numbers::default());
    let place = Place { node, cpu_base: 4, start_shift_ticks: 360_000, numbers };
    for case in ["plain", "init", "kthreadd", "kworker", "comm", "dead", "old"] {
        let name = format!("pid-stat.{case}");
        let raw = read(&format!("{name}.in1"));
        check(&name, &stat::stat(&raw, &place).unwrap_or_else(|| panic!("{name}")));
    }
    for (case, kthread) in
        [("plain", false), ("container", false), ("kthread", true), ("old", false)]
    {
        let name = format!("pid-status.{case}");
        let raw = read(&format!("{name}.in1"));
        check(&name, &status::status(&raw, &place, kthread).unwrap_or_else(|| panic!("{name}")));
    }
}
