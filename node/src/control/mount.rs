//! Mounts that commands and other mounts ask for.

use super::Answer;
use crate::life::Station;
use crate::mounts::Kind;
use krg_rpc::peers::Peers;
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Response, Status};
use krg_types::NodeId;
use std::path::PathBuf;

fn refused(error: anyhow::Error) -> Status {
    Status::failed_precondition(format!("{error:#}"))
}

/// Mounts something of this kind at a path; the pid of its process.
pub async fn now(station: &Station, path: String, kind: Kind) -> Result<u32, Status> {
    station.mounts.mount_now(path.into(), kind).await.map_err(refused)
}

/// Mounts the tree of a node; unless those who use it are to wait, if it answers.
pub async fn node(
    station: &Station,
    ask: wire::MountNodeRequest,
) -> Answer<wire::MountNodeReply> {
    let unknown = || Status::not_found(format!("no node {}", ask.node));
    let node = NodeId::new(ask.node).ok_or_else(unknown)?;
    let peer = station.members.get(node).ok_or_else(unknown)?;
    let root = match ask.root.as_str() {
        "" => station.config.mfs.mount.clone(),
        root => PathBuf::from(root),
    };
    let patience = station.mounts.patience(&root).map_err(refused)?;
    if !peer.up && !patience.is_hard() {
        return Ok(Response::new(wire::MountNodeReply { pid: 0, down: true }));
    }
    let pid = station.mounts.mount_node(&root, node, patience).await.map_err(refused)?;
    Ok(Response::new(wire::MountNodeReply { pid, down: false }))
}
