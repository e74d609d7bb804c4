//! The process of one mount of the cluster's /proc.

use crate::config::Config;
use crate::local_proc;
use crate::mount_process as process;
use anyhow::{Context, Result};
use krg_procview::fs::Fs;
use krg_procview::fuse::{self, View};
use krg_procview::gather::Gather;
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::view;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The view is said to be mounted once it has met all nodes, or after this.
const SETTLE_MAX: Duration = Duration::from_millis(300);

/// Mounts the cluster's /proc on `at` and serves it until it is unmounted or asked to end.
pub fn run(config: &Config, at: &Path) -> Result<()> {
    let runtime = process::begin(view::SERVER)?;
    let procfs = Arc::new(Procfs::open(HidePid::default()).context("cannot open /proc")?);
    let gather = runtime.block_on(async {
        let members = process::members(config).await?;
        let forget_after = Duration::from_secs(config.view.forget_after_s);
        anyhow::Ok(Gather::start(members, forget_after))
    })?;
    let local = local_proc::path(&config.run_dir);
    let fs = Arc::new(Fs::new(gather.clone(), procfs, &local));
    let skin = View::new(fs, runtime.handle().clone());
    let session = fuse::mount(skin, at, process::threads())?.spawn()?;
    // Who looks as soon as there is something to look at sees the nodes that are up.
    let settled = async {
        gather.settle(SETTLE_MAX).await;
    };
    process::serve(runtime, at, || session.join(), settled)
}
