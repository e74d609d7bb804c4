//! Signals that users of this machine send to processes of any node.

use super::Answer;
use crate::jobs::find::Found;
use crate::jobs::service::Service;
use crate::life::Station;
use crate::orders;
use krg_rpc::peers::Peers;
use krg_rpc::proto::control as wire;
use krg_rpc::proto::order;
use krg_rpc::proto::order::orders_client::OrdersClient;
use krg_rpc::status::RpcError;
use krg_rpc::tonic::transport::server::UdsConnectInfo;
use krg_rpc::tonic::{Request, Response, Status};
use krg_types::NodeId;
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;

/// The owner answers within this: a child that is stopped may take a second of it.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// Sends one, as who asks; root may send it as somebody else.
pub async fn send(
    station: &Arc<Station>,
    request: Request<wire::SignalRequest>,
) -> Answer<wire::SignalReply> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let peer = peer.ok_or_else(|| Status::permission_denied("the caller is not known"))?;
    let ask = request.into_inner();
    let uid = ask.uid.unwrap_or(peer.uid());
    if uid != peer.uid() && peer.uid() != 0 {
        return Err(Status::permission_denied("only root may send signals as somebody else"));
    }
    let own = station.members.own();
    let Found { node, pid, job } = Service::new(station).locate(ask.pid).await?;
    if pid == 0 && job > 0 {
        // A number of the job's that no process has.
        return reply(libc::ESRCH, node);
    }
    let order = order::SignalRequest {
        version: PROTOCOL_VERSION,
        cluster: station.members.cluster().to_string(),
        pid,
        start_ticks: 0,
        signal: ask.signal,
        uid,
        // kill(2) asks for the user alone.
        gid: if uid == peer.uid() { peer.gid() } else { uid },
        groups: Vec::new(),
    };
    if node == own {
        return reply(orders::signal(order).await, node);
    }
    let Some(peer) = station.members.get(node) else { return reply(libc::ESRCH, node) };
    let gone = |e: RpcError| Status::unavailable(e.to_string());
    if !peer.up {
        return Err(gone(RpcError::Unreachable(node, "it is down".into())));
    }
    let mut client = OrdersClient::new(peer.channel);
    let asked = tokio::time::timeout(ANSWER_MAX, client.signal(order)).await;
    let ms = u64::try_from(ANSWER_MAX.as_millis()).unwrap_or(u64::MAX);
    let told = asked.map_err(|_| gone(RpcError::deadline(node, ms)))?;
    let told = told.map_err(|status| gone(RpcError::from_status(node, &status)))?;
    reply(told.into_inner().errno, node)
}

fn reply(errno: i32, node: NodeId) -> Answer<wire::SignalReply> {
    Ok(Response::new(wire::SignalReply { errno, node: node.get() }))
}
