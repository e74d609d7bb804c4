//! One process in the store: is it the one meant, and what does memory say of it.

use super::{Fs, may_trace_all};
use crate::error::ViewError;
use crate::inode::{Who, start_bits};
use crate::numbers::Numbers;
use crate::render::{self, Place, mask};
use crate::store::{NodeView, Process};
use krg_rpc::proto::proc::Entry;
use krg_sys::caller::Asker;
use krg_types::{GlobalPid, PidFile};
use std::sync::Arc;

/// The process with this identity.
pub(super) fn find(view: &NodeView, who: Who) -> Result<&Arc<Process>, ViewError> {
    let Who::Process(pid, start) = who else { return Err(ViewError::NoEntry) };
    let process = view.procs.get(&pid.local()).ok_or(ViewError::NoProcess)?;
    match start_bits(process.start_ticks) == start {
        true => Ok(process),
        false => Err(ViewError::NoProcess),
    }
}

impl Fs {
    /// The process that has this cluster pid now.
    pub(super) fn process_now(&self, pid: GlobalPid) -> Result<Arc<Process>, ViewError> {
        let view = self.gather.view(pid.node()).ok_or(ViewError::NoEntry)?;
        view.procs.get(&pid.local()).cloned().ok_or(ViewError::NoProcess)
    }

    pub(super) fn owner_of(&self, pid: GlobalPid) -> Result<(u32, u32), ViewError> {
        self.process_now(pid).map(|p| (p.uid, p.gid))
    }
}

/// A sampled text as the cluster shows it to this asker; `None`: memory may not answer, ask the
/// owner.
pub(super) fn text(
    process: &Process,
    file: PidFile,
    place: &Place<'_>,
    asker: &Asker,
) -> Option<Result<Vec<u8>, ViewError>> {
    match file {
        // Whether another user may read it is for the owner's kernel to say.
        PidFile::Environ if !may_trace_all(asker) => None,
        PidFile::Stat => Some(stat(&process.texts[0], place, may_trace_all(asker))),
        _ => held(process, file, place),
    }
}

/// The same for everybody who may read the file; the kernel sees to that. `None`: it is too long
/// to be held, or no such file is.
pub(super) fn held(
    process: &Process,
    file: PidFile,
    place: &Place<'_>,
) -> Option<Result<Vec<u8>, ViewError>> {
    if file == PidFile::Comm {
        let comm = render::stat::parse(&process.texts[0]).map(|s| [s.comm, b"\n"].concat());
        return Some(comm.ok_or(ViewError::Malformed(place.node)));
    }
    let at = PidFile::SAMPLED.iter().position(|f| *f == file)?;
    if process.oversize & file.bit() != 0 {
        return None;
    }
    let raw = &process.texts[at];
    match file {
        PidFile::Stat => Some(stat(raw, place, false)),
        PidFile::Status => {
            let kthread = render::stat::parse(&process.texts[0]).is_some_and(|s| s.is_kthread());
            let text = render::status::status(raw, place, kthread);
            Some(text.ok_or(ViewError::Malformed(place.node)))
        }
        _ => Some(Ok(raw.to_vec())),
    }
}

/// How a node's numbers are shown, with those of the threads of one process if that is a job's.
pub(super) fn numbers(view: &NodeView, pid: GlobalPid, threads: &[Entry]) -> Numbers {
    if view.numbers.shown(pid.local()).is_none() {
        return view.numbers.as_ref().clone();
    }
    let tid = |e: &Entry| e.name.parse().ok();
    let all = threads.iter().filter_map(|e| Some((tid(e)?, e.status.as_slice())));
    view.numbers.with_threads(all)
}

/// Has it one thread? Then what the sample says of the process is what there is to say of its
/// thread, and its node need not be asked.
pub(super) fn is_single(process: &Process) -> bool {
    render::stat::parse(&process.texts[0]).is_some_and(|s| s.num_threads == 1)
}

/// A stat text of a process or a thread.
pub(super) fn stat(raw: &[u8], place: &Place<'_>, whole: bool) -> Result<Vec<u8>, ViewError> {
    let text = render::stat::stat(raw, place).ok_or(ViewError::Malformed(place.node))?;
    Ok(if whole { text } else { mask::hide(&text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;

    #[test]
    fn comm_is_what_stat_has() {
        let numbers = &Numbers::default();
        let node = NodeId::new(1).unwrap();
        let place = Place { node, cpu_base: 0, start_shift_ticks: 0, numbers };
        for (stat, comm) in
            [(&b"7 (sleep) S 1"[..], &b"sleep\n"[..]), (b"7 (a\n) b\\n) S 1", b"a\n) b\\n\n")]
        {
            let mut process = Process::default();
            process.texts[0] = stat.into();
            assert_eq!(held(&process, PidFile::Comm, &place), Some(Ok(comm.to_vec())));
        }
    }
}
