//! What a viewer holds of one node: the last values it sent. Pure; `gather` fills it.

use crate::numbers::{Numbers, home_of};
use krg_rpc::proto::proc as wire;
use krg_types::limits::{
    CPUS_PER_NODE_MAX, NAME_BYTES_MAX, PROCS_PER_NODE_MAX, SAMPLED_TEXT_BYTES_MAX,
    SYSTEM_FILE_BYTES_MAX,
};
use krg_types::{NodeId, PidFile, SystemFile};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Which of a process's texts the kernel was told of since they last changed: bits as places in
/// `PidFile::HELD`. Shared by all states of the process.
#[derive(Default, Debug)]
pub struct Told {
    files: AtomicU8,
    at_ms: AtomicU32,
}

impl Told {
    /// Notes that the kernel is about to be told of a text. To be called before the text is looked
    /// at: should it change meanwhile, the kernel is told that too.
    pub fn tell(&self, place: u8, now_ms: u32) {
        self.at_ms.store(now_ms, Ordering::Relaxed);
        self.files.fetch_or(1 << place, Ordering::SeqCst);
    }

    /// Those of these texts that it was told of; it is about to be told that they changed.
    pub fn take(&self, places: u8) -> u8 {
        self.files.fetch_and(!places, Ordering::SeqCst) & places
    }

    /// When it was last told of one.
    pub fn at_ms(&self) -> u32 {
        self.at_ms.load(Ordering::Relaxed)
    }
}

/// One process of a node, as its owner sent it.
#[derive(Clone, Default, Debug)]
pub struct Process {
    /// Ticks since the owner's boot.
    pub start_ticks: u64,
    /// Owner of its directory.
    pub uid: u32,
    /// Likewise the group.
    pub gid: u32,
    /// Texts to be read live; bits as in `PidFile`.
    pub oversize: u64,
    /// As a member of a job: its number in the cluster, or 0.
    pub number: u32,
    /// In the order of `PidFile::SAMPLED`.
    pub texts: [Arc<[u8]>; PidFile::SAMPLED.len()],
    /// Counts the contents of each, in the order of `PidFile::HELD`.
    pub versions: [u8; PidFile::HELD.len()],
    /// What the kernel knows of it.
    pub told: Arc<Told>,
}

/// The place of `comm` in `PidFile::HELD`; it is made of stat.
const COMM: usize = 6;

impl Process {
    /// The held texts, as bits, that are not what they were.
    pub fn changed_since(&self, before: &Process) -> u8 {
        let changed =
            (0..self.versions.len()).filter(|i| self.versions[*i] != before.versions[*i]);
        changed.fold(0, |bits, i| bits | 1 << i)
    }

    fn comm(&self) -> Option<&[u8]> {
        crate::render::stat::parse(&self.texts[0]).map(|stat| stat.comm)
    }

    /// Counts on from `before`, a state of the same process from an earlier stream.
    fn follow(&mut self, before: &Process) {
        self.told = before.told.clone();
        let meta = |p: &Process| (p.uid, p.gid, p.oversize, p.number);
        let all = meta(self) != meta(before);
        for i in 0..self.versions.len() {
            let same = match i {
                COMM => self.comm() == before.comm(),
                _ => self.texts[i] == before.texts[i],
            };
            self.versions[i] = before.versions[i].wrapping_add(u8::from(all || !same));
        }
    }
}

/// One whole-system file.
#[derive(Clone, Default, Debug)]
pub struct SystemText {
    /// The owner's boot clock when it was read; 0 = never.
    pub stamp_ns: u64,
    /// `None` where the node has no such file.
    pub text: Option<Arc<[u8]>>,
}

