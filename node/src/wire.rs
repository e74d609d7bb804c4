//! The one page that builds the daemon and starts everything in it.

use crate::config::Config;
use crate::control;
use crate::local_proc;
use crate::mounts::Mounts;
use crate::shutdown;
use anyhow::{Context, Result, bail};
use krg_cluster::serve::Identity;
use krg_cluster::{Members, probe};
use krg_procview::live::Live;
use krg_procview::sample::Sampler;
use krg_procview::serve;
use krg_rpc::pool;
use krg_rpc::proto::control::control_server::ControlServer;
use krg_rpc::proto::member::member_server::MemberServer;
use krg_rpc::proto::proc::NodeFacts;
use krg_sys::clock::{boot_ns, page_size, ticks_per_s, wall_ns};
use krg_sys::procfs::{HidePid, Procfs};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;

/// Between probes of a node that answers.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// What still runs when everything was told to stop has so long to end.
const LAST_CALL: Duration = Duration::from_millis(200);

/// Runs the daemon until it is asked to end.
pub fn run(config: Config, config_path: Option<PathBuf>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("must be root: it reads every process and mounts file systems (try sudo krgd)");
    }
    // One thread: what blocks (passes over /proc, reads as a caller) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, config_path));
    runtime.shutdown_timeout(LAST_CALL);
    result
}

async fn serve(config: Config, config_path: Option<PathBuf>) -> Result<()> {
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

    let hide = HidePid::of_this_machine();
    local_proc::mount(&run_dir, hide)?;
    let mounts = Mounts::new(&run_dir, config_path, stamp(&config)?)?;
    let ended = live(config, hide, (tcp, local), &mounts).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    mounts.stop().await;
    local_proc::unmount(&run_dir);
    let _ = std::fs::remove_file(&socket);
    let _ = std::fs::remove_dir(run_dir.join("mounts"));
    ended
}

/// Everything between the first question through a door and the signal to end.
async fn live(
    config: Config,
    hide: HidePid,
    (tcp, local): (TcpListener, UnixListener),
    mounts: &Arc<Mounts>,
) -> Result<()> {
    let (node, listen, view_at) = (config.node_id, config.listen, config.view.mount.clone());
    let members = Arc::new(Members::new(node, &config.cluster, &config.nodes()));
    let (identity, view) = this_machine(&config, hide, &members)?;
    let control = control::Service { config, members: members.clone(), mounts: mounts.clone() };
    let nodes = pool::server()
        .add_service(MemberServer::new(identity).max_decoding_message_size(64 << 10))
        .add_service(serve::server(view))
        .serve_with_incoming(pool::incoming(tcp));
    let commands = pool::server()
        .add_service(ControlServer::new(control).max_decoding_message_size(64 << 10))
        .serve_with_incoming(UnixListenerStream::new(local));
    let nodes = tokio::spawn(nodes);
    let commands = tokio::spawn(commands);
    tokio::spawn(probe::run(members, boot_ns, PROBE_PERIOD));

    mounts.resume();
    if view_at != Path::new("") && mounts.keep(view_at.clone()).is_ok() {
        tracing::debug!(path = %view_at.display(), "mounting");
    }
    mounts.settled().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(%node, %listen, "ready");

    tokio::select! {
        asked = shutdown::asked() => Ok(asked?),
        ended = nodes => ended?.context("the door for other nodes closed"),
        ended = commands => ended?.context("the door for commands closed"),
    }
}

/// What this node says of itself, and what it shows of its processes.
fn this_machine(
    config: &Config,
    hide: HidePid,
    members: &Arc<Members>,
) -> Result<(Identity, serve::Service)> {
    let procfs = Arc::new(Procfs::open(hide).context("cannot open /proc")?);
    let identity = Identity {
        node: config.node_id,
        cluster: config.cluster.as_str().into(),
        hostname: hostname(),
        incarnation: wall_ns(),
        boot_ns,
        members: Some(members.clone()),
    };
    let facts = NodeFacts {
        node: config.node_id.get(),
        hostname: identity.hostname.clone(),
        cpus: count_cpus(&procfs),
        ticks_per_s: ticks_per_s(),
        page_size: page_size(),
        hidepid: hide.level,
        hidepid_gid: hide.gid,
        incarnation: identity.incarnation,
        session: config.session,
    };
    let view = serve::Service {
        cluster: identity.cluster.clone(),
        facts,
        sampler: Sampler::new(procfs.clone()),
        live: Live::start(procfs).context("cannot start threads")?,
    };
    Ok((identity, view))
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

fn count_cpus(procfs: &Procfs) -> u32 {
    let mut stat = Vec::new();
    match procfs.root().read("stat", &mut stat, krg_types::limits::SYSTEM_FILE_BYTES_MAX) {
        Ok(()) => krg_procview::merge::cpu_room(&stat),
        Err(_) => 1,
    }
}

/// Same program and same configuration: the mount process of an earlier krgd may go on.
fn stamp(config: &Config) -> Result<String> {
    let exe = std::fs::metadata(std::env::current_exe()?)?;
    let mut hasher = DefaultHasher::new();
    (exe.len(), exe.mtime(), exe.mtime_nsec(), config.to_toml()?).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
