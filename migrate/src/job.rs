//! What a job is, wherever it is.

use krg_rpc::proto::job::Begin;
use krg_types::limits::{JOB_NAME_BYTES_MAX, JOB_PATHS_MAX, PROTOCOL_VERSION};
use krg_types::version::understood;

/// Longest command that is shown, bytes.
pub const COMMAND_BYTES_MAX: usize = 256;

/// What is told of a machine is no longer, bytes.
const HOST_BYTES_MAX: usize = 64 << 10;

/// It.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The number of its program's process in the cluster when it began.
    pub id: u32,
    /// Where it was started.
    pub home: u32,
    /// Whose it is.
    pub uid: u32,
    /// What it is called.
    pub name: String,
    /// The command, cut.
    pub command: String,
    /// The program's process, in the job's own numbers.
    pub program: u32,
    /// First and last of its numbers, if they are nobody else's.
    pub pids: Option<(u32, u32)>,
    /// How often it has moved.
    pub moves: u32,
}

impl Job {
    /// For the node where it goes: all but its ends.
    pub fn told(&self, cluster: String, from: u32, trace: &str) -> Begin {
        let (first_pid, last_pid) = self.pids.unwrap_or_default();
        Begin {
            version: PROTOCOL_VERSION,
            cluster,
            job: self.id,
            home: self.home,
            from,
            uid: self.uid,
            trace: trace.to_owned(),
            moves: self.moves,
            ends: Vec::new(),
            report: String::new(),
            name: self.name.clone(),
            command: self.command.clone(),
            program: self.program,
            first_pid,
            last_pid,
            revision: 0,
            stopped: Vec::new(),
            host: String::new(),
            paths: Vec::new(),
        }
    }

    /// As it was told.
    ///
    /// # Errors
    /// Why it cannot come.
    pub fn hear(begin: &Begin) -> Result<Job, String> {
        if !understood(begin.version) {
            return Err(format!("version {} is not understood here", begin.version));
        }
        let bounded = begin.name.len() <= JOB_NAME_BYTES_MAX
            && begin.command.len() <= 4 * COMMAND_BYTES_MAX
            && begin.trace.len() <= JOB_NAME_BYTES_MAX
            && begin.trace.bytes().all(|b| b.is_ascii_alphanumeric())
            && begin.ends.len() <= 4
            && begin.host.len() <= HOST_BYTES_MAX
            && begin.paths.len() <= JOB_PATHS_MAX;
        let numbered = begin.first_pid <= begin.last_pid && begin.last_pid < 1 << 22;
        if !bounded || !numbered || begin.job == 0 || begin.home == 0 {
            return Err("what was told of it makes no sense".into());
        }
        Ok(Job {
            id: begin.job,
            home: begin.home,
            uid: begin.uid,
            name: begin.name.clone(),
            command: begin.command.clone(),
            program: begin.program,
            pids: (begin.first_pid > 1).then_some((begin.first_pid, begin.last_pid)),
            moves: begin.moves,
        })
    }
}
