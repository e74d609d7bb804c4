//! What keys have done to processes, in threads of their own: a node may take its time.

use super::app::App;
use super::keys::Act;
use super::table::{Key, Process};
use crate::cmd::{jobs, kill};
use krg_sys::process::Signal;
use std::sync::mpsc::Sender;

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// In words.
    pub words: String,
    /// Some of it failed.
    pub bad: bool,
}

/// Has it done; the outcome is told. Only who is still there is meant: numbers are used again.
pub fn start<E: From<Outcome> + Send + 'static>(app: &mut App, act: Act, told: &Sender<E>) {
    let told = told.clone();
    let done = move |outcome: Outcome| {
        // Nobody listens when the program ends.
        let _ = told.send(outcome.into());
    };
    match act {
        Act::Kill(keys, signal) => {
            let all = app.alive(&keys);
            std::thread::spawn(move || done(send(&all, keys.len(), signal)));
        }
        Act::Renice(wanted) => {
            let keys: Vec<Key> = wanted.iter().map(|(key, _)| *key).collect();
            let all = app.alive(&keys);
            std::thread::spawn(move || done(renice(&all, &wanted)));
        }
        Act::Migrate(keys, node) => {
            let all = app.alive(&keys);
            let to = place(node);
            app.tell(format!("{} to {to}...", named(&all)), false);
            std::thread::spawn(move || done(migrate(&all, keys.len(), node)));
        }
        _ => {}
    }
}

fn place(node: u32) -> String {
    if node == 0 { "its home".into() } else { format!("node {node}") }
}

/// One by its number and name, more by how many they are.
fn named(all: &[Process]) -> String {
    match all {
        [one] => {
            let name = super::text::clean(&one.view.comm);
            format!("{} ({name})", one.view.pid)
        }
        all => format!("{} processes", all.len()),
    }
}

/// What is told of many: the first failure, and how many there were.
fn summed(done: String, failures: &[String], gone: usize) -> Outcome {
    let mut failures = failures.to_vec();
    if gone > 0 {
        failures.push(if gone == 1 {
            "it has ended".into()
        } else {
            format!("{gone} have ended")
        });
    }
    match failures.split_first() {
        None => Outcome { words: done, bad: false },
        Some((first, [])) => Outcome { words: first.clone(), bad: true },
        Some((first, more)) => {
            Outcome { words: format!("{first} (and {} more)", more.len()), bad: true }
        }
    }
}

fn send(all: &[Process], wanted: usize, signal: i32) -> Outcome {
    let one = |process: &Process| {
        let sent = kill::send(process.view.pid, signal, None);
        let sent = sent.and_then(|reply| kill::told(reply.errno));
        sent.err().map(|e| format!("{}: {e:#}", process.view.pid))
    };
    let failures: Vec<String> = all.iter().filter_map(one).collect();
    let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.to_string());
    summed(format!("{name} sent to {}", named(all)), &failures, wanted - all.len())
}

fn renice(all: &[Process], wanted: &[(Key, i32)]) -> Outcome {
    let nice = |process: &Process| {
        let found = wanted.iter().find(|(key, _)| *key == process.key());
        found.map_or(0, |(_, nice)| *nice)
    };
    let one = |process: &Process| {
        let set = kill::renice_one(process.view.pid, nice(process));
        set.err().map(|e| format!("{}: {e:#}", process.view.pid))
    };
    let failures: Vec<String> = all.iter().filter_map(one).collect();
    let done = match all {
        [one] => format!("{} has nice value {} now", named(all), nice(one)),
        all => format!("{} have other nice values now", named(all)),
    };
    summed(done, &failures, wanted.len() - all.len())
}

fn migrate(all: &[Process], wanted: usize, node: u32) -> Outcome {
    let to = if node == 0 { "home".to_owned() } else { node.to_string() };
    let one = |process: &Process| {
        let moved = jobs::move_it(&process.view.pid.to_string(), &to, false);
        moved.err().map(|e| format!("{}: {e:#}", process.view.pid))
    };
    let failures: Vec<String> = all.iter().filter_map(one).collect();
    let done = format!("{} moved to {}", named(all), place(node));
    summed(done, &failures, wanted - all.len())
}
