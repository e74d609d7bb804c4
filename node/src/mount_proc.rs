//! The process of one mount of the cluster's /proc.

use crate::caps::sight::Local;
use crate::config::Config;
use crate::live_mount;
use crate::local_proc;
use crate::mount_process as process;
use crate::view_door;
use anyhow::{Context, Result};
use krg_procview::fs::Fs;
use krg_procview::fuse::{self, View};
use krg_procview::gather::Gather;
use krg_procview::news;
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
    let sight = {
        let _runtime = runtime.enter();
        Local::start(config, gather.own().get(), procfs.clone())
    };
    let live = live_mount::make(&config.run_dir)?;
    let fs = Fs::new(gather.clone(), procfs, &local).with_sight(sight).with_live(live.clone());
    let fs = Arc::new(fs.with_daemon(config.run_dir.join("krgd.sock")));
    let asked = View::new(fs.clone(), runtime.handle().clone());
    let beside = fuse::mount(asked, &live, process::threads(), true)?.spawn()?;
    let (teller, hearer) = news::pair();
    gather.tell(teller);
    let held = View::held(fs.clone(), runtime.handle().clone());
    let session = fuse::mount(held, at, process::threads(), false)
        .inspect_err(|_| live_mount::take_away(&live))?;
    fuse::keep_in_step(session.notifier(), fs.clone(), hearer)?;
    let door = view_door::open(config, at, &fs, runtime.handle())
        .inspect_err(|_| live_mount::take_away(&live))?;
    let session = session.spawn()?;
    // Who looks as soon as there is something to look at sees the nodes that are up.
    let settled = async {
        gather.settle(SETTLE_MAX).await;
    };
    let served = process::serve(runtime, &[at, &live], || session.join(), settled);
    live_mount::take_away(&live);
    drop((door, beside));
    served
}
