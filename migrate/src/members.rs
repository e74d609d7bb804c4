//! The processes of a job on this node: the descendants of its first one.

use std::fs;

/// More than any job may have here.
const MEMBERS_MAX: usize = 1 << 16;

/// All of them, the first one first, as this node numbers them.
pub fn all(init: u32) -> Vec<u32> {
    let mut found = vec![init];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        found.extend(children(pid));
        if found.len() > MEMBERS_MAX {
            break;
        }
    }
    found
}

/// The children of a process, whichever of its threads has them.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    let words = |text: String| -> Vec<u32> {
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    texts.flat_map(words).collect()
}

/// The number within the job of a process (proc_pid_status(5), NSpid).
pub fn number(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The process with this number within the job.
pub fn find(init: u32, wanted: u32) -> Option<u32> {
    all(init).into_iter().find(|pid| number(*pid) == Some(wanted))
}

/// The highest number within the job.
pub fn highest(init: u32) -> u32 {
    all(init).into_iter().filter_map(number).max().unwrap_or(1)
}
