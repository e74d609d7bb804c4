//! A viewer of simulated nodes, without a mount: `krgd simulate-view`.

use super::meet;
use crate::view_door;
use anyhow::{Context, Result, bail};
use krg_procview::fs::Fs;
use krg_procview::gather::Gather;
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::{MemberId, NodeId};
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Their first samples are here within this.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Reads nodes as `simulate-nodes` writes them, opens the door for commands at `door`, and says
/// `ready` when it has met all of them; ends with its standard input.
pub fn serve(door: &Path) -> Result<()> {
    let mut nodes = Vec::new();
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("the list of nodes has no end");
        }
        let Some((id, address)) = line.trim_end().split_once(' ') else { break };
        let id = id.parse().ok().and_then(NodeId::new).context("a node's number")?;
        nodes.push((MemberId::new(id, 1), address.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_all()
        .build()?;
    let (_door, met) = runtime.block_on(async {
        let members = meet(&nodes).await?;
        let gather = Gather::start(members, Duration::from_secs(60));
        let procfs = Arc::new(Procfs::open(HidePid::default()).context("cannot open /proc")?);
        let fs = Arc::new(Fs::new(gather.clone(), procfs, Path::new("/proc")));
        let door = view_door::open_at(door.to_owned(), &fs, runtime.handle())?;
        anyhow::Ok((door, gather.settle(SETTLE_MAX).await))
    })?;
    if met < nodes.len() {
        bail!("{met} of {} nodes were met", nodes.len());
    }
    println!("ready");
    input.read_to_end(&mut Vec::new())?;
    runtime.shutdown_background();
    Ok(())
}
