//! Channels to other nodes. The one place where their timeouts are chosen.

use crate::tls::{self, Conn, Credentials, Protocol};
use hyper_util::rt::TokioIo;
use krg_types::MemberId;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::{Service, ServiceExt};

/// How long a connection may take to be made, ms.
pub const CONNECT_TIMEOUT_MS: u64 = 400;
/// An idle connection is tried this often, ms: without it a channel never recovers from a
/// partition that heals.
const KEEP_ALIVE_MS: u64 = 5_000;
/// Without an answer to that for so long, ms, it is closed.
const KEEP_ALIVE_TIMEOUT_MS: u64 = 1_000;
/// Bytes in flight on one stream and one connection.
const WINDOW_BYTES: u32 = 4 << 20;
/// What goes in one frame of HTTP/2: the fewer of them the less work.
const FRAME_BYTES: u32 = 256 << 10;

/// A plain channel to the daemon at `address`, for nodes inside one process. It connects when
/// first used and again when it broke.
pub fn channel(address: SocketAddr) -> Channel {
    endpoint(&address.to_string())
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .tcp_nodelay(true)
        .connect_lazy()
}

/// A plain channel over the connections that `connector` makes, with the same timeouts: for a
/// network that is not this machine's.
pub fn channel_with<C>(connector: C) -> Channel
where
    C: Service<Uri> + Send + 'static,
    C::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    let connector = connector.map_response(TokioIo::new).map_err(Into::into);
    endpoint("krg")
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .connect_with_connector_lazy(connector)
}

/// A channel to `member` at `address` (`host:port`) inside TLS. It connects when first used and
/// again when it broke, each time with the credentials of that moment.
pub fn secure_channel(
    address: String,
    member: MemberId,
    credentials: Arc<Credentials>,
) -> Channel {
    let address: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, credentials) = (address.clone(), credentials.clone());
        async move {
            let connecting = tls::to_member(&address, member, &credentials, Protocol::Control);
            in_time(&address, connecting).await.map(TokioIo::new)
        }
    });
    // The authority says whom a request is for, not where: the connector knows that.
    endpoint(&tls::name_of(member)).connect_with_connector_lazy(connector)
}

/// A channel for a joiner to a node of the cluster whose authority has this fingerprint
/// (SHA-256 of its certificate). The joiner itself shows nothing.
pub fn pinned_channel(address: String, ca_fingerprint: [u8; 32]) -> Channel {
    let address: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let address = address.clone();
        async move {
            let connecting = tls::to_pinned(&address, ca_fingerprint);
            in_time(&address, connecting).await.map(TokioIo::new)
        }
    });
    endpoint("member.krg").connect_with_connector_lazy(connector)
}

/// The connection, handshake included, has to be made within the connect timeout.
async fn in_time(
    address: &str,
    connecting: impl Future<Output = io::Result<Conn>>,
) -> io::Result<Conn> {
    let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
    let late = || format!("no connection to {address} within {CONNECT_TIMEOUT_MS} ms");
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, late());
    tokio::time::timeout(limit, connecting).await.map_err(late)?
}

/// Timeouts and windows of every channel. TLS, if any, is the connector's: hence `http`.
fn endpoint(authority: &str) -> Endpoint {
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/");
    Endpoint::from(uri.build().unwrap_or_default())
        .http2_keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// The connections that come to a listener. Without TCP_NODELAY every small answer would wait
/// for the other side's delayed acknowledgement, 40 ms.
pub fn incoming(listener: tokio::net::TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// A server with the same timeouts.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(4 * KEEP_ALIVE_TIMEOUT_MS)))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(1024)
}
