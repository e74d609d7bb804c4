//! Simulated nodes for a viewer in another process: `krgd simulate-nodes`.

use anyhow::{Context, Result};
use krg_sys::procfs::Procfs;
use krg_types::NodeId;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Serves `count` nodes, each of which shows the processes of the directory `proc`. Writes the
/// number and the address of each, then an empty line; ends with its standard input.
pub fn serve(count: u32, proc: &Path) -> Result<()> {
    let procfs = Procfs::of_tree(proc).with_context(|| proc.display().to_string())?;
    let procfs = Arc::new(procfs);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut out = std::io::stdout().lock();
        for id in (1..=count).filter_map(NodeId::new) {
            writeln!(out, "{id} {}", super::node(id, procfs.clone()).await?)?;
        }
        writeln!(out)?;
        anyhow::Ok(out.flush()?)
    })?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.shutdown_background();
    Ok(())
}
