//! Lets machines join: checks their token, gives them a number and a certificate.

use crate::home::{Home, Signed};
use crate::{fingerprint, roster};
use krg_meta::command::{Command, Reply};
use krg_meta::table::admission::{self, Applicant};
use krg_meta::table::trust;
use krg_meta::{Meta, MetaError};
use krg_rpc::dial::Dial;
use krg_rpc::proto::join::join_client::JoinClient;
use krg_rpc::proto::join::join_server::Join;
use krg_rpc::proto::join::{Founder, JoinReply, JoinRequest};
use krg_rpc::tls::Caller;
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_types::limits::{
    ADDRESS_BYTES_MAX, CERTIFICATE_BYTES_MAX, NAME_BYTES_MAX, PROTOCOL_VERSION,
};
use krg_types::version::understood;
use krg_types::{MemberId, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything about one join may take so long.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// The service that admits.
#[derive(Clone)]
pub struct Admission {
    /// What is agreed.
    pub meta: Meta,
    /// This node's papers.
    pub home: Arc<Home>,
    /// Makes channels to members.
    pub dial: Arc<dyn Dial>,
}

#[tonic::async_trait]
impl Join for Admission {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let mut ask = request.into_inner();
        check(&ask)?;
        let from = caller.map(|caller| caller.remote);
        ask.address = reachable(&ask.address, from)?;
        self.check_token(&ask).await.inspect_err(|status| {
            // Who knocks with a bad token is worth knowing.
            let (hostname, why) = (&ask.hostname, status.message());
            tracing::warn!(?from, ?hostname, why, "a join was refused");
        })?;
        let passed_on = caller.is_some_and(|caller| caller.member.is_some());
        if self.home.can_sign_for().is_empty() && !passed_on {
            return self.pass_on(ask).await;
        }
        let reply = self.admit(ask).await?;
        tracing::info!(node = reply.node, member = reply.member, "a node has joined");
        Ok(Response::new(reply))
    }

    async fn readmit(
        &self,
        request: Request<JoinRequest>,
    ) -> Result<Response<JoinReply>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let Some(member) = caller.and_then(|caller| caller.member) else {
            return Err(Status::permission_denied("only a member can be readmitted"));
        };
        let mut ask = request.into_inner();
        check(&ask)?;
        ask.address = reachable(&ask.address, caller.map(|caller| caller.remote))?;
        if self.home.can_sign_for().is_empty() {
            // It asks the next of those it knows.
            return Err(Status::unavailable("this node cannot sign: ask another"));
        }
        let applicant = Box::new(applicant(&ask)?);
        let command = admission::Command::Readmit { member, applicant };
        let reply = self.meta.propose(Command::Admission(command), JOIN_MAX).await;
        let Reply::Admitted(now) = reply.map_err(failed)? else {
            return Err(Status::internal("this is no admission"));
        };
        tracing::warn!(%member, %now, "a member that lost its store comes back as another");
        Ok(Response::new(self.certify(now, &ask.csr).await?))
    }
}

fn applicant(ask: &JoinRequest) -> Result<Applicant, Status> {
    let public_key = crate::ca::public_key_of(&ask.csr)
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    Ok(Applicant {
        hostname: ask.hostname.clone(),
        address: ask.address.clone(),
        public_key: fingerprint::to_hex(&public_key),
        fingerprint: String::new(),
        release: ask.release.clone(),
        state_version: ask.state_version,
    })
}

fn check(ask: &JoinRequest) -> Result<(), Status> {
    if !understood(ask.version) {
        return Err(Status::failed_precondition(format!(
            "protocol version {}, this cluster speaks {PROTOCOL_VERSION}: install the same krg",
            ask.version
        )));
    }
    let too_long = ask.hostname.len() > NAME_BYTES_MAX
        || ask.release.len() > NAME_BYTES_MAX
        || ask.token_id.len() > NAME_BYTES_MAX
        || ask.token_secret.len() > NAME_BYTES_MAX
        || ask.address.len() > ADDRESS_BYTES_MAX
        || ask.csr.len() > CERTIFICATE_BYTES_MAX;
    if too_long || ask.csr.is_empty() {
        return Err(Status::invalid_argument("a part of the request is missing or too long"));
    }
    Ok(())
}

/// The joiner's address as others reach it: what it says, or where the question came from.
fn reachable(said: &str, from: Option<SocketAddr>) -> Result<String, Status> {
    let bad = || Status::invalid_argument(format!("{said:?} is no address and port"));
    let address: SocketAddr = said.parse().map_err(|_| bad())?;
    if address.port() == 0 {
        return Err(bad());
    }
    match from {
        Some(from) if address.ip().is_unspecified() => {
            Ok(SocketAddr::new(from.ip().to_canonical(), address.port()).to_string())
        }
        _ => Ok(address.to_string()),
    }
}

fn failed(error: MetaError) -> Status {
    match error {
        MetaError::Refused(words) => Status::permission_denied(words),
        other => Status::unavailable(other.to_string()),
    }
}

