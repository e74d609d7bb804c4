//! The numbers of this node's jobs: each gets a block of process numbers that no other namespace
//! of the cluster takes any from, so that its processes keep theirs wherever they are. Node n has
//! those from n<<15 on.

use krg_migrate::checkpoint::shelf::{Shelf, USUAL};
use krg_sys::feature::has_pid_blocks;
use krg_sys::process;
use krg_types::limits::{JOB_NODE_SHIFT, JOB_PIDS, LOCAL_PID_BITS};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Has the block that was taken last.
const LAST: &str = "numbers.last";

/// A block, until this is dropped.
pub struct Numbers {
    first: u32,
    file: PathBuf,
}

/// The first block that is free; `None` when there is none, or the kernel numbers all alike.
pub fn take(dir: &Path, node: u32) -> Option<Numbers> {
    let last_node = 1 << (LOCAL_PID_BITS - JOB_NODE_SHIFT);
    if !has_pid_blocks() || node >= last_node {
        return None;
    }
    fs::create_dir_all(dir).ok()?;
    // The one after that which was taken last: a number that was somebody's is not soon another's.
    let (blocks, last) = ((1 << JOB_NODE_SHIFT) / JOB_PIDS, dir.join(LAST));
    let next = fs::read_to_string(&last).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let next = next.map_or(0, |block| block % blocks + 1);
    let order = (0..blocks).map(|n| (next + n) % blocks);
    let first = |block: u32| (node << JOB_NODE_SHIFT) + block * JOB_PIDS;
    // What is saved has its number: another job gets that only when there is no other left.
    let saved: HashSet<u32> = (Shelf::all(Path::new("/"), USUAL).into_iter())
        .map(|app| app / JOB_PIDS * JOB_PIDS)
        .collect();
    let free = order.clone().filter(|block| !saved.contains(&first(*block)));
    let mut numbers = free
        .chain(order)
        .filter_map(|block| claim(dir, first(block)).map(|numbers| (block, numbers)));
    let (block, numbers) = numbers.next()?;
    // If it cannot be kept, numbers come again sooner.
    let _ = fs::write(last, format!("{block}\n"));
    Some(numbers)
}

/// The block that begins there; `None` when it is somebody's, or not this node's.
pub fn take_from(dir: &Path, node: u32, first: u32) -> Option<Numbers> {
    let is_one = first >> JOB_NODE_SHIFT == node && first.is_multiple_of(JOB_PIDS);
    if !has_pid_blocks() || !is_one {
        return None;
    }
    fs::create_dir_all(dir).ok()?;
    claim(dir, first)
}

/// A file that says who has it: one whose process has ended has nobody.
fn claim(dir: &Path, first: u32) -> Option<Numbers> {
    let file = dir.join(format!("numbers.{first}"));
    let own = std::process::id();
    let start = process::start_time(own).ok()??;
    let mut new = File::options();
    new.write(true).create_new(true);
    for _ in 0..2 {
        match new.open(&file) {
            Ok(mut made) => {
                writeln!(made, "{own} {start}").ok()?;
                return Some(Numbers { first, file });
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists && is_left(&file) => {
                let _ = fs::remove_file(&file);
            }
            Err(_) => return None,
        }
    }
    None
}

/// Has a job that runs, or is being started, the block that begins there?
pub fn is_taken(dir: &Path, first: u32) -> bool {
    let file = dir.join(format!("numbers.{first}"));
    file.exists() && !is_left(&file)
}

fn is_left(file: &Path) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(pid)), Some(Ok(start))) => {
            let pid = u32::try_from(pid).unwrap_or(0);
            process::start_time(pid).ok().flatten() != Some(start)
        }
        // It is being written.
        _ => false,
    }
}

impl Numbers {
    /// First and last.
    pub fn range(&self) -> (u32, u32) {
        (self.first, self.first + JOB_PIDS - 1)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}
