//! Answers what members ask about membership: are you there, sign this, it is over.

use crate::Members;
use crate::admit::Admission;
use krg_rpc::proto::member::member_server::Member;
use krg_rpc::proto::member::{
    GoodbyeReply, GoodbyeRequest, PowerOffReply, PowerOffRequest, ProbeReply, ProbeRequest,
    RenewReply, RenewRequest,
};
use krg_rpc::status::check_caller;
use krg_rpc::tls::Caller;
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_types::limits::{CERTIFICATE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::{MemberId, NodeId};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What another member has this daemon do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// This node is a member no more.
    Goodbye,
    /// The daemon ends; or ends and is started again.
    PowerOff {
        /// It is started again.
        reboot: bool,
    },
}

/// What a full member does besides answering probes.
#[derive(Clone)]
pub struct Duties {
    /// This node's membership.
    pub own: MemberId,
    /// Signs and admits.
    pub admission: Admission,
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
}

/// What this node says of itself.
#[derive(Clone)]
pub struct Service {
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
    /// Its wall clock, only to be compared with others'.
    pub wall_ns: fn() -> u64,
    /// Its program's version.
    pub release: String,
    /// The member list, to be told who asks.
    pub members: Option<Arc<Members>>,
    /// Absent on a simulated node.
    pub duties: Option<Duties>,
}

impl Service {
    /// The duties of a member, for a caller who is one: who it is.
    fn on_duty<T>(
        &self,
        request: &Request<T>,
        version: u32,
        cluster: &str,
    ) -> Result<(&Duties, MemberId), Status> {
        check_caller(&self.cluster, version, cluster)?;
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.member);
        let who =
            caller.ok_or_else(|| Status::permission_denied("only a member may ask this"))?;
        let none = || Status::unimplemented("this is a simulated node");
        Ok((self.duties.as_ref().ok_or_else(none)?, who))
    }
}

#[tonic::async_trait]
impl Member for Service {
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
            wall_ms: (self.wall_ns)() / 1_000_000,
            release: self.release.clone(),
        }))
    }

    async fn renew(&self, ask: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let (version, cluster) = (ask.get_ref().version, ask.get_ref().cluster.clone());
        let (duties, who) = self.on_duty(&ask, version, &cluster)?;
        let csr = ask.get_ref().csr.clone();
        if csr.len() > CERTIFICATE_BYTES_MAX {
            return Err(Status::invalid_argument("the request is too long"));
        }
        // A member keeps its key: who asks with another one is not who it says.
        let public_key = crate::ca::public_key_of(&csr)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let view = duties.admission.meta.view();
        let known = view.state.member(who).map(|node| node.public_key.clone());
        if known != Some(crate::fingerprint::to_hex(&public_key)) {
            return Err(Status::permission_denied("this is not the member's key"));
        }
        let signed = duties.admission.sign(who, &csr).await?;
        Ok(Response::new(RenewReply { certificate: signed.certificate_der }))
    }

    async fn goodbye(
        &self,
        ask: Request<GoodbyeRequest>,
    ) -> Result<Response<GoodbyeReply>, Status> {
        let (version, cluster) = (ask.get_ref().version, ask.get_ref().cluster.clone());
        let (duties, who) = self.on_duty(&ask, version, &cluster)?;
        if ask.get_ref().member != duties.own.get() {
            return Err(Status::failed_precondition("this is another membership"));
        }
        tracing::warn!(by = %who, "this node has been taken out of the cluster");
        let _ = duties.orders.send(Order::Goodbye).await;
        Ok(Response::new(GoodbyeReply {}))
    }

    async fn power_off(
        &self,
        ask: Request<PowerOffRequest>,
    ) -> Result<Response<PowerOffReply>, Status> {
        let (version, cluster) = (ask.get_ref().version, ask.get_ref().cluster.clone());
        let (duties, who) = self.on_duty(&ask, version, &cluster)?;
        let reboot = ask.get_ref().reboot;
        tracing::warn!(by = %who, reboot, "this daemon has been told to end");
        let _ = duties.orders.send(Order::PowerOff { reboot }).await;
        Ok(Response::new(PowerOffReply {}))
    }
}
