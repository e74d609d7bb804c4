//! What the processes of mounts, and the file server, have in common. Each is a process of its
//! own: its panics, hangs and upgrades are nobody else's, and it goes on serving while krgd is
//! restarted.

use crate::config::Config;
use crate::member_feed;
use crate::shutdown;
use anyhow::Result;
use krg_cluster::Members;
use krg_cluster::probe::{self, Asking};
use krg_sys::clock::{boot_ns, wall_ns};
use krg_sys::mount;
use krg_sys::process;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Between probes of a node that answers, while nobody may be looking.
const PROBE_PERIOD: Duration = Duration::from_secs(5);

/// A mount is there within this.
pub const MOUNT_MAX: Duration = Duration::from_secs(10);

/// Gives this process a name of its own: `pkill krgd` must not take it along. Then a runtime for
/// what waits: FUSE's own threads give the answers from memory.
pub fn begin(name: &str) -> Result<Runtime> {
    process::set_name(name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_all()
        .build()?;
    Ok(runtime)
}

/// The members as krgd has them, each with a channel, and probed from here too.
pub async fn members(config: &Config) -> Result<Arc<Members>> {
    let members = member_feed::start(config).await?.members;
    probe(&members, PROBE_PERIOD);
    Ok(members)
}

/// Probes them from now on, each so often as long as it answers.
pub fn probe(members: &Arc<Members>, period: Duration) {
    let asking = Asking { incarnation: 0, boot_ns, wall_ns };
    tokio::spawn(probe::run(members.clone(), asking, period));
}

/// FUSE threads of a mount that reads from memory.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Says that it is mounted on the first of `places` once `settled` is done, and serves until it is
/// unmounted or asked to end. `join` waits for its FUSE session. What is mounted on the other
/// places goes with it.
pub fn serve(
    runtime: Runtime,
    places: &[&Path],
    join: impl FnOnce() -> io::Result<()> + Send + 'static,
    settled: impl Future<Output = ()>,
) -> Result<()> {
    let device = |at: &Path| mount::top_at(at).ok().flatten().map(|m| m.device);
    let own = places.iter().map(|at| (*at, device(at)));
    let own: Vec<_> = own.filter(|(_, device)| device.is_some()).collect();
    let served = std::thread::spawn(join);
    runtime.block_on(settled);
    println!("mounted");
    runtime.block_on(async {
        let mut ended = tokio::task::spawn_blocking(move || served.join());
        let early = tokio::select! {
            asked = shutdown::asked() => {
                asked?;
                // krgd has done it already, unless it is not krgd who asks. What is there by
                // now may be another's: the /proc that the view covered, or the next view.
                for (at, _) in own.iter().filter(|(at, own)| device(at) == *own) {
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
