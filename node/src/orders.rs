//! What other nodes tell this one to do to its processes, for their users.

use krg_rpc::proto::order as wire;
use krg_rpc::proto::order::orders_server::OrdersServer;
use krg_rpc::status::check_caller;
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_sys::cred::Caller;
use krg_sys::priority::set_nice_as;
use krg_sys::process::PidFd;
use krg_types::limits::{GROUPS_MAX, SIGNAL_NUMBER_MAX};
use std::io;
use std::sync::Arc;

/// The service.
pub struct Orders {
    /// The cluster's name: others are refused.
    pub cluster: Arc<str>,
}

#[tonic::async_trait]
impl wire::orders_server::Orders for Orders {
    async fn signal(
        &self,
        ask: Request<wire::SignalRequest>,
    ) -> Result<Response<wire::SignalReply>, Status> {
        let ask = ask.into_inner();
        check_caller(&self.cluster, ask.version, &ask.cluster)?;
        Ok(Response::new(wire::SignalReply { errno: signal(ask).await }))
    }

    async fn renice(
        &self,
        ask: Request<wire::ReniceRequest>,
    ) -> Result<Response<wire::SignalReply>, Status> {
        let ask = ask.into_inner();
        check_caller(&self.cluster, ask.version, &ask.cluster)?;
        Ok(Response::new(wire::SignalReply { errno: renice(ask).await }))
    }
}

/// A server for it, with its bounds.
pub fn server(cluster: Arc<str>) -> OrdersServer<Orders> {
    // All of it but for the list of groups is small.
    OrdersServer::new(Orders { cluster }).max_decoding_message_size(512 << 10)
}

/// Sends a signal to a process of this node; 0, or the kernel's errno.
pub async fn signal(ask: wire::SignalRequest) -> i32 {
    errno(move || send(ask)).await
}

/// Sets the nice value of a process of this node; 0, or the kernel's errno.
pub async fn renice(ask: wire::ReniceRequest) -> i32 {
    let wire::ReniceRequest { pid, nice, uid, gid, groups, .. } = ask;
    if groups.len() > GROUPS_MAX {
        return libc::EINVAL;
    }
    errno(move || set_nice_as(&Caller { uid, gid, groups }, pid, nice)).await
}

async fn errno(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> i32 {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::EIO)));
    done.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0)
}

fn send(ask: wire::SignalRequest) -> io::Result<()> {
    let wire::SignalRequest { pid, start_ticks, signal, uid, gid, groups, .. } = ask;
    let errno = |number| Err(io::Error::from_raw_os_error(number));
    if !(0..=SIGNAL_NUMBER_MAX).contains(&signal) || groups.len() > GROUPS_MAX {
        return errno(libc::EINVAL);
    }
    // 0 and what looks negative mean groups of processes to kill(2), here nobody.
    if pid == 0 || pid > i32::MAX as u32 {
        return errno(libc::ESRCH);
    }
    let process = match start_ticks {
        0 => PidFd::open(pid)?,
        start => PidFd::open_started(pid, start)?,
    };
    let Some(process) = process else { return errno(libc::ESRCH) };
    process.send_as(&Caller { uid, gid, groups }, signal)
}
