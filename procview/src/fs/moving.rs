//! The files of a process that say where it is and may be, and the one that sends it elsewhere, as
//! MOSIX had them: `where`, `nmigs`, `cantmove`, `goto`. This node's daemon knows, and does it.

use super::{Fs, process};
use crate::error::ViewError;
use crate::inode::{Item, Who};
use krg_rpc::local;
use krg_rpc::proto::job::jobs_client::JobsClient;
use krg_rpc::proto::job::{FromJob, MigrateRequest, Moved, Refused, from_job};
use krg_rpc::status::why;
use krg_rpc::tonic::{Code, Status, Streaming};
use krg_sys::caller::Asker;
use krg_sys::procfs::DirAt;
use krg_types::limits::{NODE_ID_MAX, PROTOCOL_VERSION};
use krg_types::{GlobalPid, PidFile};
use std::os::fd::AsFd;

/// Longest number of a node with blanks around it, bytes.
const WRITTEN_BYTES_MAX: usize = 16;

impl Fs {
    /// What `where`, `nmigs` and `cantmove` say.
    pub(super) async fn move_text(
        &self,
        pid: GlobalPid,
        who: Who,
        file: PidFile,
        asker: &Asker,
    ) -> Result<Vec<u8>, ViewError> {
        let number = self.number_of(pid, who)?;
        let all = file == PidFile::Cantmove;
        let ask = MigrateRequest {
            version: PROTOCOL_VERSION,
            pid: number,
            dry_run: true,
            anywhere: true,
            only_where: !all,
            // Where it is everybody may know; what it has open only who may look at it.
            uid: all.then_some(asker.uid),
            ..MigrateRequest::default()
        };
        let told = match self.ask(ask).await {
            Ok(told) => told,
            // It is of no job, and so at home for good.
            Err(status) if status.code() == Code::FailedPrecondition => {
                let never = format!("{}\n", why(&status)).into_bytes();
                return Ok(if all { never } else { b"0\n".to_vec() });
            }
            Err(status) => return Err(error(&status)),
        };
        Ok(match file {
            PidFile::Where if told.node == told.home => b"0\n".to_vec(),
            PidFile::Where => format!("{}\n", told.node).into_bytes(),
            PidFile::Nmigs => format!("{}\n", told.moves).into_bytes(),
            PidFile::Cantmove => {
                told.obstacles.iter().flat_map(|o| [o.as_bytes(), b"\n"].concat()).collect()
            }
            // A file to write to.
            _ => Vec::new(),
        })
    }

    /// Something is written to a file of this tree: only to `goto`, a node's number, 0 for home.
    ///
    /// # Errors
    /// EINVAL for what is no number, EPERM, ESRCH, EHOSTDOWN, or EAGAIN when it cannot move: then
    /// `cantmove` says why.
    pub async fn write(&self, item: Item, data: &[u8], asker: &Asker) -> Result<(), ViewError> {
        let Item::PidFile(who @ Who::Process(pid, _), PidFile::Goto) = item else {
            return Err(ViewError::ReadOnly);
        };
        let node = number(data).ok_or(ViewError::Kernel(libc::EINVAL))?;
        let ask = MigrateRequest {
            version: PROTOCOL_VERSION,
            pid: self.number_of(pid, who)?,
            node,
            uid: Some(asker.uid),
            ..MigrateRequest::default()
        };
        if self.is_of_the_same_job(pid, asker) {
            // It cannot stand still while it waits here.
            let begun = self.begin(ask).await.map_err(|status| error(&status))?;
            tokio::spawn(async move {
                if let Err(e) = last(begun).await {
                    tracing::warn!(pid = pid.raw(), node, error = %why(&e), "it has not moved");
                }
            });
            return Ok(());
        }
        self.ask(ask).await.map(|_| ()).map_err(|status| error(&status))
    }

    /// What it is called: the number that it has for life, if it has one.
    fn number_of(&self, pid: GlobalPid, who: Who) -> Result<u32, ViewError> {
        let view = self.gather.view(pid.node()).ok_or(ViewError::NoEntry)?;
        let number = process::find(&view, who)?.number;
        Ok(if number > 0 { number } else { pid.raw() })
    }

    fn is_of_the_same_job(&self, pid: GlobalPid, asker: &Asker) -> bool {
        let namespace = |pid: u32| {
            let dir = self.procfs.dir(&pid.to_string()).ok()?;
            DirAt(dir.as_fd()).link("ns/pid").ok()
        };
        pid.node() == self.gather.own()
            && namespace(asker.tid).is_some_and(|own| namespace(pid.local()) == Some(own))
    }

    async fn begin(&self, ask: MigrateRequest) -> Result<Streaming<FromJob>, Status> {
        let none = || Status::unavailable("there is no daemon behind this view");
        let socket = self.daemon.as_ref().ok_or_else(none)?;
        let channel = local::connect(socket).await;
        let channel = channel.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(JobsClient::new(channel).migrate(ask).await?.into_inner())
    }

    async fn ask(&self, ask: MigrateRequest) -> Result<Moved, Status> {
        last(self.begin(ask).await?).await
    }
}

/// How it has ended.
async fn last(mut told: Streaming<FromJob>) -> Result<Moved, Status> {
    while let Some(message) = told.message().await? {
        match message.what {
            Some(from_job::What::Moved(moved)) => return Ok(moved),
            Some(from_job::What::Refused(Refused { why, .. })) => {
                return Err(Status::aborted(why));
            }
            _ => {}
        }
    }
    Err(Status::unavailable("krgd has broken it off"))
}

fn error(status: &Status) -> ViewError {
    match status.code() {
        Code::PermissionDenied => ViewError::Kernel(libc::EPERM),
        Code::NotFound => ViewError::NoProcess,
        Code::Aborted | Code::FailedPrecondition => ViewError::Kernel(libc::EAGAIN),
        _ => ViewError::Kernel(libc::EHOSTDOWN),
    }
}

fn number(data: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(data.get(..WRITTEN_BYTES_MAX).unwrap_or(data)).ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| *n <= NODE_ID_MAX);
    number.filter(|_| digits && data.len() <= WRITTEN_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_a_nodes_number_is_taken() {
        assert_eq!([&b"3\n"[..], b"0", b" 12 \n"].map(number), [Some(3), Some(0), Some(12)]);
        for bad in [&b""[..], b"\n", b"x", b"-1", b"+1", b"1 2", b"999", b"3\0", &[b' '; 17]] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
