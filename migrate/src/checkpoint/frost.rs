//! Processes of a job that stand still until they are told to go on, and use no processor.

use crate::members;
use krg_sys::process::{PidFd, Signal, stat};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// They have stopped within this, or wait for a disk: then they stop after that.
const STOP_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// They. Those that were stopped before by somebody else are not among them.
#[derive(Default)]
pub struct Frost {
    stopped: Vec<(u32, PidFd)>,
}

fn is_stopped(pid: u32) -> bool {
    stat(pid).ok().flatten().is_some_and(|stat| stat.state == 'T')
}

impl Frost {
    /// Stops all that run of the job with this first process, but that one, which only waits.
    /// Parents come first: who stands still does not see that its children do.
    pub fn over(init: u32) -> Frost {
        let mut frost = Frost::default();
        let before: HashSet<u32> =
            members::all(init).into_iter().filter(|pid| is_stopped(*pid)).collect();
        let mut known: HashSet<u32> = before.into_iter().chain([init]).collect();
        let until = Instant::now() + STOP_MAX;
        loop {
            let mut new = false;
            for pid in members::all(init) {
                // One may have been made since it was looked last.
                if known.insert(pid) {
                    new = true;
                    frost.stop(pid);
                }
            }
            let still = |(pid, process): &(u32, PidFd)| {
                is_stopped(*pid) || process.wait_end(Duration::ZERO).unwrap_or(true)
            };
            if (!new && frost.stopped.iter().all(still)) || Instant::now() > until {
                return frost;
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// All of a job that was brought back so, but those that its user had stopped before.
    pub fn left(init: u32, halted: &[u32]) -> Frost {
        let mut frost = Frost::default();
        for pid in members::all(init) {
            let is_halted = members::number(pid).is_some_and(|number| halted.contains(&number));
            match PidFd::open(pid) {
                Ok(Some(first)) if pid == init => {
                    let _ = first.signal(Signal::SIGCONT);
                }
                Ok(Some(process)) if !is_halted => frost.stopped.push((pid, process)),
                _ => {}
            }
        }
        frost
    }

    /// The numbers within the job of those that stand still and are not among these.
    pub fn halted(init: u32, ours: &[u32]) -> Vec<u32> {
        let stopped = members::all(init).into_iter().filter(|pid| is_stopped(*pid));
        stopped.filter_map(members::number).filter(|number| !ours.contains(number)).collect()
    }

    /// Those that were stopped when the job was saved, by their numbers within it.
    pub fn again(init: u32, numbers: &[u32]) -> Frost {
        let numbers: HashSet<u32> = numbers.iter().copied().collect();
        let mut frost = Frost::default();
        for pid in members::all(init) {
            if members::number(pid).is_some_and(|number| numbers.contains(&number))
                && let Ok(Some(process)) = PidFd::open(pid)
            {
                frost.stopped.push((pid, process));
            }
        }
        frost
    }

    fn stop(&mut self, pid: u32) {
        if let Ok(Some(process)) = PidFd::open(pid)
            && process.signal(Signal::SIGSTOP).unwrap_or(false)
        {
            self.stopped.push((pid, process));
        }
    }

    /// With those of another.
    pub fn and(mut self, other: Frost) -> Frost {
        self.stopped.extend(other.stopped);
        self
    }

    /// Their numbers within the job.
    pub fn numbers(&self) -> Vec<u32> {
        self.stopped.iter().filter_map(|(pid, _)| members::number(*pid)).collect()
    }

    /// They go on, after a signal to each if there is one. Children come first: they run again
    /// before their parents could ask whether they do.
    pub fn thaw(self, signal: Option<Signal>) {
        for (_, process) in self.stopped.iter().rev() {
            if let Some(signal) = signal {
                let _ = process.signal(signal);
            }
            let _ = process.signal(Signal::SIGCONT);
        }
    }
}
