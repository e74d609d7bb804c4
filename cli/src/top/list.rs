//! Which processes are shown, in which order, and how they hang together.

use super::column::Column;
use super::table::{Key, Process};
use std::collections::{HashMap, HashSet};

/// Deeper ones are drawn as deep as this.
const DEPTH_MAX: u8 = 60;

/// What is shown of all processes.
#[derive(Clone, Default, Debug)]
pub struct Wanted {
    /// Only those of this effective user.
    pub user: Option<u32>,
    /// Only those of this node.
    pub node: Option<u32>,
    /// Only these, by their cluster pid or, on this machine, their own.
    pub pids: Option<HashSet<u32>>,
    /// Only those with this in their command line or their name, in any case.
    pub text: String,
    /// Threads of the kernel are left out.
    pub no_kernel: bool,
    /// This machine's number, for `pids`.
    pub here: u32,
}

impl Wanted {
    fn takes(&self, process: &Process, text: &[u8]) -> bool {
        let view = &process.view;
        let pid = |pids: &HashSet<u32>| {
            pids.contains(&view.pid) || view.node == self.here && pids.contains(&view.local_pid)
        };
        self.user.is_none_or(|user| view.euid == user)
            && self.node.is_none_or(|node| view.node == node)
            && self.pids.as_ref().is_none_or(pid)
            && !(self.no_kernel && process.is_kernel())
            && has(process, text)
    }
}

/// Is the text, in lower case, in its command line or its name? A zero byte between words is a
/// space to who types it.
pub fn has(process: &Process, lower: &[u8]) -> bool {
    let view = &process.view;
    lower.is_empty() || find(&view.cmdline, lower) || find(&view.comm, lower)
}

fn find(bytes: &[u8], lower: &[u8]) -> bool {
    let same = |(byte, wanted): (&u8, &u8)| {
        let byte = if *byte == 0 { b' ' } else { byte.to_ascii_lowercase() };
        byte == *wanted
    };
    bytes.windows(lower.len()).any(|part| part.iter().zip(lower).all(same))
}

/// A line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Which process, by its place in the table.
    pub index: u32,
    /// How many parents are shown above it.
    pub depth: u8,
    /// A bit for each depth: at that depth another sibling follows below.
    pub more: u64,
    /// Its children are not shown, and there are some.
    pub folded: bool,
}

/// The lines, sorted.
pub fn flat(all: &[Process], wanted: &Wanted, by: Column, inverted: bool) -> Vec<Row> {
    let row = |index| Row { index, depth: 0, more: 0, folded: false };
    sorted(all, wanted, by, inverted).into_iter().map(row).collect()
}

fn sorted(all: &[Process], wanted: &Wanted, by: Column, inverted: bool) -> Vec<u32> {
    let text = wanted.text.to_lowercase().into_bytes();
    let shown = all.iter().enumerate().filter(|(_, process)| wanted.takes(process, &text));
    let mut rows: Vec<u32> = shown.map(|(at, _)| at as u32).collect();
    let order = |a: &u32, b: &u32| by.order(&all[*a as usize], &all[*b as usize]);
    match inverted {
        false => rows.sort_unstable_by(order),
        true => rows.sort_unstable_by(|a, b| order(b, a)),
    }
    rows
}

/// The same as a tree: who is shown stands below his nearest ancestor that is.
pub fn tree(
    all: &[Process],
    wanted: &Wanted,
    by: Column,
    inverted: bool,
    folded: &HashSet<Key>,
) -> Vec<Row> {
    let order = sorted(all, wanted, by, inverted);
    let places: HashMap<u32, u32> = (0..).zip(all).map(|(at, p)| (p.view.pid, at)).collect();
    let mut is_shown = vec![false; all.len()];
    order.iter().for_each(|at| is_shown[*at as usize] = true);
    let parent = |at: u32| places.get(&all[at as usize].view.ppid).copied();
    // The children of each, in their order; the last list is of those without a parent.
    let mut children: HashMap<Option<u32>, Vec<u32>> = HashMap::new();
    for at in &order {
        let mut above = parent(*at).filter(|p| p != at);
        let mut steps = 0;
        while let Some(p) = above.filter(|p| !is_shown[*p as usize]) {
            steps += 1;
            // A look is not one moment: numbers may go round in it.
            above = parent(p).filter(|next| *next != p && steps < all.len());
        }
        children.entry(above).or_default().push(*at);
    }
    let mut walk = Walk { all, children, folded, rows: Vec::new(), seen: vec![false; all.len()] };
    walk.from(None);
    // Whoever hangs in a ring has no root.
    for at in order {
        if !walk.seen[at as usize] {
            walk.below(vec![(at, 0, 0)]);
        }
    }
    walk.rows
}

struct Walk<'a> {
    all: &'a [Process],
    children: HashMap<Option<u32>, Vec<u32>>,
    folded: &'a HashSet<Key>,
    rows: Vec<Row>,
    seen: Vec<bool>,
}

