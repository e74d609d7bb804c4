//! What commands of this machine, and other nodes, ask of capabilities.

use super::{change, follow, wire as words};
use crate::jobs::{self, find::Found};
use crate::life::Station;
use crate::local_caller::{caller, root_only, same_version};
use krg_rpc::peers::Peers;
use krg_rpc::proto::capability as wire;
use krg_rpc::proto::capability::capabilities_client::CapabilitiesClient;
use krg_rpc::proto::capability::capabilities_server::{Capabilities, CapabilitiesServer};
use krg_rpc::proto::capability::capability_commands_server::{
    CapabilityCommands, CapabilityCommandsServer,
};
use krg_rpc::status::{check_caller, why};
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_sys::process;
use krg_types::NodeId;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Another node answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// It.
#[derive(Clone)]
pub struct Service(Arc<Station>);

/// For other nodes.
pub fn nodes(station: &Arc<Station>) -> CapabilitiesServer<Service> {
    CapabilitiesServer::new(Service(station.clone()))
}

/// For this machine.
pub fn commands(station: &Arc<Station>) -> CapabilityCommandsServer<Service> {
    let server = CapabilityCommandsServer::new(Service(station.clone()));
    server.max_encoding_message_size(MESSAGE_BYTES_MAX)
}

impl Service {
    fn own(&self) -> NodeId {
        self.0.members.own()
    }

    /// By the node where the process is.
    async fn give(&self, node: NodeId, order: wire::Order) -> wire::Reply {
        if node == self.own() {
            return self.obey(order).await;
        }
        let Some(peer) = self.0.members.get(node) else {
            return words::refused(libc::ESRCH, format!("there is no node {node}"));
        };
        let silent = |why: &str| words::refused(libc::EHOSTDOWN, format!("node {node}: {why}"));
        if !peer.up {
            return silent("it does not answer");
        }
        let mut client = CapabilitiesClient::new(peer.channel);
        let order = wire::Order { caller: 0, ..order };
        match timeout(ANSWER_MAX, client.change(order)).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => silent(&why(&status)),
            Err(_) => silent("it does not answer in time"),
        }
    }

    async fn obey(&self, order: wire::Order) -> wire::Reply {
        let edits = match order.edits.as_ref().map(words::heard) {
            None => None,
            Some(Some(edits)) => Some(edits),
            Some(None) => return words::refused(libc::EINVAL, "what is asked makes no sense"),
        };
        change::change(&self.0, order.pid, &order, edits).await
    }
}

#[tonic::async_trait]
impl Capabilities for Service {
    async fn change(&self, ask: Request<wire::Order>) -> Result<Response<wire::Reply>, Status> {
        let order = ask.into_inner();
        check_caller(&self.0.members.cluster(), order.version, &order.cluster)?;
        Ok(Response::new(self.obey(order).await))
    }
}

#[tonic::async_trait]
impl CapabilityCommands for Service {
    type FollowStream = ReceiverStream<Result<wire::Kept, Status>>;

    async fn capset(
        &self,
        ask: Request<wire::CapsetRequest>,
    ) -> Result<Response<wire::Reply>, Status> {
        let peer = caller(&ask)?;
        let ask = ask.into_inner();
        same_version(ask.version)?;
        let order = wire::Order {
            version: PROTOCOL_VERSION,
            cluster: self.0.members.cluster().to_string(),
            pid: 0,
            uid: peer.uid(),
            edits: ask.edits,
            caller: peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        };
        if ask.pid == 0 {
            let parent = process::stat(order.caller).ok().flatten().map(|stat| stat.parent);
            let pid = parent.filter(|pid| *pid > 0);
            let pid = pid.ok_or_else(|| Status::not_found("the caller's parent is not here"))?;
            return Ok(Response::new(self.give(self.own(), wire::Order { pid, ..order }).await));
        }
        let reply = match jobs::service::locate(&self.0, ask.pid).await {
            Ok(Found { pid: 0, .. }) => {
                words::refused(libc::ESRCH, format!("there is no process {}", ask.pid))
            }
            Ok(Found { node, pid, .. }) => self.give(node, wire::Order { pid, ..order }).await,
            Err(status) => words::refused(libc::EHOSTDOWN, why(&status)),
        };
        Ok(Response::new(reply))
    }

    async fn follow(
        &self,
        ask: Request<Streaming<wire::Known>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        root_only(&ask)?;
        let said = follow::follow(self.0.clone(), ask.into_inner());
        Ok(Response::new(ReceiverStream::new(said)))
    }
}
