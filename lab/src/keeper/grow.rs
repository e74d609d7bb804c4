//! Nodes that come and go while the lab runs.

use super::nodes::Nodes;
use crate::config;
use crate::plan::hostname;
use crate::state::Node;
use anyhow::{Context, Result, bail};
use krg_types::limits::LAB_NODES_MAX;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};

/// A hosts file that is longer is not ours to read.
const HOSTS_BYTES_MAX: u64 = 1 << 20;

impl Nodes {
    /// Starts further nodes, with the lowest numbers that are free; their numbers.
    pub fn add(&mut self, count: u32) -> Result<Vec<u32>> {
        let taken: BTreeSet<u32> = self.lab.nodes.iter().map(|n| n.id).collect();
        let new = free_numbers(&taken, count)?;
        let plan = self.lab.plan();
        self.lab.nodes.extend(new.iter().map(|id| Node::new(plan, *id)));
        self.lab.nodes.sort_by_key(|n| n.id);
        // The boot processes read it.
        self.save();
        for id in &new {
            self.start(*id);
        }
        self.tell_names(&new);
        Ok(new)
    }

    /// Forgets a dead node, and all it wrote.
    pub fn forget(&mut self, node: u32) -> Result<()> {
        self.look_again(node)?;
        if self.is_live(node) {
            bail!("{} is not down", hostname(node));
        }
        self.lab.nodes.retain(|n| n.id != node);
        self.clear_failure(node);
        match fs::remove_dir_all(self.name.node_dir(node)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove the files of {}", hostname(node)))
            }
            _ => Ok(()),
        }
    }

    /// Adds the names of new nodes to the files of the others; a node that is down reads all
    /// names when it starts.
    fn tell_names(&self, new: &[u32]) {
        let (new, old): (Vec<&Node>, Vec<&Node>) =
            self.lab.nodes.iter().partition(|n| new.contains(&n.id));
        for init in old.iter().filter_map(|n| n.init) {
            if let Err(e) = add_hosts(init.pid, &new) {
                // A name is a convenience: the node does without.
                eprintln!("names of the new nodes: {e:#}");
            }
        }
    }
}

/// The lowest numbers that no node has.
fn free_numbers(taken: &BTreeSet<u32>, count: u32) -> Result<Vec<u32>> {
    let free: Vec<u32> = (1..=LAB_NODES_MAX).filter(|n| !taken.contains(n)).collect();
    match free.get(..count as usize) {
        Some(numbers) if count > 0 => Ok(numbers.to_vec()),
        _ => bail!(
            "a lab has up to {LAB_NODES_MAX} nodes and this one has {}: there is room for {}, \
             not {count}",
            taken.len(),
            free.len()
        ),
    }
}

/// Adds lines to a node's hosts file, whatever links there are on the way: never to the host's.
fn add_hosts(init: u32, new: &[&Node]) -> Result<()> {
    let root = File::open(format!("/proc/{init}/root"))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let mut file = File::from(openat2(&root, "/etc/hosts", how)?);
    let mut text = Vec::new();
    (&file).take(HOSTS_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let lines = new.iter().map(|n| config::host(n)).filter(|l| !text.lines().any(|t| t == l));
    let more: String = lines.map(|l| l + "\n").collect();
    Ok(file.write_all(more.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_numbers_are_given() {
        let taken = BTreeSet::from([1, 3, 4]);
        assert_eq!(free_numbers(&taken, 1).unwrap(), [2]);
        assert_eq!(free_numbers(&taken, 3).unwrap(), [2, 5, 6]);
        assert!(free_numbers(&taken, 0).is_err());
        let word = free_numbers(&taken, LAB_NODES_MAX).unwrap_err().to_string();
        assert!(word.contains("room for 61, not 64"), "{word}");
    }
}
