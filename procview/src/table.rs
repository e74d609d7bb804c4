//! The process table of one node as its own daemon keeps it, and what of it is new to a viewer.
//! Pure: `sample` fills it, `serve` sends from it.

use krg_rpc::proto::proc as wire;
use krg_types::PidFile;
use std::collections::{BTreeMap, VecDeque};

/// Ends of processes remembered; a viewer that is further behind gets the whole table.
const GONE_MAX: usize = 16_384;
/// The texts of a process that travel in samples.
pub const TEXTS: usize = PidFile::SAMPLED.len();

/// One process.
#[derive(Clone, Default, Debug)]
pub struct Row {
    /// Start time, ticks since the owner's boot.
    pub start_ticks: u64,
    /// Owner of its directory (the effective ids, or root's if it is not dumpable).
    pub uid: u32,
    /// Likewise the group.
    pub gid: u32,
    /// Texts too long to travel; bits as in `PidFile`.
    pub oversize: u64,
    /// As a member of a job: its number in the cluster, or 0.
    pub number: u32,
    /// Their content, in the order of `PidFile::SAMPLED`; `None` where the kernel has none.
    pub texts: [Option<Vec<u8>>; TEXTS],
    /// The pass in which each text last changed.
    changed: [u64; TEXTS],
    /// The pass in which it was first seen.
    born: u64,
    /// Boot clock of its node then, ns.
    born_ns: u64,
    /// The pass in which ids, oversize or the number last changed.
    meta_changed: u64,
    /// The pass in which it was last seen.
    seen: u64,
}

/// All processes.
#[derive(Default, Debug)]
pub struct Table {
    rows: BTreeMap<u32, Row>,
    /// (pass, pid) of processes that ended, oldest first.
    gone: VecDeque<(u64, u32)>,
    /// Ends up to this pass are no longer all remembered.
    gone_before: u64,
    /// The pass under way or, between passes, the last one.
    pass: u64,
    /// The last pass that was completed. What a pass under way has changed already may be sent
    /// early; it is sent again after its end.
    done: u64,
}

/// What one look at one process found. The buffers are the sampler's, reused.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Its pid.
    pub pid: u32,
    /// Ticks since boot.
    pub start_ticks: u64,
    /// Owner of its directory.
    pub uid: u32,
    /// Likewise the group.
    pub gid: u32,
    /// Texts too long to travel.
    pub oversize: u64,
    /// As a member of a job: its number in the cluster, or 0.
    pub number: u32,
    /// In the order of `PidFile::SAMPLED`.
    pub texts: [Look<'a>; TEXTS],
}

/// What a look at one text found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look<'a> {
    /// It was not looked at: what is known stays.
    Kept,
    /// The kernel has none.
    Absent,
    /// This.
    Text(&'a [u8]),
}

impl Table {
    /// Begins a pass over the processes.
    pub fn begin(&mut self) {
        self.pass += 1;
    }

    /// Notes that a process is still there. Says when it was first seen, or `None` if it was not.
    pub fn note(&mut self, pid: u32) -> Option<u64> {
        let row = self.rows.get_mut(&pid)?;
        row.seen = self.pass;
        Some(row.born_ns)
    }

    /// What is known of a process.
    pub fn row(&self, pid: u32) -> Option<&Row> {
        self.rows.get(&pid)
    }

    /// Takes in one process, looked at `now_ns` of the boot clock. Nothing is allocated where
    /// nothing changed.
    pub fn see(&mut self, seen: &Seen<'_>, now_ns: u64) {
        let pass = self.pass;
        let row = self.rows.entry(seen.pid).or_default();
        if row.born == 0 || row.start_ticks != seen.start_ticks {
            let (start_ticks, born_ns) = (seen.start_ticks, now_ns);
            *row = Row { start_ticks, born: pass, born_ns, ..Row::default() };
        }
        row.seen = pass;
        let meta = (seen.uid, seen.gid, seen.oversize, seen.number);
        if meta != (row.uid, row.gid, row.oversize, row.number) {
            (row.uid, row.gid, row.oversize, row.number) = meta;
            row.meta_changed = pass;
        }
        for (i, look) in seen.texts.iter().enumerate() {
            let text = match look {
                Look::Kept => continue,
                Look::Absent => None,
                Look::Text(text) => Some(*text),
            };
            if row.texts[i].as_deref() == text {
                continue;
            }
            row.changed[i] = pass;
            match (&mut row.texts[i], text) {
                (Some(old), Some(new)) => {
                    old.clear();
                    old.extend_from_slice(new);
                }
                (slot, new) => *slot = new.map(<[u8]>::to_vec),
            }
        }
    }

    /// Ends the pass: who was not seen has ended.
    pub fn end(&mut self) {
        let pass = self.pass;
        let gone = &mut self.gone;
        self.rows.retain(|pid, row| {
            let alive = row.seen == pass;
            if !alive {
                gone.push_back((pass, *pid));
            }
            alive
        });
        while self.gone.len() > GONE_MAX {
            if let Some((at, _)) = self.gone.pop_front() {
                self.gone_before = at;
            }
        }
        self.done = pass;
    }