impl Walk<'_> {
    fn from(&mut self, root: Option<u32>) {
        let tops = self.children.get(&root).cloned().unwrap_or_default();
        // Roots have no lines between them.
        self.below(tops.into_iter().rev().map(|at| (at, 0, 0)).collect());
    }

    /// Without recursion: a chain of forks may be as long as there are processes.
    fn below(&mut self, mut open: Vec<(u32, u8, u64)>) {
        while let Some((index, depth, more)) = open.pop() {
            if std::mem::replace(&mut self.seen[index as usize], true) {
                continue;
            }
            let children = self.children.get(&Some(index)).map(Vec::as_slice).unwrap_or_default();
            let key = self.all[index as usize].key();
            let folded = !children.is_empty() && self.folded.contains(&key);
            self.rows.push(Row { index, depth, more, folded });
            if folded {
                let mut hidden = children.to_vec();
                while let Some(at) = hidden.pop() {
                    if !std::mem::replace(&mut self.seen[at as usize], true) {
                        hidden.extend(self.children.get(&Some(at)).into_iter().flatten());
                    }
                }
                continue;
            }
            let deeper = (depth + 1).min(DEPTH_MAX);
            let above = more & ((1u64 << deeper) - 1);
            for (n, child) in children.iter().enumerate().rev() {
                let more = above | u64::from(n + 1 < children.len()) << deeper;
                open.push((*child, deeper, more));
            }
        }
    }
}

/// The lines that lead to a process: `│  ├─ `.
pub fn branch(row: &Row) -> String {
    let mut out = String::new();
    for depth in 1..row.depth {
        out.push_str(if row.more >> depth & 1 == 1 { "│  " } else { "   " });
    }
    if row.depth > 0 {
        out.push_str(if row.more >> row.depth & 1 == 1 { "├─ " } else { "└─ " });
    }
    if row.folded {
        out.push_str("[+] ");
    }
    out
}

/// A process and all below it, by their places.
pub fn family(all: &[Process], root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (at, process) in (0..).zip(all) {
        children.entry(process.view.ppid).or_default().push(at);
    }
    let (mut out, mut seen) = (vec![root], HashSet::from([root]));
    let mut next = 0;
    while let Some(at) = out.get(next).copied() {
        next += 1;
        for child in children.get(&all[at as usize].view.pid).into_iter().flatten() {
            if seen.insert(*child) {
                out.push(*child);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::process;
    use super::*;
    use proptest::prelude::*;

    fn family_of(pids: &[(u32, u32)]) -> Vec<Process> {
        let one = |(pid, ppid): &(u32, u32)| {
            let (local_pid, node) = (*pid, 1);
            let mut view = process(node, *pid, 0);
            (view.pid, view.ppid, view.local_pid) = (*pid, *ppid, local_pid);
            Process { view, ..Process::default() }
        };
        pids.iter().map(one).collect()
    }

    fn drawn(all: &[Process], wanted: &Wanted, folded: &[u32]) -> Vec<String> {
        let key = |pid: &u32| all.iter().find(|p| p.view.pid == *pid).expect("it is there").key();
        let folded = folded.iter().map(key).collect();
        let rows = tree(all, wanted, Column::Pid, false, &folded);
        let line = |r: &Row| format!("{}{}", branch(r), all[r.index as usize].view.pid);
        rows.iter().map(line).collect()
    }

    const TREE: [(u32, u32); 7] = [(1, 0), (2, 1), (3, 2), (4, 2), (5, 1), (6, 5), (9, 8)];

    #[test]
    fn children_hang_below_their_parents() {
        let all = family_of(&TREE);
        let lines = drawn(&all, &Wanted::default(), &[]);
        assert_eq!(lines, ["1", "├─ 2", "│  ├─ 3", "│  └─ 4", "└─ 5", "   └─ 6", "9"]);
        let lines = drawn(&all, &Wanted::default(), &[2]);
        assert_eq!(lines, ["1", "├─ [+] 2", "└─ 5", "   └─ 6", "9"]);
        assert_eq!(family(&all, 1), [1, 2, 3]);
    }

    #[test]
    fn who_is_shown_hangs_below_the_nearest_that_is() {
        let mut all = family_of(&TREE);
        for at in [1, 4] {
            (all[at].view.comm, all[at].view.cmdline) = (b"other".to_vec(), b"other".to_vec());
        }
        let wanted = Wanted { text: "SLEEP".into(), ..Wanted::default() };
        assert_eq!(drawn(&all, &wanted, &[]), ["1", "├─ 3", "├─ 4", "└─ 6", "9"]);
        let wanted = Wanted { text: "sleep 6".into(), ..Wanted::default() };
        assert_eq!(drawn(&all, &wanted, &[]), ["6"]);
    }

    #[test]
    fn filters_are_taken_together() {
        let mut all = family_of(&TREE);
        all[3].view.euid = 33;
        all[5].view.euid = 33;
        all[5].view.flags = 0x0020_0000;
        let shown = |wanted: Wanted| {
            let rows = flat(&all, &wanted, Column::Pid, true);
            rows.iter().map(|r| all[r.index as usize].view.pid).collect::<Vec<_>>()
        };
        let user = Wanted { user: Some(33), ..Wanted::default() };
        assert_eq!(shown(user.clone()), [6, 4]);
        assert_eq!(shown(Wanted { no_kernel: true, ..user }), [4]);
        assert_eq!(shown(Wanted { node: Some(2), ..Wanted::default() }), [0; 0]);
        let pids = Some(HashSet::from([3, 5, 77]));
        assert_eq!(shown(Wanted { pids, ..Wanted::default() }), [5, 3]);
    }

    proptest! {
        #[test]
        fn everybody_is_there_once(parents in prop::collection::vec(0u32..40, 1..40)) {
            let pids: Vec<_> = (1u32..).zip(parents).collect();
            let all = family_of(&pids);
            let mut rows = tree(&all, &Wanted::default(), Column::Cpu, false, &HashSet::new());
            rows.sort_by_key(|row| row.index);
            let places: Vec<u32> = rows.iter().map(|row| row.index).collect();
            prop_assert_eq!(places, (0..all.len() as u32).collect::<Vec<_>>());
        }
    }
}
