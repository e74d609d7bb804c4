//! Jobs: where they are started, and the processes that hold them, which outlive this daemon.

pub mod blocks;
pub mod checkpoint;
pub mod find;
pub mod freight;
pub mod keeper;
mod later;
mod numbers;
mod reach;
mod said;
pub mod service;

use crate::config::Config;
use crate::mount_process;
use anyhow::{Context, Result, bail};
use krg_cluster::identity::Identity;
use krg_migrate::arrive::{Come, Ground, Other, arrive};
use krg_migrate::cluster::Cluster;
use krg_migrate::holder::{Equipment, Holder};
use krg_migrate::place::{self, Place};
use krg_migrate::start::INIT_COMMAND;
use krg_migrate::{begin, helper, root};
use krg_rpc::job::{Received, written};
use krg_rpc::proto::job::{self as wire, FromJob, ToJob, from_job, to_job};
use krg_sys::process::{self, PidFd, Signal};
use krg_types::mfs;
pub use numbers::is_taken;
use reach::Reach;
use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// The subcommand that holds a job from its beginning.
pub const COMMAND: &str = "job";
/// The one that holds a job that comes from another node.
pub const GUEST: &str = "job-guest";
/// Its own, for a job's first process.
pub const INIT: &str = INIT_COMMAND;
/// Holders of jobs of this node: who comes then waits.
const HOLDERS_MAX: usize = 1_024;
/// What a killed holder leaves is put away in so many attempts.
const SCRATCH_TRIES: usize = 100;
/// The door is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// The mount of a home gives back what was open there within this.
const UNMOUNT_MAX: Duration = Duration::from_secs(2);
/// Bytes received at once.
const READ_BYTES: usize = 1 << 20;

/// Takes a place for the door.
///
/// # Errors
/// When nobody can listen there.
pub fn door(run_dir: &Path) -> Result<UnixListener> {
    let socket = run_dir.join("jobs.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket);
    let listener = listener.with_context(|| format!("cannot listen on {}", socket.display()))?;
    // Anybody may have jobs: they run as who asks.
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Starts a holder for whoever comes, for as long as it is polled.
pub async fn serve(door: UnixListener, dir: PathBuf, config_path: Option<PathBuf>) {
    place::sweep(&dir);
    let room = Arc::new(Semaphore::new(HOLDERS_MAX));
    loop {
        // It is never closed.
        let Ok(room) = room.clone().acquire_owned().await else { return };
        let connection = match door.accept().await {
            Ok((connection, _)) => connection,
            Err(e) => {
                tracing::warn!(error = %e, "nobody can start a job");
                sleep_until(Instant::now() + AGAIN).await;
                continue;
            }
        };
        let started = connection.into_std().map_err(anyhow::Error::from);
        let started = started
            .and_then(|c| holder(COMMAND, c, config_path.as_deref(), dir.clone(), None, room));
        if let Err(e) = started {
            tracing::warn!(error = %format!("{e:#}"), "a job has no holder");
        }
    }
}

/// What a holder makes for one move, and does not put away if it is killed.
struct Scratch(PathBuf);

impl Scratch {
    /// CRIU, which outlives a killed holder for a moment, may still write there.
    async fn put_away(self) {
        for _ in 0..SCRATCH_TRIES {
            place::clear(&self.0);
            if !self.0.exists() {
                return;
            }
            sleep_until(Instant::now() + AGAIN).await;
        }
        tracing::warn!(dir = %self.0.display(), "what a move has left cannot be put away");
    }
}

/// A process that holds a job, for who is at the other end of this connection. What it leaves in
/// `dir` when it is killed is put away, and its `scratch`; what it is given `room` by is dropped
/// when it has ended.
fn holder(
    command: &str,
    connection: UnixStream,
    config_path: Option<&Path>,
    dir: PathBuf,
    scratch: Option<Scratch>,
    room: impl Send + 'static,
) -> Result<()> {
    connection.set_nonblocking(false)?;
    let mut program = Command::new("/proc/self/exe");
    program.arg0("krg-job");
    if let Some(path) = config_path {
        program.arg("--config").arg(path);
    }
    program.arg(command).stdin(OwnedFd::from(connection));
    let mut program = tokio::process::Command::from(program);
    program.process_group(0);
    let mut child = program.spawn().context("cannot start it")?;
    tokio::spawn(async move {
        let _ = child.wait().await;
        let left = place::sweep(&dir).into_iter().map(Scratch);
        for scratch in left.chain(scratch) {
            scratch.put_away().await;
        }
        drop(room);
    });
    Ok(())
}

/// This process holds jobs from now on.
fn become_holder(config: &Config) -> Result<(UnixStream, Runtime, Equipment)> {
    let connection = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    process::let_go_of_stdin()?;
    process::set_name("krg-job")?;
    process::ignore_sigpipe();
    process::become_subreaper()?;
    root::leave_mounts()?;
    let identity = Identity::load(&config.state_dir)?.context("this node has no papers")?;
    let cluster: Arc<dyn Cluster> = Arc::new(Reach::new(config.clone(), identity.node.get()));
    let program = helper::program()?;
    let dir = config.run_dir.join("jobs");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok((connection, runtime, Equipment { cluster, dir, program }))
}

/// Holds the job that who is connected on standard input asks for.
///
/// # Errors
/// When he cannot be told why there is none.
pub fn hold(config: &Config) -> Result<()> {
    let (connection, runtime, equipment) = become_holder(config)?;
    let Some(asked) = begin::asked(connection)? else { return Ok(()) };
    let asked = match asked.again() {
        Ok(again) => return checkpoint::begin_again(again, equipment, &runtime),
        Err(asked) => asked,
    };
    let numbers = numbers::take(&equipment.dir, equipment.cluster.own());
    let range = numbers.as_ref().map(|numbers| numbers.range());
    asked.hold(equipment, range, &runtime)?;
    drop(numbers);
    Ok(())
}

/// Holds a job that comes: krgd, on standard input, hands on what its node says.
///
/// # Errors
/// When it has not come.
pub fn hold_guest(config: &Config, config_path: Option<&Path>) -> Result<()> {
    let (connection, runtime, equipment) = become_holder(config)?;
    connection.set_nonblocking(true)?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(connection)?;
        let (from, to) = stream.into_split();
        let (says, heard) = mpsc::channel(16);
        let (hears, answers) = mpsc::channel(4);
        tokio::spawn(listen(from, says));
        let answered = tokio::spawn(answer(to, answers));
        let mut other = Other { says: heard, hears };
        let come = take_in(config_path, &equipment, &mut other).await;
        drop(other);

        // The last word is out before this ends.
        let _ = answered.await;
        let (come, home, place) = come?;
        let held = Holder::new(equipment, come.job, come.inside, None, place)?;
        drop(come.scratch);
        let held = held.hold_away(come.frozen).await;
        drop(home);
        anyhow::Ok(held?)
    })
}

