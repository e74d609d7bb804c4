//! Asking the nodes' krgds whether they see the whole cluster.

use crate::control::Krgd;
use crate::state::Node;
use anyhow::{Context, Result, anyhow, bail};
use krg_rpc::proto::control::WaitOnlineRequest;
use krg_rpc::status::why;
use krg_types::limits::PROTOCOL_VERSION;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Between two tries while a krgd builds itself anew as a member.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Returns once each of these nodes, asked at once, and its view see all of them.
pub async fn wait_all(nodes: Vec<Node>, deadline: Instant) -> Result<()> {
    let online = u32::try_from(nodes.len())?;
    let mut asked = JoinSet::new();
    for node in nodes {
        asked.spawn(async move { wait(&node, online, deadline).await });
    }
    while let Some(answer) = asked.join_next().await {
        answer??;
    }
    Ok(())
}

/// Returns once the node's krgd, and its view, see `online` nodes. krgd and the view may be gone
/// for a moment: who has just joined begins anew, on the same socket.
async fn wait(node: &Node, online: u32, deadline: Instant) -> Result<()> {
    loop {
        let seen = async {
            match wait_krgd(node, online, deadline).await? {
                Some(missing) => Ok(Some(missing)),
                None => wait_view(node, online, deadline).await,
            }
        };
        let said: Result<Option<String>> = seen.await;
        let next = Instant::now() + TRY_AGAIN;
        match said {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) if next >= deadline => bail!(missing),
            Err(e) if next >= deadline => return Err(e),
            // A life that ends before the deadline answers with what it sees then.
            Ok(Some(_)) | Err(_) => sleep_until(next).await,
        }
    }
}

/// What its krgd lacks at the deadline.
async fn wait_krgd(node: &Node, online: u32, deadline: Instant) -> Result<Option<String>> {
    let mut krgd = Krgd::connect(node).await?;
    let name = &node.hostname;
    let left = deadline.saturating_duration_since(Instant::now());
    let request = WaitOnlineRequest {
        version: PROTOCOL_VERSION,
        online,
        timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
    };
    // The daemon answers at the deadline; a little later we ask no more.
    let patience = deadline + Duration::from_millis(200);
    let reply = timeout_at(patience, krgd.client().wait_online(request))
        .await
        .with_context(|| format!("{name}: krgd does not answer"))?
        .map_err(|s| anyhow!("{name}: krgd gave no answer: {}", why(&s)))?
        .into_inner();
    let missing: Vec<_> = reply.nodes.iter().filter(|n| n.state != "online").collect();
    let seen = reply.nodes.len() - missing.len();
    if seen >= online as usize {
        return Ok(None);
    }
    let first = missing.first().map(|n| format!(": node{} is {} {}", n.id, n.state, n.why));
    let first = first.unwrap_or_default();
    Ok(Some(format!("{name} sees {seen} of {online} nodes{}", first.trim_end())))
}

/// What its view lacks at the deadline. A read waits for the nodes inside the view, a while; so
/// this is no busy loop.
async fn wait_view(node: &Node, online: u32, deadline: Instant) -> Result<Option<String>> {
    let name = &node.hostname;
    let pid = node.init.with_context(|| format!("{name} is down"))?.pid;
    let path = format!("/proc/{pid}/root/cluster/proc/.sys/settled");
    loop {
        let read = tokio::fs::read_to_string(&path);
        let said = timeout_at(deadline, read).await.context("its view does not answer")?;
        let said = said.with_context(|| format!("{name}: no view"))?;
        if said.trim().parse::<u32>().is_ok_and(|n| n >= online) {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(format!("{name}: its view shows {} of {online} nodes", said.trim())));
        }
    }
}
