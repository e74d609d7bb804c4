//! Channels to other nodes. The one place where their timeouts are chosen.

use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// How long a connection may take to be made, ms.
pub const CONNECT_TIMEOUT_MS: u64 = 400;
/// An idle connection is tried this often, ms: without it a channel never recovers from a
/// partition that heals.
const KEEP_ALIVE_MS: u64 = 5_000;
/// Without an answer to that for so long, ms, it is closed.
const KEEP_ALIVE_TIMEOUT_MS: u64 = 1_000;
/// Bytes in flight on one stream and one connection.
const WINDOW_BYTES: u32 = 4 << 20;

/// A channel to the daemon at `address`. It connects when first used and again when it broke.
pub fn channel(address: SocketAddr) -> Channel {
    let uri = tonic::transport::Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/")
        .build()
        .unwrap_or_default();
    Endpoint::from(uri)
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy()
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
        .max_concurrent_streams(1024)
}
