//! A process of its own for one mount: its panics, hangs and upgrades are nobody else's, and it
//! goes on serving while krgd is restarted.

use crate::config::Config;
use crate::local_proc;
use crate::member_feed;
use crate::shutdown;
use anyhow::{Context, Result};
use krg_cluster::probe::{self, Asking};
use krg_procview::fs::Fs;
use krg_procview::fuse::{self, View};
use krg_procview::gather::Gather;
use krg_sys::clock::{boot_ns, wall_ns};
use krg_sys::mount;
use krg_sys::process;
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::view;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between probes of a node that answers, while nobody may be looking.
const PROBE_PERIOD: Duration = Duration::from_secs(5);
/// The view is said to be mounted once it has met all nodes, or after this.
const SETTLE_MAX: Duration = Duration::from_millis(300);

/// Mounts the cluster's /proc on `at` and serves it until it is unmounted or asked to end.
pub fn run(config: &Config, at: &Path) -> Result<()> {
    // A name of its own: `pkill krgd` must not take the mounts along.
    process::set_name(view::SERVER)?;
    // One thread for what waits: the answers from memory are given by FUSE's own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_all()
        .build()?;
    let procfs = Arc::new(Procfs::open(HidePid::default()).context("cannot open /proc")?);
    let gather = runtime.block_on(async {
        let members = member_feed::start(config).await?;
        let asking = Asking { incarnation: 0, boot_ns, wall_ns };
        tokio::spawn(probe::run(members.clone(), asking, PROBE_PERIOD));
        let forget_after = Duration::from_secs(config.view.forget_after_s);
        anyhow::Ok(Gather::start(members, forget_after))
    })?;
    let local = local_proc::path(&config.run_dir);
    let fs = Arc::new(Fs::new(gather.clone(), procfs, &local));
    let skin = View::new(fs, runtime.handle().clone());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let session = fuse::mount(skin, at, threads)?.spawn()?;
    let device = || mount::top_at(at).ok().flatten().map(|m| m.device);
    let own = device();
    let served = std::thread::spawn(move || session.join());
    // Who looks as soon as there is something to look at sees the nodes that are up.
    runtime.block_on(gather.settle(SETTLE_MAX));
    println!("mounted");
    runtime.block_on(async {
        let mut ended = tokio::task::spawn_blocking(move || served.join());
        let early = tokio::select! {
            asked = shutdown::asked() => {
                asked?;
                // krgd has done it already, unless it is not krgd who asks. What is there by
                // now may be another's: the /proc that the view covered, or the next view.
                if own.is_some() && device() == own {
                    let _ = mount::umount_detach(at);
                }
                None
            }
            ended = &mut ended => Some(ended),
        };
        // Unmounted by somebody, and nobody looks any more: that is a clean end.
        let ended = match early {
            Some(ended) => ended?,
            None => ended.await?,
        };
        ended.map_err(|_| anyhow::anyhow!("the mount's thread panicked"))??;
        anyhow::Ok(())
    })?;
    // What still waits for a node must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}
