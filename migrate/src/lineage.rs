//! A process and its parents, as this node's kernel has them now.

use crate::caps::{Lineage, Whose, program_of};
use crate::members;
use crate::place::About;
use krg_sys::caller;
use krg_sys::procfs::Procfs;
use krg_types::limits::PROCS_PER_NODE_MAX;
use std::collections::HashMap;

/// More parents than anybody has: a chain that goes on has changed meanwhile.
const PARENTS_MAX: usize = 4_096;
/// Bytes of a status file that are looked at.
const STATUS_BYTES_MAX: usize = 1 << 20;

/// A process of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// Its number here.
    pub pid: u32,
    /// Whose it is.
    pub uid: u32,
    /// The job that it is of.
    pub job: Option<u32>,
    /// Itself and its parents.
    pub lineage: Lineage,
}

/// How processes of this node are looked at.
pub struct Looking<'a> {
    /// This node.
    pub node: u32,
    /// The run of its kernel.
    pub boot: u32,
    /// Through this.
    pub procfs: &'a Procfs,
    /// The jobs that have a holder here.
    pub jobs: &'a [About],
}

/// Tells this run of the kernel from others.
pub fn boot(procfs: &Procfs) -> u32 {
    let mut text = Vec::new();
    let _ = procfs.root().read("sys/kernel/random/boot_id", &mut text, 64);
    let word = String::from_utf8_lossy(&text);
    u32::from_str_radix(word.split('-').next().unwrap_or_default(), 16).unwrap_or(0)
}

impl Looking<'_> {
    /// One that there is.
    pub fn at(&self, pid: u32) -> Option<Subject> {
        let first = self.one(pid)?;
        let lineage = lineage(first, |pid| self.one(pid));
        Some(Subject { pid, uid: self.uid(pid)?, job: first.job, lineage })
    }

    /// All that there are, of no job.
    pub fn all(&self) -> Vec<Lineage> {
        let names = self.procfs.root().names(".", PROCS_PER_NODE_MAX).unwrap_or_default();
        let pids = names.iter().filter_map(|name| name.parse().ok());
        let all: HashMap<u32, One> = pids.filter_map(|pid| Some((pid, self.one(pid)?))).collect();
        let others = all.values().filter(|one| one.job.is_none());
        others.map(|one| lineage(*one, |pid| all.get(&pid).copied())).collect()
    }

    /// The children that a process has now, with what is known of them.
    pub fn children(&self, subject: &Subject) -> Vec<Subject> {
        // What has lost its parent within a job counts as its program's child.
        let init = match subject.lineage.own() {
            Some(Whose::Member { job, number: 0 }) => {
                self.jobs.iter().find(|about| about.id == job).map(|about| about.init)
            }
            _ => None,
        };
        let mut pids = members::children(subject.pid);
        pids.extend(init.into_iter().flat_map(members::children));
        pids.retain(|pid| *pid != subject.pid);
        pids.into_iter().filter_map(|pid| self.at(pid)).collect()
    }

    fn one(&self, pid: u32) -> Option<One> {
        let stat = caller::stat(self.procfs, pid).filter(|stat| !stat.is_dead())?;
        let Some(about) = self.job_of(pid) else {
            let whose =
                Whose::Process { node: self.node, boot: self.boot, pid, start: stat.start };
            let parent = Some(stat.parent).filter(|pid| *pid > 0);
            return Some(One { whose, job: None, parent });
        };
        let number = self.field(pid, "NSpid:")?.split_whitespace().last()?.parse().ok()?;
        let job = about.id;
        let top = pid == about.init || number == program_of(job, about.pids);
        let number = if top { 0 } else { number };
        let parent = (!top).then_some(stat.parent);
        Some(One { whose: Whose::Member { job, number }, job: Some(job), parent })
    }

    fn job_of(&self, pid: u32) -> Option<&About> {
        if self.jobs.is_empty() {
            return None;
        }
        let link = self.procfs.root().link(format!("{pid}/ns/pid")).ok()?;
        self.jobs.iter().find(|about| about.namespace.as_bytes() == link)
    }

    /// The real one: of what somebody has started that runs as another it is his.
    fn uid(&self, pid: u32) -> Option<u32> {
        self.field(pid, "Uid:")?.split_whitespace().next()?.parse().ok()
    }

    /// Of proc_pid_status(5).
    fn field(&self, pid: u32, key: &str) -> Option<String> {
        let mut text = Vec::new();
        let read = self.procfs.root().read(format!("{pid}/status"), &mut text, STATUS_BYTES_MAX);
        read.ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
    }
}

/// With its parents.
fn lineage(first: One, find: impl Fn(u32) -> Option<One>) -> Lineage {
    let mut chain = vec![first.whose];
    let mut next = first.parent;
    while let Some(one) = next.and_then(&find) {
        chain.push(one.whose);
        next = one.parent.filter(|_| chain.len() < PARENTS_MAX);
    }
    Lineage(chain)
}

/// A process, without its parents.
#[derive(Clone, Copy)]
struct One {
    whose: Whose,
    job: Option<u32>,
    parent: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_known_by_its_parent() {
        let procfs = Procfs::shared().unwrap();
        let (node, own) = (1, std::process::id());
        let looking = Looking { node, boot: boot(&procfs), procfs: &procfs, jobs: &[] };
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (me, it) = (looking.at(own).unwrap(), looking.at(child.id()).unwrap());
        assert_eq!(it.lineage.0[1..], me.lineage.0);
        assert_eq!((it.uid, it.job), (nix::unistd::getuid().as_raw(), None));
        assert!(looking.children(&me).contains(&it));
        assert!(looking.all().contains(&it.lineage));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(looking.at(child.id()), None);
        assert_eq!(looking.at(0), None);
    }
}
