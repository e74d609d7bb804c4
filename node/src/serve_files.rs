//! The process that serves this node's files to the others.

use crate::config::Config;
use crate::member_feed;
use crate::mount_process as process;
use crate::shutdown;
use anyhow::Result;
use krg_types::mfs;

/// Serves until it is asked to end.
pub fn run(config: &Config) -> Result<()> {
    let runtime = process::begin(mfs::FILES_SERVER)?;
    runtime.block_on(async {
        let _members = member_feed::start(config).await?;
        println!("ready");
        shutdown::asked().await?;
        Ok(())
    })
}
