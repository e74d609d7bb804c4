//! One signal ends everything.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when this process is asked to end.
pub async fn asked() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {},
        _ = int.recv() => {},
    }
    Ok(())
}
