//! Asking a node's krgd whether it sees the whole cluster.

use crate::state::Node;
use anyhow::{Context, Result, bail};
use krg_rpc::proto::control::WaitOnlineRequest;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_types::limits::PROTOCOL_VERSION;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The control socket of a node's krgd, as the host reaches it.
fn socket(node: &Node) -> Option<PathBuf> {
    let path = krg_rpc::local::SOCKET;
    Some(PathBuf::from(format!("/proc/{}/root{path}", node.init?.pid)))
}

/// Returns once the view mounted on the node shows `online` nodes. A read waits for them inside
/// the view, a while; so this is no busy loop.
async fn wait_view(node: &Node, online: u32, deadline: Instant) -> Result<()> {
    let pid = node.init.with_context(|| format!("{} is down", node.hostname))?.pid;
    let path = format!("/proc/{pid}/root/cluster/proc/.sys/settled");
    loop {
        let read = tokio::fs::read_to_string(&path);
        let said = timeout_at(deadline, read).await.context("its view does not answer")?;
        let said = said.with_context(|| format!("{}: no view", node.hostname))?;
        if said.trim().parse::<u32>().is_ok_and(|n| n >= online) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{}: its view shows {} of {online} nodes", node.hostname, said.trim());
        }
    }
}

/// Returns once the node's krgd, and its view, see `online` nodes.
pub async fn wait(node: &Node, online: u32, deadline: Instant) -> Result<()> {
    let name = &node.hostname;
    let socket = socket(node).with_context(|| format!("{name} is down"))?;
    let channel = krg_rpc::local::connect(&socket).await.with_context(|| name.clone())?;
    let left = deadline.saturating_duration_since(Instant::now());
    let request = WaitOnlineRequest {
        version: PROTOCOL_VERSION,
        online,
        timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
    };
    // The daemon answers at the deadline; a little later we ask no more.
    let patience = deadline + Duration::from_millis(200);
    let mut client = ControlClient::new(channel);
    let reply = timeout_at(patience, client.wait_online(request))
        .await
        .with_context(|| format!("{name}: krgd does not answer"))?
        .with_context(|| format!("{name}: krgd gave no answer"))?
        .into_inner();
    let missing: Vec<_> = reply.nodes.iter().filter(|n| n.state != "online").collect();
    let seen = reply.nodes.len() - missing.len();
    if seen < online as usize {
        let first = missing.first().map(|n| format!(": node{} is {} {}", n.id, n.state, n.why));
        let first = first.unwrap_or_default();
        bail!("{name} sees {seen} of {online} nodes{}", first.trim_end());
    }
    wait_view(node, online, deadline).await
}
