//! A look at the cluster, and what is to be known to print it.

use anyhow::{Result, bail};
use krg_rpc::proto::view::view_client::ViewClient;
use krg_rpc::proto::view::{SnapshotRequest, ViewCluster, ViewNode, ViewProcess};
use krg_rpc::{local, status};
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::view;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon;

/// A view that says nothing for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A synthetic process is the cluster's own: everybody's ancestor. Its flags are a user's.
const ROOT_FLAGS: u64 = 0x0040_0000;

/// What was seen.
#[derive(Default, Debug)]
pub struct Look {
    /// The cluster as a machine.
    pub cluster: ViewCluster,
    /// Every member.
    pub nodes: Vec<ViewNode>,
    /// Process 1, and those of all nodes, in the order of the cluster's /proc.
    pub processes: Vec<ViewProcess>,
}

/// Where a view tells its machine's commands.
fn door() -> PathBuf {
    daemon::socket().with_file_name(view::DOOR)
}

/// Looks; `None`: there is no such door.
///
/// # Errors
/// When the view does not answer, or not in time.
pub fn look(terse: bool, environment: bool) -> Result<Option<Look>> {
    daemon::run(async {
        let Ok(channel) = local::connect(&door()).await else { return Ok(None) };
        let mut client = ViewClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let asked = SnapshotRequest {
            version: PROTOCOL_VERSION,
            max_age_ms: 0,
            processes: true,
            environment,
            terse,
            ..SnapshotRequest::default()
        };
        let asked = tokio::time::timeout(SILENCE_MAX, client.snapshot(asked)).await;
        let Ok(asked) = asked else { bail!("the view does not answer") };
        let said = |s| anyhow::anyhow!("the view: {}", status::why(&s));
        let mut parts = asked.map_err(said)?.into_inner();
        let mut look = Look::default();
        loop {
            let part = tokio::time::timeout(SILENCE_MAX, parts.message()).await;
            let Ok(part) = part else { bail!("the view does not answer any more") };
            let Some(part) = part.map_err(said)? else { break };
            if let Some(cluster) = part.cluster {
                look.cluster = cluster;
            }
            look.nodes.extend(part.nodes);
            if look.processes.is_empty() {
                look.processes.push(look.root());
            }
            look.processes.extend(part.processes);
        }
        Ok(Some(look))
    })
}

impl Look {
    /// Process 1, which is none of a node's.
    fn root(&self) -> ViewProcess {
        let online = self.nodes.iter().filter(|node| node.state == "online").count();
        let plural = if online == 1 { "" } else { "s" };
        let name: String =
            self.cluster.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        ViewProcess {
            pid: 1,
            local_pid: 1,
            pgrp: 1,
            session: 1,
            tpgid: u32::MAX,
            state: u32::from(b'S'),
            comm: b"krg".to_vec(),
            cmdline: format!("krg: cluster {name}, {online} node{plural}\0").into_bytes(),
            start_ticks: 1,
            priority: 20,
            threads: 1,
            flags: ROOT_FLAGS,
            ..ViewProcess::default()
        }
    }

    /// Those that did not answer.
    pub fn silent(&self) -> impl Iterator<Item = &ViewNode> {
        self.nodes.iter().filter(|node| !node.answered)
    }

    /// KiB of memory of the nodes that are shown.
    pub fn mem_total_kib(&self) -> u64 {
        let shown = self.nodes.iter().filter(|node| node.state != "down");
        shown.map(|node| node.mem_total_kib).sum()
    }
}
