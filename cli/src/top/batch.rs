//! `krg top -b` and `--json`: tables for files and programs.

use super::app::App;
use super::column::{self, Column, Users};
use super::source::Viewer;
use super::table::{Health, Node, Process};
use super::{list, text};
use crate::daemon;
use anyhow::Result;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// Between two questions for the same table, and how many there are at most.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: u32 = 8;

/// Prints `count` tables, or goes on until it is ended: each of what was done in one delay.
pub fn run(app: &mut App, delay: Duration, count: Option<u64>, as_json: bool) -> Result<u8> {
    daemon::run(async {
        let mut viewer = Viewer::default();
        let mut ticks = tokio::time::interval(delay);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first look is only what the second one is compared with.
        for n in 0..=count.unwrap_or(u64::MAX - 1) {
            ticks.tick().await;
            // Old values would make the rates those of another time. Who is slow to tell new
            // ones is asked again, while those of the others are still young.
            let max_age = (delay * 3 / 4).min(Duration::from_secs(1));
            let mut again = tokio::time::interval(AGAIN);
            for _ in 0..if n > 0 { AGAIN_MAX } else { 1 } {
                again.tick().await;
                app.look(Ok(viewer.snapshot(max_age).await?), Instant::now());
                if !app.table.waits {
                    break;
                }
            }
            if n > 0 {
                // What is printed here may go to a `head` that has seen enough.
                krg_sys::process::default_sigpipe();
                let out = if as_json { as_json_line(app, delay) } else { as_text(app, n > 1) };
                std::io::stdout().write_all(out.as_bytes())?;
                krg_sys::process::ignore_sigpipe();
            }
        }
        Ok(0)
    })
}

/// Of the nodes' table.
const HEADING: &str = concat!(
    "NODE HOSTNAME         STATE    LOAD   CPU%     MEM    OF",
    "  RECV/s SENT/s  RUN   ALL  AGE\n",
);

fn as_text(app: &mut App, again: bool) -> String {
    let mut out = String::new();
    if again {
        out.push('\n');
    }
    out.push_str(HEADING);
    for node in &app.table.nodes {
        out.push_str(&node_line(node));
    }
    out.push('\n');
    let pids = column::pid_width(app.table.nodes.iter().map(|n| n.view.node).max().unwrap_or(0));
    let columns = column::shown(130);
    let mut heading = String::new();
    for column in &columns {
        heading.push_str(&cell(*column, column.heading(), pids));
    }
    out.push_str(heading.trim_end());
    out.push('\n');
    for row in &app.rows {
        let process = &app.table.processes[row.index as usize];
        let mut line = String::new();
        for column in &columns {
            let words = column.cell(process, &mut app.users);
            line.push_str(&cell(*column, &words, pids));
        }
        if app.tree {
            line.push_str(&list::branch(row));
        }
        line.push_str(&text::command(&process.view.comm, &process.view.cmdline));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A cell with the space after it; what is too long is not cut, as no screen ends here.
fn cell(column: Column, words: &str, pids: usize) -> String {
    let width = column.width(pids);
    let pad = " ".repeat(width.saturating_sub(text::width(words)));
    let end = if column == Column::Command { "" } else { " " };
    if column.is_right() { format!("{pad}{words}{end}") } else { format!("{words}{pad}{end}") }
}

fn state(node: &Node) -> &'static str {
    match node.health() {
        Health::Good => "online",
        Health::Stale => "stale",
        Health::Dead => "down",
    }
}

fn node_line(node: &Node) -> String {
    let mark = if node.view.here { '*' } else { ' ' };
    let host = text::clean(node.view.hostname.as_bytes());
    let (number, state) = (node.view.node, state(node));
    let mut line = format!("{number:>3}{mark} {} {state:<7}", text::fit(&host, 16));
    if node.health() != Health::Dead {
        let (used, total) = node.memory();
        let rate = |rate: Option<f64>| rate.map_or("-".into(), |rate| text::size(rate as u64));
        let busy = node.busy.map_or("-".into(), |busy| text::percent(busy * 100.0));
        let (run, all) = (node.tasks.1, node.tasks.0);
        line += &format!(
            "{:>6.2} {busy:>6}   {:>5} {:>5}  {:>5}  {:>5} {run:>4} {all:>5} {:>4}",
            node.load(),
            text::size(used),
            text::size(total),
            rate(node.net.map(|net| net.0)),
            rate(node.net.map(|net| net.1)),
            text::age(u64::from(node.view.age_ms)),
        );
    }
    line.trim_end().to_owned() + "\n"
}

/// One value on one line.
fn as_json_line(app: &mut App, delay: Duration) -> String {
    let nodes: Vec<Value> = app.table.nodes.iter().map(node_value).collect();
    let mut processes = Vec::with_capacity(app.rows.len());
    for row in &app.rows {
        let process = &app.table.processes[row.index as usize];
        processes.push(process_value(process, &mut app.users));
    }
    let time = crate::text::now_s();
    let interval_s = delay.as_secs_f64();
    let all = json!({
        "cluster": app.table.cluster,
        "time": time,
        "interval_s": interval_s,
        "nodes": nodes,
        "processes": processes,
    });
    format!("{all}\n")
}

/// As far as the next digit that anybody reads.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn node_value(node: &Node) -> Value {
    let view = &node.view;
    let (memory, swap) = (node.memory(), node.swap());
    if node.health() == Health::Dead {
        return json!({ "node": view.node, "hostname": view.hostname, "state": "down" });
    }
    let loads = view.load_hundredths.iter().map(|load| f64::from(*load) / 100.0);
    json!({
        "node": view.node,
        "hostname": view.hostname,
        "state": state(node),
        "here": view.here,
        "age_ms": view.age_ms,
        "cpus": view.cpus,
        "load": loads.collect::<Vec<f64>>(),
        "cpu_percent": node.busy.map(|busy| tenths(busy * 100.0)),
        "memory_bytes": memory.1,
        "memory_used_bytes": memory.0,
        "swap_bytes": swap.1,
        "swap_used_bytes": swap.0,
        "received_bytes_per_s": node.net.map(|net| net.0.round()),
        "sent_bytes_per_s": node.net.map(|net| net.1.round()),
        "uptime_s": view.uptime_ms / 1_000,
        "processes": node.tasks.0,
        "running": node.tasks.1,
    })
}

fn process_value(process: &Process, users: &mut Users) -> Value {
    let view = &process.view;
    let per_s = f64::from(process.ticks_per_s.max(1));
    // Words as they are: JSON has its own escapes.
    let words = view.cmdline.split(|b| *b == 0).map(String::from_utf8_lossy);
    let mut words: Vec<_> = words.collect();
    words.pop_if(|last| last.is_empty());
    json!({
        "pid": view.pid,
        "node": view.node,
        "local_pid": view.local_pid,
        "ppid": view.ppid,
        "uid": view.euid,
        "user": users.name(view.euid),
        "state": process.state().to_string(),
        "cpu_percent": tenths(process.cpu),
        "mem_percent": tenths(process.mem),
        "resident_bytes": process.resident,
        "shared_bytes": process.shared,
        "virtual_bytes": view.vsize_bytes,
        "priority": view.priority,
        "nice": view.nice,
        "threads": view.threads,
        "processor": view.processor,
        "cpu_s": process.ticks() as f64 / per_s,
        "name": String::from_utf8_lossy(&view.comm),
        "command": words,
    })
}