async fn take_in(
    config_path: Option<&Path>,
    equipment: &Equipment,
    other: &mut Other,
) -> Result<(Come, Home, Place)> {
    let begin = match other.says.recv().await.and_then(|first| first.what) {
        Some(wire::arrival::What::Begin(begin)) => begin,
        _ => bail!("nothing comes"),
    };
    // Before anything of it is here: what nobody has may be taken for lost.
    let ground = Place::take(&equipment.dir, begin.job).map_err(anyhow::Error::from);
    let ground = ground.and_then(|place| {
        let home = Home::mount(config_path, begin.home);
        Ok((place, home.context("its home's files are not to be had")?))
    });
    let (place, home) = match ground {
        Ok(ground) => ground,
        Err(e) => {
            let why = format!("{e:#}");
            let failed = wire::arrived::What::Failed(why.clone());
            let _ = other.hears.send(wire::Arrived { what: Some(failed) }).await;
            bail!(why);
        }
    };
    let (cluster, program) = (equipment.cluster.clone(), equipment.program.clone());
    let ground = Ground { cluster, places: equipment.dir.clone(), program };
    Ok((arrive(begin, other, ground).await?, home, place))
}

async fn listen(mut from: OwnedReadHalf, says: mpsc::Sender<wire::Arrival>) {
    let (mut received, mut buf) = (Received::default(), vec![0; READ_BYTES]);
    loop {
        while let Ok(Some(message)) = received.take::<ToJob>() {
            let Some(to_job::What::Arrival(arrival)) = message.what else { return };
            if says.send(arrival).await.is_err() {
                return;
            }
        }
        match from.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(n) => received.add(&buf[..n]),
        }
    }
}

async fn answer(mut to: OwnedWriteHalf, mut answers: mpsc::Receiver<wire::Arrived>) {
    while let Some(answer) = answers.recv().await {
        let bytes = written(&FromJob { what: Some(from_job::What::Arrived(answer)) });
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The mount of the home's tree, in a process that ends with this.
struct Home(Child);

impl Home {
    fn mount(config_path: Option<&Path>, node: u32) -> Result<Home> {
        use std::io::{BufRead, BufReader};
        let mut command = Command::new("/proc/self/exe");
        command.arg0(mfs::SERVER);
        if let Some(path) = config_path {
            command.arg("--config").arg(path);
        }
        command.arg("mount-node").arg(root::ROOT).arg(node.to_string()).arg("--hard");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        process::kill_with_parent(&mut command);
        let mut home = Home(command.spawn()?);
        let told = home.0.stdout.take().context("it has no output")?;
        if !process::wait_readable(told.as_fd(), mount_process::MOUNT_MAX)? {
            bail!("they are not mounted in time");
        }
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        if line.trim() != "mounted" {
            bail!("node {node} does not give them");
        }
        root::abroad()?;
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What the job had open and locked is given back first: of who is killed its home thinks
        // that it may come again.
        if let Ok(Some(mount)) = PidFd::open(self.0.id())
            && let Ok(true) = mount.signal(Signal::SIGTERM)
        {
            let _ = process::wait_readable(mount.as_fd(), UNMOUNT_MAX);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