/// The last known values of one node. Readers hold an `Arc` of it and never wait.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Which node.
    pub node: NodeId,
    /// What seldom changes; empty until the first frame.
    pub facts: Arc<wire::NodeFacts>,
    /// The owner's boot clock when the texts of its processes were looked at; 0 = never.
    pub procs_stamp_ns: u64,
    /// The same of the list of its processes.
    pub list_stamp_ns: u64,
    /// The processes by the owner's pids.
    pub procs: Arc<BTreeMap<u32, Arc<Process>>>,
    /// Those of its jobs.
    pub numbers: Arc<Numbers>,
    /// In the order of their numbers.
    pub files: [SystemText; SystemFile::ALL.len()],
    /// Passes the owner has made.
    pub passes: u64,
}

/// A frame that breaks the rules of the protocol; the stream is ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A pid that Linux does not have.
    #[error("process number {0}")]
    Pid(u32),
    /// A number that no job has.
    #[error("{0} as the number of a job's process")]
    Number(u32),
    /// More than fits.
    #[error("more than {0} processes")]
    TooMany(usize),
    /// A text above its bound.
    #[error("a text of {0} bytes")]
    TooLong(usize),
    /// A text that the frame does not hold.
    #[error("place {0} of its texts")]
    Place(u32),
    /// Facts that cannot be.
    #[error("facts of node {0} with {1} cpus")]
    Facts(u32, u32),
}

impl NodeView {
    /// Nothing known yet.
    pub fn new(node: NodeId) -> NodeView {
        NodeView {
            node,
            facts: Arc::default(),
            procs_stamp_ns: 0,
            list_stamp_ns: 0,
            procs: Arc::default(),
            numbers: Arc::default(),
            files: Default::default(),
            passes: 0,
        }
    }

    /// One whole-system file's text.
    pub fn text(&self, file: SystemFile) -> Option<&[u8]> {
        self.files[file.id() as usize].text.as_deref()
    }

    /// Takes in one frame. On an error the view is half done and must be thrown away.
    ///
    /// # Errors
    /// When the frame breaks a bound.
    pub fn apply(&mut self, frame: wire::Frame) -> Result<(), BadFrame> {
        if let Some(facts) = frame.facts {
            let sane = facts.hostname.len() <= NAME_BYTES_MAX;
            if facts.node != self.node.get() || facts.cpus > CPUS_PER_NODE_MAX || !sane {
                return Err(BadFrame::Facts(facts.node, facts.cpus));
            }
            self.facts = Arc::new(facts);
        }
        self.passes = self.passes.max(frame.passes);
        for file in frame.files {
            self.apply_file(file)?;
        }
        if frame.procs_stamp_ns != 0 {
            self.procs_stamp_ns = frame.procs_stamp_ns;
            self.list_stamp_ns = frame.list_stamp_ns.max(frame.procs_stamp_ns);
        }
        if frame.full || !frame.gone.is_empty() || !frame.procs.is_empty() {
            let procs = Arc::make_mut(&mut self.procs);
            if frame.full {
                procs.clear();
            }
            frame.gone.iter().for_each(|pid| drop(procs.remove(pid)));
            let shared = frame.texts.into_iter().map(bounded).collect::<Result<Vec<_>, _>>()?;
            for proc in frame.procs {
                apply_proc(procs, proc, &shared)?;
            }
            if procs.len() > PROCS_PER_NODE_MAX {
                return Err(BadFrame::TooMany(PROCS_PER_NODE_MAX));
            }
            if !self.numbers.is_empty() || procs.values().any(|p| p.number > 0) {
                self.numbers = Arc::new(Numbers::of(&self.procs));
            }
        }
        Ok(())
    }

    /// Takes up what a view from an earlier stream knows of the same processes: which contents of
    /// their texts are the same, and what the kernel knows.
    pub fn follow(&mut self, before: &NodeView) {
        let procs = Arc::make_mut(&mut self.procs);
        for (pid, process) in procs {
            let Some(old) = before.procs.get(pid) else { continue };
            if old.start_ticks == process.start_ticks && !Arc::ptr_eq(&old.told, &process.told) {
                Arc::make_mut(process).follow(old);
            }
        }
    }

