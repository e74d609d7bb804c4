//! `krg lab status` and `krg lab list`.

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
    init_pid: Option<u32>,
    uptime_s: Option<u64>,
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
        "{:<5} {:<9} {:<13} {:<7} {:>8} {:>7} KRGD\n",
        "NODE", "HOSTNAME", "ADDRESS", "STATE", "INIT-PID", "UPTIME"
    );
    for r in &view.nodes {
        let dash = || "-".to_owned();
        let _ = writeln!(
            text,
            "{:<5} {:<9} {:<13} {:<7} {:>8} {:>7} {}",
            r.node,
            r.hostname,
            r.address,
            r.state,
            r.init_pid.map_or_else(dash, |p| p.to_string()),
            r.uptime_s.map_or_else(dash, duration_text),
            if r.krgd { "ready" } else { "-" }
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
