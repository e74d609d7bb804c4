//! Where the capabilities of processes are kept, and which a process has of which none are kept:
//! no kernel tells of a fork, so what it has from its parents is found when somebody asks.

use krg_types::capability::{Edit, Sets};
use krg_types::limits::{JOB_NODE_SHIFT, JOB_PIDS, LOCAL_PID_BITS};

/// Of all keys.
pub const PREFIX: &str = "caps/";

/// Whose sets these are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Whose {
    /// A process of a job, wherever that is: by its number within it; 0: its program.
    Member {
        /// The job.
        job: u32,
        /// The process.
        number: u32,
    },
    /// Any other, of one node.
    Process {
        /// The node.
        node: u32,
        /// Tells this run of its kernel from others.
        boot: u32,
        /// Its number there.
        pid: u32,
        /// When it started, in ticks since boot.
        start: u64,
    },
}

impl Whose {
    /// Where they are kept.
    pub fn key(&self) -> String {
        match self {
            Whose::Member { job, number } => format!("{PREFIX}job/{job}/{number}"),
            Whose::Process { node, boot, pid, start } => {
                format!("{PREFIX}node/{node}/{boot:08x}/{pid}.{start}")
            }
        }
    }

    /// Whose are kept there; `None` if that is no such place.
    pub fn parse(key: &str) -> Option<Whose> {
        let words: Vec<&str> = key.strip_prefix(PREFIX)?.split('/').collect();
        match words[..] {
            ["job", job, number] => {
                Some(Whose::Member { job: job.parse().ok()?, number: number.parse().ok()? })
            }
            ["node", node, boot, process] => {
                let (pid, start) = process.split_once('.')?;
                Some(Whose::Process {
                    node: node.parse().ok()?,
                    boot: u32::from_str_radix(boot, 16).ok()?,
                    pid: pid.parse().ok()?,
                    start: start.parse().ok()?,
                })
            }
            _ => None,
        }
    }
}

/// The home of a job: its number says it.
pub fn home_of(job: u32) -> u32 {
    match job >> LOCAL_PID_BITS {
        0 => job >> JOB_NODE_SHIFT,
        node => node,
    }
}

/// The number within a job of its program, which its first process has started first.
pub fn program_of(job: u32, numbers: (u32, u32)) -> u32 {
    if numbers.0 > 0 { job } else { 2 }
}

/// The first of the block of numbers that a job has, if it has one.
pub fn block_of(job: u32) -> Option<u32> {
    (job >> LOCAL_PID_BITS == 0).then_some(job - job % JOB_PIDS)
}

/// A process, its parent, and so on: as far as what one of them has says what it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lineage(pub Vec<Whose>);

impl Lineage {
    /// The process itself.
    pub fn own(&self) -> Option<Whose> {
        self.0.first().copied()
    }

    /// What it has, if these are what is kept.
    pub fn sets(&self, kept: impl Fn(&Whose) -> Option<Sets>) -> Sets {
        let found = self.0.iter().enumerate().find_map(|(i, whose)| Some((i, kept(whose)?)));
        let (distance, sets) = found.unwrap_or_else(|| {
            let top = match self.0.last() {
                Some(Whose::Member { .. }) => Sets::JOB,
                _ => Sets::INITIAL,
            };
            (self.0.len().saturating_sub(1), top)
        });
        // A child's child has what the child has.
        if distance == 0 { sets } else { sets.fork() }
    }
}

/// What a job is to be started with, in the words of who starts it; `None` for the usual.
///
/// # Errors
/// When it cannot be.
pub fn of_run(words: &str) -> Result<Option<Sets>, String> {
    if words.is_empty() {
        return Ok(None);
    }
    let edit = Edit::parse(words).map_err(|e| e.to_string())?;
    let sets = Sets::of_job(edit).map_err(|e| e.to_string())?;
    Ok((sets != Sets::JOB).then_some(sets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::Capability::{CanMigrate, Checkpointable};
    use krg_types::capability::{CapSet, Edits};

    const SHELL: Whose = Whose::Process { node: 1, boot: 0xab, pid: 7, start: 99 };
    const CHILD: Whose = Whose::Process { node: 1, boot: 0xab, pid: 8, start: 100 };
    const PROGRAM: Whose = Whose::Member { job: 32_768, number: 0 };
    const MEMBER: Whose = Whose::Member { job: 32_768, number: 32_770 };

    #[test]
    fn keys_say_whose() {
        for whose in [SHELL, PROGRAM, MEMBER] {
            assert_eq!(Whose::parse(&whose.key()), Some(whose));
        }
        for bad in ["", "caps/", "caps/job/1", "caps/job/x/1", "caps/node/1/ab/7", "jobs/1"] {
            assert_eq!(Whose::parse(bad), None, "{bad}");
        }
        assert_eq!([32_768, 65_536 + 512, 3 << 22 | 5].map(home_of), [1, 2, 3]);
        assert_eq!(block_of(33_281), Some(33_280));
        assert_eq!(block_of(3 << 22 | 5), None);
    }

    #[test]
    fn what_nobody_has_said_comes_from_the_parents() {
        let effective = Some(Edit::Add(CapSet::of(&[CanMigrate])));
        let inheritable_effective = Some(Edit::Add(CapSet::of(&[Checkpointable])));
        let edits = Edits { effective, inheritable_effective, ..Edits::default() };
        let said = Sets::INITIAL.change(&edits, CapSet::EMPTY).unwrap();
        let less = Sets::of_job(Edit::Set(CapSet::EMPTY)).unwrap();
        let of = |chain: &[Whose], kept: &[(Whose, Sets)]| {
            let find = |whose: &Whose| kept.iter().find(|(w, _)| w == whose).map(|(_, s)| *s);
            Lineage(chain.to_vec()).sets(find)
        };
        type Case<'a> = (&'a [Whose], &'a [(Whose, Sets)], Sets);
        let cases: [Case<'_>; 9] = [
            (&[], &[], Sets::INITIAL),
            (&[CHILD, SHELL], &[], Sets::INITIAL),
            (&[SHELL], &[(SHELL, said)], said),
            (&[CHILD, SHELL], &[(SHELL, said)], said.fork()),
            (&[CHILD, SHELL], &[(SHELL, said), (CHILD, less)], less),
            (&[PROGRAM], &[], Sets::JOB),
            (&[MEMBER, PROGRAM], &[], Sets::JOB.fork()),
            (&[PROGRAM], &[(PROGRAM, less)], less),
            (&[CHILD, MEMBER, PROGRAM], &[(PROGRAM, less)], less.fork()),
        ];
        for (chain, kept, wanted) in cases {
            assert_eq!(of(chain, kept), wanted, "{chain:?}");
        }
    }

    #[test]
    fn a_job_is_started_with_what_can_be() {
        assert_eq!(of_run(""), Ok(None));
        assert_eq!(of_run("+CAN_MIGRATE"), Ok(None));
        assert_eq!(of_run("0"), Ok(Some(Sets::of_job(Edit::Set(CapSet::EMPTY)).unwrap())));
        assert!(of_run("+x").is_err() && of_run("+DEBUG").is_err());
    }
}