impl Admission {
    /// A bad token costs the cluster no agreement: it is refused by what this node knows.
    async fn check_token(&self, ask: &JoinRequest) -> Result<(), Status> {
        let hash = fingerprint::to_hex(&crate::token::hash_of(&ask.token_secret));
        let good = |view: &krg_meta::published::View| {
            let token = view.state.tokens.get(&ask.token_id).filter(|t| t.hash == hash);
            match token.map(|t| t.word(view.state.now_ms)) {
                None => Err("the token is not one of this cluster's".to_owned()),
                Some("open" | "used") => Ok(()),
                Some(word) => Err(format!("the token is {word}: ask for a new one")),
            }
        };
        if good(&self.meta.view()).is_ok() {
            return Ok(());
        }
        // It may have been made a moment ago, on another node.
        let view = self.meta.view_linearizable().await.map_err(failed)?;
        good(&view).map_err(Status::permission_denied)
    }

    /// Has a voter do it: the authority's key is there.
    async fn pass_on(&self, ask: JoinRequest) -> Result<Response<JoinReply>, Status> {
        let metrics = self.meta.metrics().borrow().clone();
        let mut voters: Vec<MemberId> =
            metrics.membership_config.membership().voter_ids().collect();
        voters.sort_by_key(|voter| Some(*voter) != metrics.current_leader);
        let mut last = Status::unavailable("no voter is known here");
        for voter in voters.into_iter().filter(|voter| *voter != self.meta.own()) {
            let view = self.meta.view();
            let Some(node) = view.state.member(voter) else { continue };
            let mut client = JoinClient::new(self.dial.channel(voter, &node.address));
            match tokio::time::timeout(JOIN_MAX, client.join(ask.clone())).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status)) if status.code() == tonic::Code::PermissionDenied => {
                    return Err(status);
                }
                Ok(Err(status)) => last = status,
                Err(_) => last = Status::deadline_exceeded("a voter does not answer"),
            }
        }
        Err(last)
    }

    async fn admit(&self, ask: JoinRequest) -> Result<JoinReply, Status> {
        let node =
            match ask.node {
                0 => None,
                n => Some(NodeId::new(n).ok_or_else(|| {
                    Status::invalid_argument(format!("{n} is not a node number"))
                })?),
            };
        let applicant = applicant(&ask)?;
        let command = admission::Command::Admit {
            token: ask.token_id,
            hash: fingerprint::to_hex(&crate::token::hash_of(&ask.token_secret)),
            node,
            applicant: Box::new(applicant),
        };
        match self.meta.propose(Command::Admission(command), JOIN_MAX).await.map_err(failed)? {
            Reply::Admitted(member) => self.certify(member, &ask.csr).await,
            other => Err(Status::internal(format!("{other:?} is no admission"))),
        }
    }

    /// Signs an admitted member's certificate and tells it what it needs to begin.
    ///
    /// # Errors
    /// When it cannot be signed or agreed on.
    pub async fn certify(&self, member: MemberId, csr: &[u8]) -> Result<JoinReply, Status> {
        let signed = self.sign(member, csr).await?;
        let view = self.meta.view();
        let info = view.state.info();
        let founder = |f: crate::identity::Founder| Founder {
            member: f.member.get(),
            address: f.address,
            fingerprint: f.fingerprint.to_vec(),
        };
        Ok(JoinReply {
            node: member.node().map_or(0, NodeId::get),
            member: member.get(),
            cluster: info.name,
            session: info.session,
            certificate: signed.certificate_der,
            authorities: roster::authorities(&view.state),
            members: roster::founders(&view.state).into_iter().map(founder).collect(),
            newest_serial: info.newest_serial.max(member.serial()),
            wall_ms: self.home.wall_s() * 1000,
        })
    }

    /// Signs a member's certificate and has that agreed on.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn sign(&self, member: MemberId, csr: &[u8]) -> Result<Signed, Status> {
        let signed = self.home.sign(csr, member);
        let signed = signed.map_err(|e| Status::failed_precondition(e.to_string()))?;
        let command = trust::Command::Certify {
            member,
            fingerprint: signed.fingerprint.clone(),
            authority: signed.authority.clone(),
        };
        self.meta.propose(Command::Trust(command), JOIN_MAX).await.map_err(failed)?;
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_others_reach() {
        let from = Some("10.0.0.7:40000".parse().unwrap());
        assert_eq!(reachable("0.0.0.0:7600", from).unwrap(), "10.0.0.7:7600");
        assert_eq!(reachable("[::]:7600", from).unwrap(), "10.0.0.7:7600");
        assert_eq!(reachable("10.0.0.9:7600", from).unwrap(), "10.0.0.9:7600");
        for bad in ["", "x", "10.0.0.9", "10.0.0.9:0", "10.0.0.9:99999"] {
            assert!(reachable(bad, from).is_err(), "{bad}");
        }
    }
}
