//! The process that serves this node's files to the others.

use crate::config::Config;
use crate::export::{self, Whose};
use crate::member_feed;
use crate::mount_process as process;
use crate::shutdown;
use anyhow::{Context, Result};
use krg_faf::serve::{self, Service};
use krg_rpc::peers::Peers;
use krg_types::mfs;
use tokio::net::TcpListener;

/// Serves until it is asked to end.
pub fn run(config: &Config) -> Result<()> {
    let runtime = process::begin(mfs::FILES_SERVER)?;
    let result = runtime.block_on(serve(config));
    // Requests may be stuck on a disk: they do not hold the end up.
    runtime.shutdown_background();
    result
}

async fn serve(config: &Config) -> Result<()> {
    let fed = member_feed::start(config).await?;
    let server = export::serve(config, &fed, Whose::Others).await?;
    let service = Service::new(server, fed.members.cluster())?;
    let at = serve::door_beside(config.listen).context("no port is left beside `listen`")?;
    let listener = TcpListener::bind(at).await;
    let listener = listener.with_context(|| format!("cannot listen on {at} for files"))?;
    println!("ready");
    tokio::select! {
        asked = shutdown::asked() => Ok(asked?),
        ended = service.run(listener, fed.credentials) => Ok(ended?),
    }
}
