//! Signals and nice values that users of this machine have for processes of any node.

use super::Answer;
use crate::jobs::find::Found;
use crate::jobs::service::Service;
use crate::life::Station;
use crate::local_caller;
use crate::orders;
use krg_rpc::peers::Peers;
use krg_rpc::proto::control as wire;
use krg_rpc::proto::order;
use krg_rpc::proto::order::orders_client::OrdersClient;
use krg_rpc::status::RpcError;
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::{Request, Response, Status};
use krg_sys::cred::Caller;
use krg_types::NodeId;
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;

/// The owner answers within this: a child that is stopped may take a second of it.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// Said of a number of a job's that no process has.
const NO_PROCESS: i32 = libc::ESRCH;

/// Sends one, as who asks; root may send it as somebody else.
pub async fn send(
    station: &Arc<Station>,
    request: Request<wire::SignalRequest>,
) -> Answer<wire::SignalReply> {
    let (caller, ask) = asked(request)?;
    let uid = ask.uid.unwrap_or(caller.uid);
    if uid != caller.uid && caller.uid != 0 {
        return Err(Status::permission_denied("only root may send signals as somebody else"));
    }
    let Found { node, pid, job } = Service::new(station).locate(ask.pid).await?;
    if pid == 0 && job > 0 {
        return reply(NO_PROCESS, node);
    }
    let order = order::SignalRequest {
        version: PROTOCOL_VERSION,
        cluster: station.members.cluster().to_string(),
        pid,
        start_ticks: 0,
        signal: ask.signal,
        uid,
        // kill(2) asks for the user alone.
        gid: if uid == caller.uid { caller.gid } else { uid },
        groups: Vec::new(),
    };
    if node == station.members.own() {
        return reply(orders::signal(order).await, node);
    }
    let told = there(station, node, async |mut orders| orders.signal(order).await).await?;
    reply(told, node)
}

/// Sets a nice value, as who asks.
pub async fn renice(
    station: &Arc<Station>,
    request: Request<wire::ReniceRequest>,
) -> Answer<wire::SignalReply> {
    let (caller, ask) = asked(request)?;
    let Found { node, pid, job } = Service::new(station).locate(ask.pid).await?;
    if pid == 0 && job > 0 {
        return reply(NO_PROCESS, node);
    }
    let order = order::ReniceRequest {
        version: PROTOCOL_VERSION,
        cluster: station.members.cluster().to_string(),
        pid,
        nice: ask.nice,
        uid: caller.uid,
        gid: caller.gid,
        // setpriority(2) asks for the user alone.
        groups: Vec::new(),
    };
    if node == station.members.own() {
        return reply(orders::renice(order).await, node);
    }
    let told = there(station, node, async |mut orders| orders.renice(order).await).await?;
    reply(told, node)
}

/// Who asks, and what.
fn asked<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let peer = local_caller::caller(&request)?;
    let caller = Caller { uid: peer.uid(), gid: peer.gid(), groups: Vec::new() };
    Ok((caller, request.into_inner()))
}

/// What another node says to an order: 0, or its kernel's errno.
async fn there(
    station: &Arc<Station>,
    node: NodeId,
    order: impl AsyncFnOnce(OrdersClient<Channel>) -> Result<Response<order::SignalReply>, Status>,
) -> Result<i32, Status> {
    let Some(peer) = station.members.get(node) else { return Ok(libc::ESRCH) };
    let gone = |e: RpcError| Status::unavailable(e.to_string());
    if !peer.up {
        return Err(gone(RpcError::Unreachable(node, "it is down".into())));
    }
    let asked = tokio::time::timeout(ANSWER_MAX, order(OrdersClient::new(peer.channel))).await;
    let ms = u64::try_from(ANSWER_MAX.as_millis()).unwrap_or(u64::MAX);
    let told = asked.map_err(|_| gone(RpcError::deadline(node, ms)))?;
    let told = told.map_err(|status| gone(RpcError::from_status(node, &status)))?;
    Ok(told.into_inner().errno)
}

fn reply(errno: i32, node: NodeId) -> Answer<wire::SignalReply> {
    Ok(Response::new(wire::SignalReply { errno, node: node.get() }))
}
