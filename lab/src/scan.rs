//! Finding a lab's processes in /proc, also when no file tells of them.

use crate::state::Proc;
use anyhow::{Context, Result};
use krg_sys::process::{Stat, stat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The kinds of processes a lab is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Owns the links.
    Keeper,
    /// Holds a node's namespaces.
    Boot,
    /// A node's pid 1.
    Init,
}

/// Reads an argument list (NUL after each): a lab's process, and the lab's name.
pub fn role_of(cmdline: &[u8]) -> Option<(Role, String)> {
    let mut args = cmdline.split(|b| *b == 0).map(String::from_utf8_lossy);
    let program = args.next()?;
    if program.rsplit('/').next() != Some("krg-lab") {
        return None;
    }
    let role = match args.next()?.as_ref() {
        "keeper" => Role::Keeper,
        "boot" => Role::Boot,
        "init" => Role::Init,
        _ => return None,
    };
    args.by_ref().find(|a| a == "--name")?;
    Some((role, args.next()?.into_owned()))
}

/// Is a process of this role one of this machine's own labs? A node may run a lab of its own with
/// the same name: its processes are one pid namespace deeper.
fn own_depth(role: Role, depth: usize) -> bool {
    depth == if role == Role::Init { 2 } else { 1 }
}

/// In how many pid namespaces, from that of this /proc down, a process has a number.
fn depth(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    Some(line.split_ascii_whitespace().count())
}

/// A process of some lab.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The lab.
    pub lab: String,
    /// What it does there.
    pub role: Role,
    /// The process.
    pub proc: Proc,
}

/// The processes of all labs of this machine.
pub fn lab_processes() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for pid in pids()? {
        // A process that ends meanwhile is simply not there.
        let read = || {
            let start = stat(pid).ok()??.start;
            let (role, lab) = role_of(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            own_depth(role, depth(&status)?).then_some(())?;
            Some(Found { lab, role, proc: Proc { pid, start } })
        };
        found.extend(read());
    }
    Ok(found)
}

/// All processes of a node: in the pid namespace of its init, or below one that is.
pub fn node_processes(init: u32) -> Result<Vec<Stat>> {
    processes_of(&[init])
}

/// All processes of several nodes, by the pid 1 of each.
pub fn processes_of(inits: &[u32]) -> Result<Vec<Stat>> {
    let namespace = |init: &u32| krg_sys::ns::id(*init, "pid");
    let namespaces: std::io::Result<BTreeSet<_>> = inits.iter().map(namespace).collect();
    let namespaces = namespaces.context("the node has just ended")?;
    let mut all = BTreeMap::new();
    let mut inside = BTreeSet::new();
    for pid in pids()? {
        let Ok(Some(stat)) = stat(pid) else { continue };
        if krg_sys::ns::id(pid, "pid").is_ok_and(|ns| namespaces.contains(&ns)) {
            inside.insert(pid);
        }
        all.insert(pid, stat);
    }
    Ok(members(&all, &inside))
}

/// Adds the descendants: namespaces inside the node's have ids of their own.
fn members(all: &BTreeMap<u32, Stat>, inside: &BTreeSet<u32>) -> Vec<Stat> {
    let belongs = |pid: u32| {
        let mut at = pid;
        // Bounded: a table read while it changes may hold a ring.
        for _ in 0..all.len() {
            if inside.contains(&at) {
                return true;
            }
            match all.get(&at) {
                Some(stat) if stat.parent != 0 => at = stat.parent,
                _ => return false,
            }
        }
        false
    };
    all.values().filter(|s| belongs(s.pid)).cloned().collect()
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    let pid = |e: fs::DirEntry| e.file_name().to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(pid).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn argument_lists_tell_labs() {
        let role = |args: &[&str]| role_of((args.join("\0") + "\0").as_bytes());
        let lab = |r| Some((r, "x".to_owned()));
        assert_eq!(role(&["krg-lab", "keeper", "--name", "x"]), lab(Role::Keeper));
        assert_eq!(
            role(&["/a b/krg-lab", "boot", "--node", "1", "--name", "x"]),
            lab(Role::Boot)
        );
        assert_eq!(role(&["krg-lab", "init", "--name", "x", "--node", "1"]), lab(Role::Init));
        assert_eq!(role(&["krg-lab", "start", "--name", "x"]), None);
        assert_eq!(role(&["vi", "krg-lab", "init", "--name", "x"]), None);
        assert_eq!(role(&["my-krg-lab", "init", "--name", "x"]), None);
        assert_eq!(role_of(b"krg-lab\0init\0--name"), None);
        assert_eq!(role_of(b""), None);
    }

    #[test]
    fn a_lab_within_a_node_is_not_ours() {
        let one = depth("Name:\tx\nNSpid:\t77\n").unwrap();
        let two = depth("NSpid:\t77\t1\n").unwrap();
        assert!(own_depth(Role::Keeper, one) && own_depth(Role::Init, two));
        assert!(!own_depth(Role::Keeper, two) && !own_depth(Role::Init, two + 1));
        assert_eq!(depth("Name:\tx\n"), None);
    }

    #[test]
    fn children_in_deeper_namespaces_belong() {
        let stat =
            |pid, parent| (pid, Stat { pid, parent, name: String::new(), state: 'S', start: 0 });
        // 10 is init, 12 lives in a namespace of its own, 20 and 21 are strangers in a ring.
        let all =
            [stat(10, 1), stat(11, 10), stat(12, 11), stat(13, 12), stat(20, 21), stat(21, 20)];
        let pids: Vec<_> = members(&all.into(), &[10, 11].into()).iter().map(|s| s.pid).collect();
        assert_eq!(pids, [10, 11, 12, 13]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = role_of(&bytes);
        }
    }
}
