//! Which processes are one application: those that are saved, and begun again, together. A process
//! is checkpointable if its set of capabilities says so; an application is a tree of such ones.

use std::collections::{HashMap, HashSet};

/// A process, as far as this is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// It may be saved.
    pub checkpointable: bool,
}

/// Why there is no application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoApplication {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// It may not be saved.
    #[error("process {0} is not part of a checkpointable application")]
    NotCheckpointable(u32),
}

/// The members of the application that this process is of, the root first: the highest of its
/// ancestors that is reached through checkpointable ones, and all below that are.
///
/// # Errors
/// When it is of none.
pub fn application(processes: &[Process], pid: u32) -> Result<Vec<u32>, NoApplication> {
    let known: HashMap<u32, Process> = processes.iter().map(|p| (p.pid, *p)).collect();
    let asked = known.get(&pid).ok_or(NoApplication::NoProcess(pid))?;
    if !asked.checkpointable {
        return Err(NoApplication::NotCheckpointable(pid));
    }
    let (mut root, mut seen) = (*asked, HashSet::from([pid]));
    // Numbers are read one after another: what makes a circle is no tree.
    while let Some(parent) = known.get(&root.parent).filter(|p| p.checkpointable)
        && seen.insert(parent.pid)
    {
        root = *parent;
    }
    let (mut members, mut at) = (vec![root.pid], 0);
    let mut taken = HashSet::from([root.pid]);
    while let Some(parent) = members.get(at).copied() {
        at += 1;
        let below = processes.iter().filter(|p| p.parent == parent && p.checkpointable);
        members.extend(below.map(|p| p.pid).filter(|pid| taken.insert(*pid)));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process(pid: u32, parent: u32, checkpointable: bool) -> Process {
        Process { pid, parent, checkpointable }
    }

    /// A shell (1) that has its children inherit CHECKPOINTABLE from some time on: 2 was started
    /// before, 3 and 6 after; 4 and 5 are children of 6.
    fn family() -> Vec<Process> {
        vec![
            process(1, 0, false),
            process(2, 1, false),
            process(3, 1, true),
            process(6, 1, true),
            process(4, 6, true),
            process(5, 6, true),
        ]
    }

    #[test]
    fn an_application_is_a_tree_below_the_last_that_is_checkpointable() {
        for asked in [4, 5, 6] {
            assert_eq!(application(&family(), asked), Ok(vec![6, 4, 5]), "{asked}");
        }
        assert_eq!(application(&family(), 3), Ok(vec![3]));
    }

    #[test]
    fn who_is_of_none_is_told_so() {
        for bad in [1, 2] {
            let why = application(&family(), bad).unwrap_err();
            assert_eq!(why, NoApplication::NotCheckpointable(bad));
            assert!(why.to_string().contains("not part of a checkpointable application"));
        }
        assert_eq!(application(&family(), 9), Err(NoApplication::NoProcess(9)));
    }

    proptest! {
        /// Whatever is read, this ends; and all members of an application are of the same one.
        #[test]
        fn members_agree(all in prop::collection::vec((1u32..12, 0u32..12, any::<bool>()), 0..24)) {
            let mut known = HashSet::new();
            let all: Vec<Process> = (all.into_iter())
                .filter(|(pid, ..)| known.insert(*pid))
                // Children have higher numbers: a tree.
                .map(|(pid, parent, c)| process(pid, parent % pid, c))
                .collect();
            for asked in 1..12 {
                if let Ok(members) = application(&all, asked) {
                    prop_assert!(members.contains(&asked));
                    for member in &members {
                        prop_assert_eq!(application(&all, *member), Ok(members.clone()));
                    }
                }
            }
        }
    }
}
