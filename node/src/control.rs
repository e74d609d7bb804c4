//! What the commands of this machine ask: who is here, mount this.

use crate::config::Config;
use crate::mounts::Mounts;
use krg_cluster::{Member, Members};
use krg_rpc::peers::Peers;
use krg_rpc::proto::control::control_server::Control;
use krg_rpc::proto::control::{
    MountProcReply, MountProcRequest, Node, StatusReply, StatusRequest, WaitOnlineRequest,
};
use krg_rpc::tonic::transport::server::UdsConnectInfo;
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Nobody waits longer for nodes, ms.
const WAIT_MAX_MS: u32 = 600_000;

/// The service on the unix socket.
pub struct Service {
    /// What this node was started with.
    pub config: Config,
    /// The nodes.
    pub members: Arc<Members>,
    /// The mounts.
    pub mounts: Arc<Mounts>,
}

fn node(m: &Member) -> Node {
    Node {
        id: m.id.get(),
        address: m.address.to_string(),
        hostname: m.hostname.clone(),
        state: m.state().to_string(),
        seen_ms: m.answered.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
        rtt_us: u32::try_from(m.rtt.as_micros()).unwrap_or(u32::MAX),
        why: m.why.clone(),
    }
}

impl Service {
    fn reply(&self) -> StatusReply {
        StatusReply {
            version: PROTOCOL_VERSION,
            node: self.config.node_id.get(),
            cluster: self.config.cluster.clone(),
            session: self.config.session,
            nodes: self.members.list().iter().map(node).collect(),
            mounts: self.mounts.status(),
            release: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
        }
    }
}

fn check_version(version: u32) -> Result<(), Status> {
    match version {
        PROTOCOL_VERSION => Ok(()),
        _ => Err(Status::failed_precondition(format!(
            "krg of another version: it speaks {version}, krgd {PROTOCOL_VERSION}"
        ))),
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn status(&self, ask: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        check_version(ask.get_ref().version)?;
        Ok(Response::new(self.reply()))
    }

    async fn wait_online(
        &self,
        ask: Request<WaitOnlineRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        let ask = ask.into_inner();
        check_version(ask.version)?;
        let mut changes = self.members.changes();
        let enough = async {
            while (self.members.online() as u64) < u64::from(ask.online) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let patience = Duration::from_millis(ask.timeout_ms.min(WAIT_MAX_MS).into());
        let _ = timeout(patience, enough).await;
        Ok(Response::new(self.reply()))
    }

    async fn mount_proc(
        &self,
        ask: Request<MountProcRequest>,
    ) -> Result<Response<MountProcReply>, Status> {
        let peer = ask.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        if peer.map(|cred| cred.uid()) != Some(0) {
            return Err(Status::permission_denied("only root may mount"));
        }
        let ask = ask.into_inner();
        check_version(ask.version)?;
        let mounted = self.mounts.mount_now(ask.path.into()).await;
        let pid = mounted.map_err(|e| Status::failed_precondition(format!("{e:#}")))?;
        Ok(Response::new(MountProcReply { pid }))
    }
}
