//! `krg lab status` and `krg lab list`.

use crate::fill;
use crate::name::LabName;
use crate::print::print;
use crate::state::{Lab, Node, lab_names};
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write;

/// A node as it is shown.
#[derive(Serialize)]
struct Row {
    node: u32,
    hostname: String,
    address: String,
    state: &'static str,
    /// krgd is ready.
    krgd: bool,
    /// It is in the cluster.
    member: bool,
    /// Faults of its disk and its link.
    #[serde(flatten)]
    faults: Faults,
    init_pid: Option<u32>,
    uptime_s: Option<u64>,
}

/// What is wrong with a node besides its state.
#[derive(Serialize, Default)]
struct Faults {
    /// The most that its link carries, like `1mbit`.
    rate: Option<String>,
    /// There is no free block on its disk.
    disk_full: bool,
    /// Why it has a directory in the place of a disk.
    no_disk: Option<String>,
}

impl Faults {
    fn words(&self) -> String {
        let rate = self.rate.as_ref().map(|r| format!("slow ({r})"));
        let full = self.disk_full.then(|| "disk full".to_owned());
        let none = self.no_disk.as_ref().map(|_| "no disk".to_owned());
        let all: Vec<String> = [rate, full, none].into_iter().flatten().collect();
        if all.is_empty() { "-".to_owned() } else { all.join(", ") }
    }
}

#[derive(Serialize)]
struct View {
    name: String,
    links: u32,
    /// The process that owns the links lives.
    keeper: bool,
    nodes: Vec<Row>,
}

impl View {
    fn of(lab: &Lab) -> View {
        let ticks = boot_seconds();
        View {
            name: lab.name.clone(),
            links: lab.links,
            keeper: lab.keeper.is_some_and(|k| k.state().is_some()),
            nodes: lab.nodes.iter().map(|n| row(n, ticks)).collect(),
        }
    }
}

fn row(node: &Node, now: Option<u64>) -> Row {
    let letter = node.init.and_then(|i| i.state());
    let alive = node.init.filter(|_| letter.is_some());
    let started = alive.map(|i| i.start / ticks_per_second());
    Row {
        node: node.id,
        hostname: node.hostname.clone(),
        address: node.address.clone(),
        state: state_word(letter, node.cut),
        krgd: alive.is_some() && node.ready,
        member: node.member,
        faults: Faults {
            rate: node.rate.filter(|_| alive.is_some()).map(|r| r.to_string()),
            disk_full: alive.is_some() && fill::is_full(node),
            no_disk: node.no_disk.clone(),
        },
        init_pid: alive.map(|i| i.pid),
        uptime_s: now.zip(started).map(|(now, then)| now.saturating_sub(then)),
    }
}

fn state_word(init: Option<char>, cut: bool) -> &'static str {
    match (init, cut) {
        (None, _) => "down",
        (Some('T'), _) => "paused",
        (Some(_), true) => "cut",
        (Some(_), false) => "up",
    }
}

fn krgd_word(row: &Row) -> &'static str {
    match (row.krgd, row.member) {
        (false, _) => "-",
        (true, true) => "ready",
        (true, false) => "alone",
    }
}

fn ticks_per_second() -> u64 {
    let hz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    hz.and_then(|hz| u64::try_from(hz).ok()).filter(|hz| *hz > 0).unwrap_or(100)
}

fn boot_seconds() -> Option<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    u64::try_from(now.tv_sec()).ok()
}

/// `1h02m`, `3m07s` or `9s`.
fn duration_text(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Shows one lab.
pub fn one(name: &LabName, json: bool) -> Result<()> {
    let view = View::of(&Lab::load(name)?);
    if json {
        print(&(serde_json::to_string_pretty(&view)? + "\n"));
        return Ok(());
    }
    let mut text = format!(
        "{:<5} {:<9} {:<13} {:<7} {:>8} {:>7} {:<7} FAULTS\n",
        "NODE", "HOSTNAME", "ADDRESS", "STATE", "INIT-PID", "UPTIME", "KRGD"
    );
    for r in &view.nodes {
        let dash = || "-".to_owned();
        let _ = writeln!(
            text,
            "{:<5} {:<9} {:<13} {:<7} {:>8} {:>7} {:<7} {}",
            r.node,
            r.hostname,
            r.address,
            r.state,
            r.init_pid.map_or_else(dash, |p| p.to_string()),
            r.uptime_s.map_or_else(dash, duration_text),
            krgd_word(r),
            r.faults.words()
        );
    }
    if !view.keeper {
        let option = name.option();
        let _ = writeln!(text, "the keeper is gone: end this lab with `krg lab stop{option}`");
    }
    print(&text);
    Ok(())
}

/// Shows the names of all labs.
pub fn list(json: bool) -> Result<()> {
    let names = lab_names()?;
    if json {
        let views: Vec<_> =
            names.iter().filter_map(|n| Lab::load(n).ok()).map(|l| View::of(&l)).collect();
        print(&(serde_json::to_string_pretty(&views)? + "\n"));
        return Ok(());
    }
    if names.is_empty() {
        print("no lab is running\n");
        return Ok(());
    }
    let mut text = format!("{:<16} {:>5} {:>3}\n", "LAB", "NODES", "UP");
    for name in names {
        let _ = match Lab::load(&name).map(|lab| View::of(&lab)) {
            Ok(v) => {
                let up = v.nodes.iter().filter(|n| n.state == "up").count();
                writeln!(text, "{:<16} {:>5} {up:>3}", v.name, v.nodes.len())
            }
            Err(e) => writeln!(text, "{:<16} {e:#}", name.as_str()),
        };
    }
    print(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_words() {
        assert_eq!(Faults::default().words(), "-");
        let all =
            Faults { rate: Some("1mbit".into()), disk_full: true, no_disk: Some("x".into()) };
        assert_eq!(all.words(), "slow (1mbit), disk full, no disk");
    }

    #[test]
    fn states_and_durations_in_words() {
        assert_eq!(state_word(None, true), "down");
        assert_eq!(state_word(Some('T'), true), "paused");
        assert_eq!(state_word(Some('S'), true), "cut");
        assert_eq!(state_word(Some('S'), false), "up");
        assert_eq!(duration_text(9), "9s");
        assert_eq!(duration_text(187), "3m07s");
        assert_eq!(duration_text(3725), "1h02m");
    }
}
