//! Who is shown, and in which order.

use super::cell::{self, Branch, Printer};
use super::column::What;
use super::options::{Forest, Listed, Options};
use krg_rpc::proto::view::ViewProcess;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// The longest name that a kernel keeps of a program, bytes.
const COMM_BYTES: usize = 15;
/// Bytes of a name that are compared.
const NAME_BYTES_MAX: usize = 63;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The user it acts for.
    pub euid: u32,
    /// Its terminal's number, or 0.
    pub tty: u32,
}

impl Options {
    /// Is this process asked for?
    pub fn selects(&self, p: &ViewProcess, asker: &Asker) -> bool {
        let runs = matches!(cell::letter(p), b'R' | b'D');
        let chosen = self.all
            || (self.has_simple() && self.simply(p, asker))
            || self.lists.iter().any(|list| is_on(list, p));
        (chosen && (runs || !self.running)) != self.negate
    }

    fn simply(&self, p: &ViewProcess, asker: &Asker) -> bool {
        let simple = self.simple;
        let (leads, no_tty) = (p.session == p.pid, p.tty == 0);
        if simple.with_tty && simple.no_leaders {
            return !(leads && no_tty);
        }
        if simple.with_tty {
            return !leads && !no_tty;
        }
        if simple.no_leaders {
            return !leads;
        }
        let own = p.euid == asker.euid;
        match (simple.everybodys, simple.without_tty) {
            _ if !self.bsd => own && p.tty == asker.tty,
            (true, true) => true,
            (true, false) => !no_tty,
            (false, true) => own,
            (false, false) => own && !no_tty,
        }
    }
}

fn is_on(list: &Listed, p: &ViewProcess) -> bool {
    match list {
        Listed::Pids(all) => all.contains(&p.pid),
        Listed::Parents(all) => all.contains(&p.ppid),
        Listed::Sessions(all) => all.contains(&p.session),
        Listed::Euids(all) => all.contains(&p.euid),
        Listed::Ruids(all) => all.contains(&p.ruid),
        Listed::Egids(all) => all.contains(&p.egid),
        Listed::Rgids(all) => all.contains(&p.rgid),
        Listed::Names(all) => {
            let name = cell::comm(p);
            all.iter().any(|wanted| is_named(&name, wanted))
        }
    }
}

/// A long name is told from its first bytes: the kernel keeps no more.
fn is_named(name: &[u8], wanted: &[u8]) -> bool {
    let cut = |name: &[u8]| name[..name.len().min(NAME_BYTES_MAX)].to_vec();
    (name.len() == COMM_BYTES && wanted.len() >= COMM_BYTES && wanted.starts_with(name))
        || cut(name) == cut(wanted)
}

impl Printer<'_> {
    /// Those asked for, in the order asked for, with their places in the tree.
    pub fn chosen<'p>(
        &self,
        all: &'p [ViewProcess],
        asker: &Asker,
    ) -> Vec<(&'p ViewProcess, Branch)> {
        let mut chosen: Vec<&ViewProcess> =
            all.iter().filter(|p| self.options.selects(p, asker)).collect();
        if let Some(forest) = self.options.forest {
            chosen.sort_by_key(|p| (p.ppid, self.start_ticks(p)));
            return grown(&chosen, forest);
        }
        if !self.options.sort.is_empty() {
            let order = |a: &&ViewProcess, b: &&ViewProcess| {
                let by = |(what, down): &(What, bool)| {
                    let order = self.compare(*what, a, b);
                    if *down { order.reverse() } else { order }
                };
                self.options.sort.iter().map(by).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
            };
            chosen.sort_by(order);
        }
        chosen.into_iter().map(|p| (p, Branch::default())).collect()
    }

    fn compare(&self, what: What, a: &ViewProcess, b: &ViewProcess) -> Ordering {
        let by = |key: fn(&ViewProcess) -> u64| key(a).cmp(&key(b));
        match what {
            What::Node => by(|p| p.node.into()),
            What::Age => {
                let age = |p| self.node(p).map_or(0, |node| node.age_ms);
                age(a).cmp(&age(b))
            }
            What::Pid => by(|p| p.pid.into()),
            What::Ppid => by(|p| p.ppid.into()),
            What::Pgrp => by(|p| p.pgrp.into()),
            What::Session => by(|p| p.session.into()),
            What::Tpgid => by(|p| p.tpgid.wrapping_add(1).into()),
            What::Euid => by(|p| p.euid.into()),
            What::Ruid => by(|p| p.ruid.into()),
            What::Egid => by(|p| p.egid.into()),
            What::Rgid => by(|p| p.rgid.into()),
            What::Euser => self.names.user(a.euid).cmp(&self.names.user(b.euid)),
            What::Ruser => self.names.user(a.ruid).cmp(&self.names.user(b.ruid)),
            What::Egroup => self.names.group(a.egid).cmp(&self.names.group(b.egid)),
            What::Rgroup => self.names.group(a.rgid).cmp(&self.names.group(b.rgid)),
            What::Comm | What::ShortComm => cell::comm(a).cmp(&cell::comm(b)),
            What::Args => cell::args(a).cmp(&cell::args(b)),
            What::Stat | What::State | What::Running => by(|p| p.state.into()),
            What::Flags => by(|p| p.flags),
            What::Tty => cell::tty(a.tty).cmp(&cell::tty(b.tty)),
            What::Time | What::TimeSeconds | What::MinuteTime => by(Printer::used_ticks),
            What::CpuPercent | What::CpuWhole | What::CpuMille => {
                let share =
                    |p| Printer::used_ticks(p) as f64 / self.elapsed_ticks(p).max(1) as f64;
                share(a).total_cmp(&share(b))
            }
            What::RssKib | What::MemPercent => self.rss_kib(a).cmp(&self.rss_kib(b)),
            What::VszKib | What::VszPages => by(|p| p.vsize_bytes),
            What::Elapsed | What::ElapsedSeconds => {
                self.elapsed_ticks(a).cmp(&self.elapsed_ticks(b))
            }
            What::StartClock | What::StartShort | What::StartBsd | What::StartLong => {
                self.start_ticks(a).cmp(&self.start_ticks(b))
            }
            What::Nice => a.nice.cmp(&b.nice),
            What::Priority(..) => a.priority.cmp(&b.priority),
            What::RtPriority => by(|p| p.rt_priority.into()),
            What::Class | What::Policy => by(|p| p.policy.into()),
            What::Processor => by(|p| p.processor.into()),
            What::Threads => by(|p| p.threads.into()),
            What::MajorFaults => by(|p| p.major_faults),
            What::MinorFaults => by(|p| p.minor_faults),
            What::Wchan | What::Nothing => Ordering::Equal,
        }
    }
}

