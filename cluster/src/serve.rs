//! Answers probes.

use crate::Members;
use krg_rpc::proto::member::member_server::Member;
use krg_rpc::proto::member::{ProbeReply, ProbeRequest};
use krg_rpc::status::check_caller;
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_types::NodeId;
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;

/// What this node says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number.
    pub node: NodeId,
    /// Its cluster's name.
    pub cluster: Arc<str>,
    /// Its hostname.
    pub hostname: String,
    /// Changes each time the daemon starts.
    pub incarnation: u64,
    /// Its boot clock.
    pub boot_ns: fn() -> u64,
    /// The member list, to be told who asks.
    pub members: Option<Arc<Members>>,
}

#[tonic::async_trait]
impl Member for Identity {
    async fn probe(&self, ask: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let ask = ask.into_inner();
        check_caller(&self.cluster, ask.version, &ask.cluster)?;
        if let (Some(members), Some(from)) = (&self.members, NodeId::new(ask.from)) {
            members.heard_of(from);
        }
        Ok(Response::new(ProbeReply {
            version: PROTOCOL_VERSION,
            node: self.node.get(),
            hostname: self.hostname.clone(),
            incarnation: self.incarnation,
            boot_ns: (self.boot_ns)(),
        }))
    }
}
