//! Processes of jobs have numbers that no other process of the cluster has, and keep them wherever
//! they are: those of their own PID namespace (pid_namespaces(7)). The owner of a process says
//! which are such numbers; who looks shows them in the place of `node << 22 | pid`. Pure.

use crate::merge::text::{lines, number, words};
use crate::store::Process;
use krg_types::NodeId;
use krg_types::limits::{JOB_NODE_SHIFT, LOCAL_PID_BITS};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A job's own numbers, on the node where its processes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its PID namespace, as a link of /proc/PID/ns says it; `None`: it is on its way here, and its
    /// processes are still shown where they come from.
    pub namespace: Option<String>,
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// How a process is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// By its node's number and its own.
    Plain,
    /// By this number.
    Numbered(u32),
    /// Not here.
    Elsewhere,
}

/// The name of a job's first process, which has no number of its own.
const FIRST_PROCESS: &[u8] = b"krg-job-init";

/// How a process with this status text is shown; `namespace` is asked for only where it matters.
pub fn shown(
    status: &[u8],
    blocks: &[Block],
    namespace: impl FnOnce() -> Option<String>,
) -> Shown {
    let Some((_, inner)) = own_numbers(status, b"NSpid").filter(|_| !blocks.is_empty()) else {
        return Shown::Plain;
    };
    let fits = |block: &Block| (block.first..=block.last).contains(&inner);
    let first = inner == 1 && lines(status).any(|line| is_name(line, FIRST_PROCESS));
    if !first && !blocks.iter().any(fits) {
        return Shown::Plain;
    }
    let Some(namespace) = namespace() else { return Shown::Plain };
    let here = blocks.iter().find(|b| b.namespace.as_deref() == Some(namespace.as_str()));
    let coming = |block: &&Block| block.namespace.is_none() && (first || fits(block));
    match here {
        Some(block) if fits(block) => Shown::Numbered(inner),
        None if blocks.iter().any(|b| coming(&b)) => Shown::Elsewhere,
        _ => Shown::Plain,
    }
}

/// Can a process with this status text be a job's?
pub fn can_be_numbered(status: &[u8], blocks: &[Block]) -> bool {
    !blocks.is_empty() && own_numbers(status, b"NSpid").is_some_and(|(own, inner)| own != inner)
}

fn is_name(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(b"Name:").is_some_and(|rest| words(rest).next() == Some(name))
}

/// The first and the last number of such a line, if there are two: as its node counts, and within
/// its own namespace.
fn own_numbers(status: &[u8], key: &[u8]) -> Option<(u32, u32)> {
    let value = |line| {
        let rest: &[u8] = line;
        rest.strip_prefix(key)?.strip_prefix(b":")
    };
    let mut all = words(lines(status).find_map(value)?);
    let local = number(all.next()?)?;
    let inner = number(all.last()?)?;
    Some((u32::try_from(local).ok()?, u32::try_from(inner).ok()?))
}

/// The node whose jobs have this number, if it can be one.
pub fn home_of(number: u32) -> Option<NodeId> {
    let can_be = number >> JOB_NODE_SHIFT > 0 && number >> LOCAL_PID_BITS == 0;
    can_be.then(|| NodeId::new(number >> JOB_NODE_SHIFT)).flatten()
}

/// The numbers of the jobs on one node.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Numbers {
    shown: BTreeMap<u32, u32>,
    local: BTreeMap<u32, u32>,
}

impl Numbers {
    /// Of these processes.
    pub fn of(procs: &BTreeMap<u32, Arc<Process>>) -> Numbers {
        let mut numbers = Numbers::default();
        for (local, process) in procs.iter().filter(|(_, p)| p.number > 0) {
            numbers.add(*local, process.number);
            numbers.local.insert(process.number, *local);
            // Of groups and sessions whose leaders have ended too.
            for key in [&b"NSpgid"[..], b"NSsid"] {
                match own_numbers(&process.texts[1], key) {
                    Some((leader, inner)) if leader > 0 && home_of(inner).is_some() => {
                        numbers.add(leader, inner);
                    }
                    _ => {}
                }
            }
        }
        numbers
    }

