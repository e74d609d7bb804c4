//! Connections for the images of jobs come to krgd's door, and are given to the holders that wait
//! for them, which make the handshakes.

use krg_migrate::images::freight::give;
use krg_migrate::place;
use krg_rpc::bulk::Preface;
use std::path::PathBuf;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Gives them, for as long as it is polled.
pub async fn hand_on(mut coming: mpsc::Receiver<(Preface, TcpStream)>, jobs: PathBuf) {
    while let Some((Preface { job, trace }, connection)) = coming.recv().await {
        let dir = place::criu_dir(&jobs, job, &trace);
        let given = match connection.into_std() {
            Ok(connection) => give(&dir, &connection).await,
            Err(e) => Err(e),
        };
        if let Err(e) = given {
            tracing::info!(job, trace, error = %e, "nobody waits for images");
        }
    }
}