    /// The number of the last completed pass; 0 before the first.
    pub fn last_pass(&self) -> u64 {
        self.done
    }

    /// How many processes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Is there no process?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Must a viewer that last saw `pass` be sent everything?
    pub fn needs_full(&self, pass: u64) -> bool {
        pass == 0 || pass < self.gone_before || pass > self.done
    }

    /// The processes that ended after `pass` and are not there again.
    pub fn gone_since(&self, pass: u64) -> impl Iterator<Item = u32> + '_ {
        let later = self.gone.iter().rev().take_while(move |(at, _)| *at > pass);
        later.map(|(_, pid)| *pid).filter(|pid| !self.rows.contains_key(pid))
    }

    /// What is new since `pass`, for the wire.
    pub fn changed_since(&self, pass: u64) -> impl Iterator<Item = wire::Proc> + '_ {
        self.rows.iter().filter_map(move |(pid, row)| row.since(*pid, pass))
    }
}

impl Row {
    fn since(&self, pid: u32, pass: u64) -> Option<wire::Proc> {
        let new = self.born > pass;
        let any = new || self.meta_changed > pass || self.changed.iter().any(|at| *at > pass);
        // A text that vanished travels as an empty one: a process that still is has none
        // only where the kernel refuses it, as for kernel threads.
        let text = |i: usize| {
            let send = self.changed[i] > pass || (new && self.texts[i].is_some());
            send.then(|| self.texts[i].clone().unwrap_or_default())
        };
        any.then(|| wire::Proc {
            pid,
            start_ticks: self.start_ticks,
            uid: self.uid,
            gid: self.gid,
            stat: text(0),
            status: text(1),
            statm: text(2),
            cmdline: text(3),
            environ: text(4),
            cgroup: text(5),
            oversize: self.oversize,
            number: self.number,
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, start_ticks: u64, stat: &'static [u8]) -> Seen<'static> {
        let mut texts = [Look::Absent; TEXTS];
        texts[0] = Look::Text(stat);
        Seen { pid, start_ticks, uid: 0, gid: 0, oversize: 0, number: 0, texts }
    }

    fn pass(table: &mut Table, rows: &[Seen<'_>]) -> u64 {
        table.begin();
        rows.iter().for_each(|r| table.see(r, 1));
        table.end();
        table.last_pass()
    }

    #[test]
    fn the_unchanged_costs_nothing() {
        let mut t = Table::default();
        let one = pass(&mut t, &[seen(1, 5, b"a"), seen(2, 5, b"b")]);
        assert!(t.needs_full(0));
        assert_eq!(t.changed_since(0).count(), 2);
        let two = pass(&mut t, &[seen(1, 5, b"a"), seen(2, 5, b"c")]);
        let changed: Vec<_> = t.changed_since(one).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].pid, changed[0].stat.as_deref()), (2, Some(&b"c"[..])));
        assert_eq!(changed[0].status, None);
        pass(&mut t, &[seen(1, 5, b"a"), seen(2, 5, b"c")]);
        assert_eq!(t.changed_since(two).count(), 0);
    }

    #[test]
    fn what_was_not_looked_at_stays() {
        let mut t = Table::default();
        let one = pass(&mut t, &[seen(1, 5, b"a"), seen(2, 5, b"b")]);
        t.begin();
        assert_eq!((t.note(1), t.note(3)), (Some(1), None));
        let kept = Seen { texts: [Look::Kept; TEXTS], ..seen(2, 5, b"") };
        t.see(&kept, 9);
        t.end();
        assert_eq!(t.changed_since(one).count() + t.gone_since(one).count(), 0);
        t.begin();
        t.note(1);
        t.end();
        assert_eq!(t.gone_since(one).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn ends_and_reused_pids_are_told() {
        let mut t = Table::default();
        let one = pass(&mut t, &[seen(1, 5, b"a"), seen(2, 5, b"b")]);
        let two = pass(&mut t, &[seen(1, 5, b"a")]);
        assert_eq!(t.gone_since(one).collect::<Vec<_>>(), [2]);
        pass(&mut t, &[seen(1, 5, b"a"), seen(2, 9, b"b")]);
        assert_eq!(t.gone_since(two).count(), 0);
        let back: Vec<_> = t.changed_since(two).collect();
        assert_eq!((back[0].pid, back[0].start_ticks), (2, 9));
        // The same text under a new start is sent again: it is another process.
        assert_eq!(back[0].stat.as_deref(), Some(&b"b"[..]));
    }

    #[test]
    fn a_viewer_too_far_behind_gets_everything() {
        let mut t = Table::default();
        let one = pass(&mut t, &[seen(1, 5, b"a")]);
        for i in 0..3 {
            let crowd: Vec<_> = (2..10_000).map(|p| seen(p, i, b"x")).collect();
            pass(&mut t, &crowd);
            pass(&mut t, &[seen(1, 5, b"a")]);
        }
        assert!(t.needs_full(one));
        assert!(!t.needs_full(t.last_pass()));
    }
}