    fn apply_file(&mut self, file: wire::SystemFile) -> Result<(), BadFrame> {
        // A file that a newer node has and this one does not know.
        let Some(slot) = self.files.get_mut(file.id as usize) else { return Ok(()) };
        slot.stamp_ns = file.stamp_ns;
        if let Some(text) = file.text {
            if text.len() > SYSTEM_FILE_BYTES_MAX {
                return Err(BadFrame::TooLong(text.len()));
            }
            slot.text = (!text.is_empty()).then(|| text.into());
        }
        Ok(())
    }
}

fn bounded(text: Vec<u8>) -> Result<Arc<[u8]>, BadFrame> {
    if text.len() > SAMPLED_TEXT_BYTES_MAX {
        return Err(BadFrame::TooLong(text.len()));
    }
    Ok(text.into())
}

fn apply_proc(
    procs: &mut BTreeMap<u32, Arc<Process>>,
    proc: wire::Proc,
    shared: &[Arc<[u8]>],
) -> Result<(), BadFrame> {
    if proc.pid == 0 || proc.pid >> krg_types::limits::LOCAL_PID_BITS != 0 {
        return Err(BadFrame::Pid(proc.pid));
    }
    if proc.number > 0 && home_of(proc.number).is_none() {
        return Err(BadFrame::Number(proc.number));
    }
    let slot = procs.entry(proc.pid).or_default();
    if slot.start_ticks != proc.start_ticks {
        *slot = Arc::default();
    }
    let process = Arc::make_mut(slot);
    let before = (process.uid, process.gid, process.oversize, process.number);
    let meta = (proc.uid, proc.gid, proc.oversize, proc.number);
    let mut changed = if before == meta { 0 } else { u8::MAX };
    process.start_ticks = proc.start_ticks;
    process.uid = proc.uid;
    process.gid = proc.gid;
    process.oversize = proc.oversize;
    process.number = proc.number;
    let texts = [proc.stat, proc.status, proc.statm, proc.cmdline, proc.environ, proc.cgroup];
    let places = [0, 0, 0, proc.cmdline_at, proc.environ_at, proc.cgroup_at];
    let comm = process.comm().map(<[u8]>::to_vec);
    for (i, (text, at)) in texts.into_iter().zip(places).enumerate() {
        process.texts[i] = match (text, at) {
            (None, 0) => continue,
            (Some(text), _) => bounded(text)?,
            (None, at) => shared.get(at as usize - 1).ok_or(BadFrame::Place(at))?.clone(),
        };
        changed |= 1 << i;
    }
    if changed & 1 != 0 && process.comm() != comm.as_deref() {
        changed |= 1 << COMM;
    }
    for (i, version) in process.versions.iter_mut().enumerate() {
        *version = version.wrapping_add(changed >> i & 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view() -> NodeView {
        NodeView::new(NodeId::new(2).expect("a node"))
    }

    fn proc(pid: u32, start_ticks: u64, stat: Option<&[u8]>) -> wire::Proc {
        wire::Proc { pid, start_ticks, stat: stat.map(<[u8]>::to_vec), ..Default::default() }
    }

    fn frame(procs: Vec<wire::Proc>, gone: Vec<u32>, full: bool) -> wire::Frame {
        wire::Frame { procs, gone, full, ..Default::default() }
    }

    #[test]
    fn deltas_add_up() {
        let mut v = view();
        v.apply(frame(vec![proc(7, 1, Some(b"a")), proc(8, 1, Some(b"b"))], vec![], true))
            .unwrap();
        let before = v.clone();
        v.apply(frame(vec![proc(8, 1, None)], vec![7], false)).unwrap();
        assert_eq!(v.procs.keys().copied().collect::<Vec<_>>(), [8]);
        assert_eq!(&*v.procs[&8].texts[0], b"b");
        assert_eq!(before.procs.len(), 2, "a reader's copy stays as it was");
        v.apply(frame(vec![proc(8, 2, None)], vec![], false)).unwrap();
        assert!(v.procs[&8].texts[0].is_empty(), "a reused pid inherits nothing");
    }

    const STAT: &[u8] = b"7 (sh) S 1";
    const RAN: &[u8] = b"7 (sh) R 1";

    fn one(stat: &[u8], start_ticks: u64) -> NodeView {
        let mut v = view();
        v.apply(frame(vec![proc(7, start_ticks, Some(stat))], vec![], true)).unwrap();
        v
    }

    #[test]
    fn each_change_of_a_text_is_another_version_of_it_alone() {
        let mut v = one(STAT, 1);
        let before = v.procs[&7].clone();
        v.apply(frame(vec![proc(7, 1, Some(RAN))], vec![], false)).unwrap();
        assert_eq!(
            v.procs[&7].changed_since(&before),
            1,
            "stat, and not comm, which is as it was"
        );
        assert!(Arc::ptr_eq(&v.procs[&7].told, &before.told));
        let other = wire::Proc { uid: 5, ..proc(7, 1, None) };
        let before = v.procs[&7].clone();
        v.apply(frame(vec![other], vec![], false)).unwrap();
        let all = (1 << PidFile::HELD.len()) - 1;
        assert_eq!(v.procs[&7].changed_since(&before), all, "its owner is told with each");
    }

    #[test]
    fn a_new_stream_goes_on_where_the_last_one_ended() {
        let old = one(STAT, 1);
        old.procs[&7].told.tell(0, 9);
        let mut same = one(STAT, 1);
        same.follow(&old);
        assert_eq!(same.procs[&7].changed_since(&old.procs[&7]), 0);
        assert_eq!(same.procs[&7].told.take(u8::MAX), 1, "what the kernel knows is known");
        let mut ran = one(RAN, 1);
        ran.follow(&old);
        assert_eq!(ran.procs[&7].changed_since(&old.procs[&7]), 1);
        let mut another = one(STAT, 2);
        another.follow(&old);
        assert!(!Arc::ptr_eq(&another.procs[&7].told, &old.procs[&7].told), "a pid used again");
    }

    #[test]
    fn the_kernel_is_told_once_of_each_change() {
        let told = Told::default();
        told.tell(2, 40);
        told.tell(5, 41);
        assert_eq!((told.take(1 << 2 | 1 << 3), told.at_ms()), (1 << 2, 41));
        assert_eq!((told.take(u8::MAX), told.take(u8::MAX)), (1 << 5, 0));
    }

    #[test]
    fn bounds_are_kept() {
        for pid in [0, 1 << 22, u32::MAX] {
            let bad = view().apply(frame(vec![proc(pid, 1, None)], vec![], false));
            assert_eq!(bad, Err(BadFrame::Pid(pid)));
        }
        let long = vec![b'x'; SAMPLED_TEXT_BYTES_MAX + 1];
        let bad = view().apply(frame(vec![proc(1, 1, Some(&long))], vec![], false));
        assert_eq!(bad, Err(BadFrame::TooLong(long.len())));
        let facts = wire::NodeFacts { node: 3, cpus: 1, ..Default::default() };
        let other = wire::Frame { facts: Some(facts), ..Default::default() };
        assert_eq!(view().apply(other), Err(BadFrame::Facts(3, 1)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            use krg_rpc::prost::Message;
            if let Ok(frame) = wire::Frame::decode(bytes.as_slice()) {
                let _ = view().apply(frame);
            }
        }

        #[test]
        fn any_frame_is_applied_or_refused(
            pids in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..20),
            gone in proptest::collection::vec(any::<u32>(), 0..20),
            files in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..20),
        ) {
            let mut f = frame(pids.iter().map(|(p, s)| proc(*p, *s, None)).collect(), gone, false);
            f.files = files
                .into_iter()
                .map(|(id, stamp_ns)| wire::SystemFile { id, stamp_ns, text: None })
                .collect();
            let mut v = view();
            if v.apply(f).is_ok() {
                prop_assert!(v.procs.keys().all(|p| *p > 0 && *p < 1 << 22));
            }
        }
    }
}
