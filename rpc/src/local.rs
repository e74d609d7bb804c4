//! The channel between the commands of a machine and its daemon: a unix socket, 0600.

use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Where the daemon listens for the commands of its own machine.
pub const SOCKET: &str = "/run/krg/krgd.sock";

/// A daemon that cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("krgd does not answer on {path}: {why} (is it running? `krg doctor` tells)")]
pub struct NoDaemon {
    /// The socket.
    pub path: PathBuf,
    /// What went wrong.
    pub why: String,
}

/// Connects to the daemon at `path`.
///
/// # Errors
/// When nobody listens there, or the caller may not.
pub async fn connect(path: &Path) -> Result<Channel, NoDaemon> {
    let fail = |why: String| NoDaemon { path: path.to_owned(), why };
    // A first connection by hand: its error says why in plain words, a channel's does not.
    UnixStream::connect(path).await.map_err(|e| fail(e.to_string()))?;
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://krgd");
    endpoint.connect_with_connector(connector).await.map_err(|e| fail(e.to_string()))
}
