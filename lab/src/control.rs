//! What the lab asks of its nodes' krgds, over their control sockets as the host reaches them.

use crate::state::Node;
use anyhow::{Context, Result, anyhow, bail};
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{
    JoinRequest, NodesDelRequest, StatusReply, StatusRequest, TokenCreateRequest,
};
use krg_rpc::status::why;
use krg_rpc::tonic::transport::Channel;
use krg_types::limits::PROTOCOL_VERSION;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take that needs nobody else.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the others may take to agree, when each of many nodes waits for its turn.
const AGREE_MAX: Duration = Duration::from_secs(30);

/// krgd of one node.
pub struct Krgd {
    host: String,
    client: ControlClient<Channel>,
}

impl Krgd {
    /// Connects to it.
    pub async fn connect(node: &Node) -> Result<Krgd> {
        let host = node.hostname.clone();
        let pid = node.init.with_context(|| format!("{host} is down"))?.pid;
        let socket = PathBuf::from(format!("/proc/{pid}/root{}", krg_rpc::local::SOCKET));
        let channel = krg_rpc::local::connect(&socket).await.with_context(|| host.clone())?;
        Ok(Krgd { host, client: ControlClient::new(channel) })
    }

    /// For what is not here.
    pub fn client(&mut self) -> &mut ControlClient<Channel> {
        &mut self.client
    }

    /// What it knows of its cluster.
    pub async fn status(&mut self) -> Result<StatusReply> {
        let asked = self.client.status(StatusRequest { version: PROTOCOL_VERSION });
        let reply = timeout(ANSWER_MAX, asked).await;
        let reply = reply.with_context(|| format!("{}: krgd does not answer", self.host))?;
        Ok(reply.map_err(|s| anyhow!("{}: {}", self.host, why(&s)))?.into_inner())
    }

    /// Makes tokens for `count` nodes.
    pub async fn tokens(&mut self, count: u32) -> Result<Vec<String>> {
        let request = TokenCreateRequest {
            version: PROTOCOL_VERSION,
            valid_ms: 0,
            count,
            note: "lab".into(),
        };
        let reply = timeout(AGREE_MAX, self.client.token_create(request)).await;
        let reply = reply.with_context(|| format!("{}: krgd makes no tokens", self.host))?;
        let tokens =
            reply.map_err(|s| anyhow!("{}: {}", self.host, why(&s)))?.into_inner().tokens;
        if tokens.len() != count as usize {
            bail!("{}: krgd made {} of {count} tokens", self.host, tokens.len());
        }
        Ok(tokens)
    }

    /// Joins the cluster of the node that listens at `address`. Returns once it is a member,
    /// also if it was before.
    pub async fn join(&mut self, address: String, token: String, node: u32) -> Result<()> {
        let request =
            JoinRequest { version: PROTOCOL_VERSION, address, token, node, force: false };
        let failed = match timeout(AGREE_MAX, self.client.join(request)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => anyhow!("cannot join: {}", why(&status)),
            Err(_) => anyhow!("cannot join: no answer after {} s", AGREE_MAX.as_secs()),
        };
        // The connection may end before the answer does: then the cluster itself tells.
        match self.status().await {
            Ok(status) if status.nodes.len() > 1 => Ok(()),
            _ => Err(failed),
        }
    }

    /// Takes a node out of the cluster; that it is out already is no failure.
    pub async fn remove(&mut self, node: u32) -> Result<()> {
        let request = NodesDelRequest {
            version: PROTOCOL_VERSION,
            nodes: vec![node],
            ..NodesDelRequest::default()
        };
        let reply = timeout(AGREE_MAX, self.client.nodes_del(request)).await;
        let reply = reply.with_context(|| format!("{}: krgd does not answer", self.host))?;
        let Err(status) = reply else { return Ok(()) };
        match self.status().await {
            Ok(known) if known.nodes.iter().all(|n| n.id != node) => Ok(()),
            _ => Err(anyhow!("{}: {}", self.host, why(&status))),
        }
    }
}
