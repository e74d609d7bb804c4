//! The door of the view for the commands of this machine: a unix socket beside krgd's, served by
//! the process that serves the usual view. Anybody may ask; what he is told depends on who he is.

use crate::config::Config;
use crate::local_caller::caller;
use anyhow::{Context, Result};
use krg_procview::fs::{Fs, Snapshot};
use krg_rpc::pool;
use krg_rpc::proto::view::view_server::{View, ViewServer};
use krg_rpc::proto::view::{SnapshotPart, SnapshotRequest};
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_sys::caller::Asker;
use krg_types::limits::{PROTOCOL_VERSION, VIEW_SNAPSHOTS_MAX};
use krg_types::version::understood;
use krg_types::view;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};

/// Parts made ahead of a command that reads slowly.
const PARTS_WAITING_MAX: usize = 2;
/// A command that takes no part for so long is given up.
const TAKES_MAX: Duration = Duration::from_secs(5);
/// Who comes while too many are being answered waits so long.
const WAITS_MAX: Duration = Duration::from_secs(2);

/// Serves it.
struct Door {
    fs: Arc<Fs>,
    free: Arc<Semaphore>,
}

/// The socket, taken away when this is dropped.
pub struct Open {
    path: PathBuf,
    inode: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        // The next view's process may have put its own there meanwhile.
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> std::io::Result<u64> {
    std::fs::symlink_metadata(path).map(|about| about.ino())
}

/// Opens the door of the view that is mounted on `at`, if that is the one which has one.
///
/// # Errors
/// When nothing can listen there.
pub fn open(config: &Config, at: &Path, fs: &Arc<Fs>, runtime: &Handle) -> Result<Option<Open>> {
    if at != config.view.mount {
        return Ok(None);
    }
    open_at(config.run_dir.join(view::DOOR), fs, runtime).map(Some)
}

/// Opens it there.
///
/// # Errors
/// When nothing can listen there.
pub fn open_at(path: PathBuf, fs: &Arc<Fs>, runtime: &Handle) -> Result<Open> {
    let cannot = || format!("cannot listen on {}", path.display());
    // Under another name first: whoever connects finds the old door or the new one.
    let made = path.with_extension("new");
    let _ = std::fs::remove_file(&made);
    let _runtime = runtime.enter();
    let listener = UnixListener::bind(&made).with_context(cannot)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o666))?;
    let inode = inode(&made)?;
    std::fs::rename(&made, &path).with_context(cannot)?;
    let free = Arc::new(Semaphore::new(VIEW_SNAPSHOTS_MAX));
    let server = pool::server()
        .add_service(ViewServer::new(Door { fs: fs.clone(), free }))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(server);
    Ok(Open { path, inode })
}

#[tonic::async_trait]
impl View for Door {
    type SnapshotStream = ReceiverStream<Result<SnapshotPart, Status>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let peer = caller(&request)?;
        let tid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let asker = Asker { uid: peer.uid(), gid: peer.gid(), tid };
        let asked = request.into_inner();
        if !understood(asked.version) {
            return Err(Status::failed_precondition(format!(
                "protocol version {}, this view speaks {PROTOCOL_VERSION}",
                asked.version
            )));
        }
        let permit = tokio::time::timeout(WAITS_MAX, self.free.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Status::resource_exhausted("too many commands look at once"));
        };
        let snapshot = self.fs.clone().snapshot(asked, asker).await;
        let (parts, taken) = mpsc::channel(PARTS_WAITING_MAX);
        tokio::spawn(tell(snapshot, parts, permit));
        Ok(Response::new(ReceiverStream::new(taken)))
    }
}

async fn tell(
    mut snapshot: Snapshot,
    parts: mpsc::Sender<Result<SnapshotPart, Status>>,
    _permit: OwnedSemaphorePermit,
) {
    while let Some(part) = snapshot.part().await {
        if parts.send_timeout(Ok(part), TAKES_MAX).await.is_err() {
            return;
        }
    }
}
