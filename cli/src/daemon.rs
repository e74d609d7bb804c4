//! Questions to the daemon of this machine.

use anyhow::{Result, anyhow};
use krg_rpc::local;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{MountProcRequest, StatusReply, StatusRequest};
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::{Response, Status};
use krg_types::limits::PROTOCOL_VERSION;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// krgd answers its own machine at once, or is stuck.
const STATUS_MAX: Duration = Duration::from_secs(2);
/// A mount may take a moment.
const MOUNT_MAX: Duration = Duration::from_secs(15);

/// Where krgd listens: a daemon with another `run_dir` is reached through `KRG_SOCKET`.
fn socket() -> PathBuf {
    std::env::var_os("KRG_SOCKET").unwrap_or_else(|| local::SOCKET.into()).into()
}

fn ask<T, F>(limit: Duration, question: impl FnOnce(ControlClient<Channel>) -> F) -> Result<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = async {
            let channel = local::connect(&socket()).await?;
            let reply = question(ControlClient::new(channel)).await;
            reply.map(Response::into_inner).map_err(|s| anyhow!("{}", s.message()))
        };
        let answer = tokio::time::timeout(limit, asked).await;
        answer.map_err(|_| anyhow!("krgd does not answer (is it stopped? see its log)"))?
    })
}

/// Who is there, and what is mounted.
pub fn status() -> Result<StatusReply> {
    let question = StatusRequest { version: PROTOCOL_VERSION };
    ask(STATUS_MAX, |mut krgd| async move { krgd.status(question).await })
}

/// Has the cluster's /proc mounted on `path`.
pub fn mount_proc(path: String) -> Result<u32> {
    let question = MountProcRequest { version: PROTOCOL_VERSION, path };
    let reply = ask(MOUNT_MAX, |mut krgd| async move { krgd.mount_proc(question).await })?;
    Ok(reply.pid)
}
