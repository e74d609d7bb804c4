//! Which node a process has selected. Children have what their nearest ancestor has chosen.

use krg_sys::process::Stat;
use krg_types::NodeId;
use std::collections::BTreeMap;

/// A process: its number, and when it started, which tells it from others with that number.
type Process = (u32, u64);

/// Nobody has so many ancestors; a loop in what is read would have no end.
const ANCESTORS_MAX: usize = 1024;

/// What is selected, by whom.
#[derive(Debug)]
pub struct Selections {
    by: BTreeMap<Process, NodeId>,
    most: usize,
}

/// There is no room for another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Selections {
    /// None yet; room for so many.
    pub fn new(most: usize) -> Selections {
        Selections { by: BTreeMap::new(), most }
    }

    /// A process selects a node; `look` tells of processes. Those that have ended make room.
    pub fn select(
        &mut self,
        pid: u32,
        node: NodeId,
        look: impl Fn(u32) -> Option<Stat>,
    ) -> Result<(), Full> {
        let Some(process) = look(pid) else { return Ok(()) };
        let key = (pid, process.start);
        if !self.by.contains_key(&key) && self.by.len() >= self.most {
            self.by.retain(|(pid, start), _| look(*pid).is_some_and(|s| s.start == *start));
            if self.by.len() >= self.most {
                return Err(Full);
            }
        }
        self.by.insert(key, node);
        Ok(())
    }

    /// What this process has selected, or the nearest ancestor that has selected anything.
    pub fn of(&self, pid: u32, look: impl Fn(u32) -> Option<Stat>) -> Option<NodeId> {
        if self.by.is_empty() {
            return None;
        }
        let mut next = pid;
        for _ in 0..ANCESTORS_MAX {
            // The first process of a namespace has no parent in it.
            let process = (next != 0).then(|| look(next)).flatten()?;
            if let Some(node) = self.by.get(&(next, process.start)) {
                return Some(*node);
            }
            next = process.parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Process N is the child of N-1 and started at 100 + N.
    fn chain(pid: u32) -> Option<Stat> {
        let parent = pid.checked_sub(1)?;
        (pid < 50).then(|| Stat {
            pid,
            name: "x".into(),
            state: 'S',
            parent,
            start: 100 + u64::from(pid),
        })
    }

    fn node(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn the_nearest_ancestor_decides() {
        let mut all = Selections::new(9);
        assert_eq!(all.of(7, chain), None);
        all.select(3, node(2), chain).unwrap();
        all.select(5, node(4), chain).unwrap();
        assert_eq!(all.of(2, chain), None);
        assert_eq!(all.of(3, chain), Some(node(2)));
        assert_eq!(all.of(4, chain), Some(node(2)));
        assert_eq!(all.of(49, chain), Some(node(4)));
        all.select(5, node(6), chain).unwrap();
        assert_eq!(all.of(7, chain), Some(node(6)));
        assert_eq!(all.of(60, chain), None, "who is gone has nothing");
    }

    #[test]
    fn another_process_with_the_number_has_not_selected() {
        let mut all = Selections::new(9);
        all.select(3, node(2), chain).unwrap();
        let later = |pid| chain(pid).map(|s| Stat { start: s.start + 1000, ..s });
        assert_eq!(all.of(3, later), None);
        let looped = |pid| chain(pid).map(|s| Stat { parent: pid, ..s });
        assert_eq!(all.of(4, looped), None, "it ends");
    }

    #[test]
    fn the_dead_make_room() {
        let mut all = Selections::new(2);
        all.select(3, node(2), chain).unwrap();
        all.select(4, node(2), chain).unwrap();
        assert_eq!(all.select(5, node(2), chain), Err(Full));
        assert_eq!(all.select(4, node(3), chain), Ok(()));
        let without_3 = |pid| chain(pid).filter(|_| pid != 3);
        assert_eq!(all.select(5, node(2), without_3), Ok(()));
        assert_eq!(all.of(6, chain), Some(node(2)));
    }
}