/// Each below its parent. They come sorted by their parents, and their age among these; of what
/// has no parent here the last is first.
fn grown<'p>(sorted: &[&'p ViewProcess], forest: Forest) -> Vec<(&'p ViewProcess, Branch)> {
    let there: HashSet<u32> = sorted.iter().map(|p| p.pid).collect();
    let mut children: HashMap<u32, Vec<&ViewProcess>> = HashMap::new();
    let mut waiting = Vec::new();
    for p in sorted {
        match there.contains(&p.ppid) {
            true => children.entry(p.ppid).or_default().push(p),
            false => waiting.push((*p, Branch::default())),
        }
    }
    let mut grown = Vec::with_capacity(sorted.len());
    while let Some((p, branch)) = waiting.pop() {
        let own = children.remove(&p.pid).unwrap_or_default();
        // Whom the cluster's process 1 has adopted is not drawn below it.
        let flat = p.pid == 1 && forest == Forest::Lines;
        for (at, child) in own.iter().enumerate().rev() {
            let mut below = branch.clone();
            if !flat {
                below.0.push(at + 1 < own.len());
            }
            waiting.push((*child, below));
        }
        grown.push((p, branch));
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(pid: u32, ppid: u32) -> ViewProcess {
        ViewProcess { pid, ppid, ..ViewProcess::default() }
    }

    #[test]
    fn trees_grow_from_who_has_no_parent_here() {
        let all = [p(1, 0), p(2, 0), p(10, 1), p(11, 1), p(20, 10), p(21, 10), p(30, 20)];
        let sorted: Vec<&ViewProcess> = all.iter().collect();
        let shown = |forest| -> Vec<(u32, Vec<bool>)> {
            grown(&sorted, forest).into_iter().map(|(p, branch)| (p.pid, branch.0)).collect()
        };
        let lines = [
            (2, vec![]),
            (1, vec![]),
            (10, vec![]),
            (20, vec![true]),
            (30, vec![true, false]),
            (21, vec![false]),
            (11, vec![]),
        ];
        assert_eq!(shown(Forest::Lines), lines);
        assert_eq!(shown(Forest::Indented)[2], (10, vec![true]));
    }

    #[test]
    fn who_is_his_own_ancestor_is_nobodys_child() {
        let all = [p(5, 6), p(6, 5), p(7, 7), p(8, 0)];
        let sorted: Vec<&ViewProcess> = all.iter().collect();
        assert_eq!(grown(&sorted, Forest::Lines).len(), 1);
    }

    #[test]
    fn long_names_are_told_from_their_beginning() {
        assert!(is_named(b"sleep", b"sleep") && !is_named(b"sleep", b"slee"));
        assert!(is_named(b"a-very-long-nam", b"a-very-long-name-of-a-program"));
        assert!(!is_named(b"a-very-long-nam", b"a-very-long-na"));
    }
}
