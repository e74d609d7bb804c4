//! The daemon from its doors inwards: claims them, and lives behind them until it is told to end.

use crate::config::Config;
use crate::kerrighed::{self, KerrighedNodes};
use crate::life::{self, Doors, End, Next};
use crate::local_proc;
use crate::mounts::Mounts;
use crate::papers;
use anyhow::{Context, Result, bail};
use krg_sys::procfs::HidePid;
use krg_types::MemberId;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// What still runs when everything was told to stop has so long to end.
const LAST_CALL: Duration = Duration::from_millis(200);

/// What is told to whoever started the daemon when it is to be started again (EX_TEMPFAIL of
/// sysexits.h): a clean end would leave it down.
const START_AGAIN: u8 = 75;

/// Runs the daemon until it is asked to end; its exit code.
pub fn run(config: Config, config_path: Option<PathBuf>) -> Result<u8> {
    if !nix::unistd::geteuid().is_root() {
        bail!("must be root: it reads every process and mounts file systems (try sudo krgd)");
    }
    // One thread: what blocks (passes over /proc, reads as a caller, the disk) has its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, config_path));
    runtime.shutdown_timeout(LAST_CALL);
    result
}

/// With what Kerrighed's file of nodes says.
///
/// # Errors
/// When a line of it is bad.
pub fn complete(mut config: Config) -> Result<Config> {
    config.fill_in(&KerrighedNodes::load(Path::new(kerrighed::PATH))?, &hostname());
    Ok(config)
}

async fn serve(config: Config, config_path: Option<PathBuf>) -> Result<u8> {
    let hostname = hostname();
    let run_dir = config.run_dir.clone();
    std::fs::create_dir_all(&run_dir)
        .with_context(|| format!("cannot make {}", run_dir.display()))?;

    // The doors first: a second daemon must not get further.
    let socket = run_dir.join("krgd.sock");
    let local = claim_socket(&socket).await?;
    let tcp = TcpListener::bind(config.listen).await.with_context(|| {
        let _ = std::fs::remove_file(&socket);
        format!("cannot listen on {} (is another krgd running? see `listen`)", config.listen)
    })?;
    let doors = Doors { tcp: tcp.into_std()?, local: local.into_std()? };

    let hide = HidePid::of_this_machine();
    local_proc::mount(&run_dir, hide)?;
    let jobs = crate::jobs::serve(
        crate::jobs::door(&run_dir)?,
        run_dir.join("jobs"),
        config_path.clone(),
    );
    let jobs = tokio::spawn(jobs);
    let ended = lives(&config, config_path.as_deref(), &hostname, hide, &doors).await;
    jobs.abort();
    let _ = std::fs::remove_file(run_dir.join("jobs.sock"));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    local_proc::unmount(&run_dir);
    crate::live_mount::clear(&run_dir);
    let _ = std::fs::remove_file(&socket);
    let _ = std::fs::remove_dir(run_dir.join("mounts"));
    ended
}

/// One life after another, until one ends the daemon.
async fn lives(
    config: &Config,
    config_path: Option<&Path>,
    hostname: &str,
    hide: HidePid,
    doors: &Doors,
) -> Result<u8> {
    loop {
        let papers = papers::take_up(config, hostname).await?;
        let stamp = stamp(config, papers.home.identity().member)?;
        let mounts = Mounts::new(&config.run_dir, config_path.map(Path::to_owned), stamp)?;
        let end =
            life::live(config, config_path, hostname, hide, doors, mounts.clone(), papers).await;
        // A mount shows one membership's view. The next life makes its own.
        mounts.stop().await;
        match end? {
            End::Stop => return Ok(0),
            End::Reboot => return Ok(START_AGAIN),
            End::Again(next) => {
                tracing::warn!(?next, "this node begins another life");
                match next {
                    Next::Other(identity) => papers::adopt(&config.state_dir, &identity)?,
                    Next::Founder => papers::forget(&config.state_dir)?,
                    Next::Survivor => papers::survive(config).await?,
                }
            }
        }
    }
}

/// Takes the socket's place, unless a living krgd has it.
async fn claim_socket(socket: &Path) -> Result<UnixListener> {
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        bail!("another krgd serves {}", socket.display());
    }
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    // Anybody may ask who is there; what changes something checks who asks.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Same program, configuration and membership: the mount process of an earlier krgd may go on.
fn stamp(config: &Config, member: MemberId) -> Result<String> {
    let exe = std::fs::metadata("/proc/self/exe")?;
    let mut hasher = DefaultHasher::new();
    (exe.len(), exe.mtime(), exe.mtime_nsec(), config.to_toml()?, member).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
