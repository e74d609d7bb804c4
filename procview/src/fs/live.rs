//! Files that memory does not hold: asked of the owner as the caller, with a short memory so that
//! a tool which lists a directory and then looks at each entry asks once.

use super::Fs;
use crate::error::ViewError;
use krg_rpc::proto::proc as wire;
use krg_sys::caller::Asker;
use krg_sys::cred::Caller;
use krg_types::{GlobalPid, PidFile};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a directory's entries are remembered.
const REMEMBER: Duration = Duration::from_millis(300);
/// How many directories are.
const REMEMBERED_MAX: usize = 64;

/// One question: which directory, for whom.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    pid: GlobalPid,
    start_ticks: u64,
    file: PidFile,
    caller: Caller,
}

type Remembered = HashMap<Question, (Instant, Arc<Vec<wire::Entry>>)>;

/// Directories read a moment ago.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Remembered>);

impl Recent {
    fn get(&self, question: &Question) -> Option<Arc<Vec<wire::Entry>>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, entries) = table.get(question)?;
        (at.elapsed() < REMEMBER).then(|| entries.clone())
    }

    fn put(&self, question: Question, entries: Arc<Vec<wire::Entry>>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= REMEMBERED_MAX {
            table.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        }
        // The oldest gives way: who goes through all processes has done with it.
        let oldest =
            || table.iter().min_by_key(|(_, (at, _))| *at).map(|(asked, _)| asked.clone());
        if table.len() >= REMEMBERED_MAX
            && let Some(oldest) = oldest()
        {
            table.remove(&oldest);
        }
        table.insert(question, (Instant::now(), entries));
    }
}

impl Fs {
    /// The entries of fd/, fdinfo/, ns/ or task/, at most `REMEMBER` old.
    pub(super) async fn entries(
        &self,
        pid: GlobalPid,
        start_ticks: u64,
        file: PidFile,
        asker: &Asker,
    ) -> Result<Arc<Vec<wire::Entry>>, ViewError> {
        let caller = asker.caller(&self.procfs);
        let question = Question { pid, start_ticks, file, caller };
        if let Some(entries) = self.recent.get(&question) {
            return Ok(entries);
        }
        let ask = request(&question, 0, "");
        let entries = Arc::new(self.gather.live(pid.node(), ask).await?.entries);
        self.recent.put(question, entries.clone());
        Ok(entries)
    }

    /// The text of a file, or what a link says, read now; `start_ticks` 0 takes whoever has the
    /// pid, `tid` 0 the process itself.
    pub(super) async fn live_text(
        &self,
        pid: GlobalPid,
        start_ticks: u64,
        tid: u32,
        (file, entry): (PidFile, &str),
        asker: &Asker,
    ) -> Result<Vec<u8>, ViewError> {
        let caller = asker.caller(&self.procfs);
        let question = Question { pid, start_ticks, file, caller };
        let reply = self.gather.live(pid.node(), request(&question, tid, entry)).await?;
        match reply.entries.into_iter().next() {
            Some(entry) => Ok(entry.link),
            None => Ok(reply.text),
        }
    }
}

fn request(question: &Question, tid: u32, entry: &str) -> wire::LiveRequest {
    wire::LiveRequest {
        pid: question.pid.local(),
        start_ticks: question.start_ticks,
        tid,
        file: question.file.id(),
        entry: entry.to_owned(),
        uid: question.caller.uid,
        gid: question.caller.gid,
        groups: question.caller.groups.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;

    fn question(pid: u32) -> Question {
        let pid = GlobalPid::new(NodeId::new(1).unwrap(), pid).unwrap();
        let caller = Caller { uid: 0, gid: 0, groups: Vec::new() };
        Question { pid, start_ticks: 0, file: PidFile::Ns, caller }
    }

    #[test]
    fn who_goes_through_many_is_remembered_by_the_last() {
        let recent = Recent::default();
        for pid in 1..=3 * REMEMBERED_MAX as u32 {
            recent.put(question(pid), Arc::default());
            assert!(recent.get(&question(pid)).is_some(), "{pid}");
        }
        assert_eq!(recent.0.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(recent.get(&question(1)).is_none());
    }
}