    /// These and those of a process's threads: of each its node's number and its status text.
    pub fn with_threads<'a>(&self, all: impl Iterator<Item = (u32, &'a [u8])>) -> Numbers {
        let mut numbers = self.clone();
        for (tid, status) in all {
            if let Some((_, inner)) = own_numbers(status, b"NSpid") {
                numbers.add(tid, inner);
            }
        }
        numbers
    }

    fn add(&mut self, local: u32, number: u32) {
        self.shown.entry(local).or_insert(number);
    }

    /// As the cluster shows what its node numbers so.
    pub fn shown(&self, local: u32) -> Option<u32> {
        self.shown.get(&local).copied()
    }

    /// The node's own number of the process that is shown so.
    pub fn local(&self, number: u32) -> Option<u32> {
        self.local.get(&number).copied()
    }

    /// All by which processes are shown.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.local.keys().copied()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(namespace: Option<&str>) -> Block {
        Block { namespace: namespace.map(str::to_owned), first: 32_768, last: 33_279 }
    }

    fn of(name: &str, pids: &str, blocks: &[Block]) -> Shown {
        let status = format!("Name:\t{name}\nPid:\t70\nNSpid:\t{pids}\n");
        shown(status.as_bytes(), blocks, || Some("pid:[5]".into()))
    }

    #[test]
    fn members_are_shown_by_their_numbers_and_only_they() {
        let here = [block(Some("pid:[5]"))];
        assert_eq!(of("a", "70\t32770", &here), Shown::Numbered(32_770));
        assert_eq!(of("a", "70\t32770", &[block(Some("pid:[6]"))]), Shown::Plain);
        assert_eq!(of("a", "70", &here), Shown::Plain);
        assert_eq!(of("a", "70\t12", &here), Shown::Plain);
        assert_eq!(of("a", "70\t32770", &[]), Shown::Plain);
        assert_eq!(of("krg-job-init", "70\t1", &here), Shown::Plain);
    }

    #[test]
    fn who_is_on_his_way_is_not_shown_here_yet() {
        let coming = [block(None)];
        assert_eq!(of("a", "70\t32770", &coming), Shown::Elsewhere);
        assert_eq!(of("krg-job-init", "70\t1", &coming), Shown::Elsewhere);
        assert_eq!(of("a", "70\t1", &coming), Shown::Plain);
        assert_eq!(of("a", "32770", &coming), Shown::Plain);
        let both = [block(Some("pid:[5]")), block(None)];
        assert_eq!(of("krg-job-init", "70\t1", &both), Shown::Plain);
        assert_eq!(of("a", "70\t32770", &both), Shown::Numbered(32_770));
    }

    #[test]
    fn groups_and_threads_have_numbers_too() {
        let status = b"Name:\ta\nNSpid:\t70\t32770\nNSpgid:\t69\t32769\nNSsid:\t0\t0\n";
        let mut process = Process { number: 32_770, ..Process::default() };
        process.texts[1] = status.to_vec().into();
        let procs = BTreeMap::from([(70, Arc::new(process)), (71, Arc::default())]);
        let numbers = Numbers::of(&procs);
        assert_eq!(
            [69, 70, 71, 0].map(|n| numbers.shown(n)),
            [Some(32_769), Some(32_770), None, None]
        );
        assert_eq!((numbers.local(32_770), numbers.local(32_769)), (Some(70), None));
        let threads = numbers.with_threads([(72, &b"NSpid:\t72\t32771\n"[..])].into_iter());
        assert_eq!(threads.shown(72), Some(32_771));
    }

    #[test]
    fn numbers_tell_their_home() {
        assert_eq!(home_of(32_768).map(NodeId::get), Some(1));
        assert_eq!(home_of((1 << 22) - 1).map(NodeId::get), Some(127));
        for none in [0, 1, 32_767, 1 << 22, u32::MAX] {
            assert_eq!(home_of(none), None, "{none}");
        }
    }
}
