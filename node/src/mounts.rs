//! The mounts of this node: each in a process of its own, started again when it died, found
//! again when krgd was restarted.

mod record;

use anyhow::{Context, Result, bail};
use krg_rpc::proto::control as wire;
use krg_sys::mount::{top_at, umount_detach};
use krg_sys::process::{PidFd, Signal};
use krg_types::limits::MOUNTS_MAX;
use krg_types::view::FS_TYPE;
use record::Record;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// A mount process has so long to say that it is mounted.
const START_MAX: Duration = Duration::from_secs(5);
/// And so long to end, if nobody looks at it any more.
const STOP_MAX: Duration = Duration::from_millis(700);
/// Pauses before a mount that died is started again: the first at once.
const PAUSES_MS: [u64; 5] = [0, 100, 500, 1_000, 5_000];

/// What is known of one mount.
#[derive(Clone, Default, Debug)]
struct State {
    pid: u32,
    word: &'static str,
    restarts: u32,
    why: String,
}

/// All mounts.
pub struct Mounts {
    records: PathBuf,
    config: Option<PathBuf>,
    /// What a mount process must have been started with to be kept over a restart of krgd.
    stamp: String,
    states: Mutex<BTreeMap<PathBuf, State>>,
    changes: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
}

/// How a mount process ended.
enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// It died.
    Died(String),
    /// krgd is being stopped.
    Stopping,
}

impl Mounts {
    /// No mounts yet. `stamp` changes when a mount process must be replaced.
    pub fn new(run_dir: &Path, config: Option<PathBuf>, stamp: String) -> Result<Arc<Mounts>> {
        let dir = run_dir.join("mounts");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Arc::new(Mounts {
            records: dir,
            config,
            stamp,
            states: Mutex::default(),
            changes: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        }))
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<PathBuf, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, path: &Path, edit: impl FnOnce(&mut State)) {
        if let Some(state) = self.states().get_mut(path) {
            edit(state);
        }
        self.changes.send_modify(|n| *n += 1);
    }

    /// For the commands of this machine.
    pub fn status(&self) -> Vec<wire::Mount> {
        let states = self.states();
        let mount = |(path, s): (&PathBuf, &State)| wire::Mount {
            path: path.display().to_string(),
            pid: s.pid,
            state: if s.why.is_empty() {
                s.word.into()
            } else {
                format!("{}: {}", s.word, s.why)
            },
            restarts: s.restarts,
        };
        states.iter().map(mount).collect()
    }

    /// Takes up what an earlier krgd left: living mounts are kept, dead ones cleared and started
    /// again.
    pub fn resume(self: &Arc<Self>) {
        for path in record::paths(&self.records) {
            let _ = self.keep(path);
        }
    }

    /// Mounts a view on `path` and keeps it there.
    ///
    /// # Errors
    /// When there are too many, or it is kept there already.
    pub fn keep(self: &Arc<Self>, path: PathBuf) -> Result<()> {
        let mut states = self.states();
        if states.contains_key(&path) {
            bail!("{}: already mounted here", path.display());
        }
        if states.len() >= MOUNTS_MAX {
            bail!("{MOUNTS_MAX} mounts are all that one daemon serves");
        }
        states.insert(path.clone(), State { word: "starting", ..State::default() });
        drop(states);
        tokio::spawn(self.clone().supervise(path));
        Ok(())
    }

    /// As `keep`, for somebody who waits for it; nothing stays behind if it fails.
    ///
    /// # Errors
    /// With the reason, when it is not mounted in time.
    pub async fn mount_now(self: &Arc<Self>, path: PathBuf) -> Result<u32> {
        if !path.is_absolute() {
            bail!("{}: not an absolute path", path.display());
        }
        if !path.is_dir() {
            bail!("{0}: no such directory (make it: mkdir -p {0})", path.display());
        }
        if is_busy(&path) {
            bail!("{}: busy, something is mounted here", path.display());
        }
        let mut changes = self.changes.subscribe();
        self.keep(path.clone())?;
        loop {
            let state = self.states().get(&path).cloned();
            match state {
                Some(s) if s.word == "mounted" => return Ok(s.pid),
                Some(s) if s.restarts > 0 => {
                    self.forget(&path);
                    bail!("{}: {}", path.display(), s.why);
                }
                None => bail!("{}: unmounted again at once", path.display()),
                Some(_) => timeout(START_MAX * 2, changes.changed()).await??,
            }
        }
    }

    fn forget(&self, path: &Path) {
        self.states().remove(path);
        record::remove(&self.records, path);
        self.changes.send_modify(|n| *n += 1);
    }

    async fn supervise(self: Arc<Self>, path: PathBuf) {
        let mut tries = 0;
        loop {
            match self.one_life(&path).await {
                Ok(End::Stopping) => return,
                Ok(End::Unmounted) => return self.forget(&path),
                Ok(End::Died(why)) => {
                    tracing::warn!(path = %path.display(), %why, "mount ended");
                    self.failed(&path, why);
                    // It had been mounted: begin anew with the short pauses.
                    tries = 0;
                }
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %format!("{e:#}"), "no mount");
                    self.failed(&path, format!("{e:#}"));
                    tries += 1;
                }
            }
            let pause = PAUSES_MS[tries.min(PAUSES_MS.len() - 1)];
            let mut stopping = self.stopping.subscribe();
            let stop = stopped(&mut stopping);
            if timeout(Duration::from_millis(pause), stop).await.is_ok() {
                return;
            }
            if !self.states().contains_key(&path) {
                return;
            }
        }
    }

    fn failed(&self, path: &Path, why: String) {
        self.set(path, |s| {
            s.pid = 0;
            s.word = "down";
            s.restarts += 1;
            s.why = why;
        });
    }

    /// From the start (or the adoption) of a mount process to its end.
    async fn one_life(&self, path: &Path) -> Result<End> {
        let record = record::read(&self.records, path);
        if let Some((record, process)) =
            record.and_then(|r| Some((r.clone(), Arc::new(r.process()?))))
        {
            if record.stamp == self.stamp && is_ours(path) {
                self.mounted(path, record.pid);
                return self.watch(path, process, None).await;
            }
            retire(path, &process).await?;
        }
        clear(path)?;
        if is_busy(path) {
            bail!("busy, something else is mounted here");
        }
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let (child, process, record) = self.start(path).await?;
        record::write(&self.records, path, &record)?;
        self.mounted(path, record.pid);
        self.watch(path, process, Some(child)).await
    }

    fn mounted(&self, path: &Path, pid: u32) {
        tracing::info!(path = %path.display(), pid, "mounted");
        self.set(path, |s| {
            s.pid = pid;
            s.word = "mounted";
            s.why.clear();
        });
    }

    async fn start(&self, path: &Path) -> Result<(Child, Arc<PidFd>, Record)> {
        // The program that runs, also when a newer one has taken its place on the disk.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("krgd");
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.arg("mount-proc").arg(path);
        // Of its own process group: a Ctrl-C for krgd is not one for it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(false);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the mount process")?;
        let pid = child.id().context("the mount process ended at once")?;
        let process = PidFd::open(pid)?.context("the mount process ended at once")?;
        let start = krg_sys::process::start_time(pid)?.context("the mount process ended")?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut said = BufReader::new(out.context("no pipe")?).lines();
        let log = tokio::spawn(pass_on(err.context("no pipe")?));
        match timeout(START_MAX, said.next_line()).await {
            Ok(Ok(Some(line))) if line == "mounted" => {}
            Ok(_) => bail!("{}", log.await.unwrap_or_default().trim()),
            Err(_) => {
                let _ = process.signal(Signal::SIGKILL);
                bail!("the mount process does not get ready");
            }
        }
        Ok((child, Arc::new(process), Record { pid, start, stamp: self.stamp.clone() }))
    }

    async fn watch(&self, path: &Path, process: Arc<PidFd>, child: Option<Child>) -> Result<End> {
        let mut stopping = self.stopping.subscribe();
        let end = match child {
            Some(mut child) => tokio::select! {
                status = child.wait() => {
                    let status = status?;
                    match status.success() {
                        true => End::Unmounted,
                        false => End::Died(status.to_string()),
                    }
                }
                () = stopped(&mut stopping) => {
                    retire(path, &process).await?;
                    End::Stopping
                }
            },
            // Not a child of this krgd, so its status is not known; its mount tells.
            None => tokio::select! {
                _ = end_of(&process) => match is_ours(path) {
                    false => End::Unmounted,
                    true => End::Died("ended".into()),
                },
                () = stopped(&mut stopping) => {
                    retire(path, &process).await?;
                    End::Stopping
                }
            },
        };
        record::remove(&self.records, path);
        clear(path)?;
        if matches!(end, End::Stopping) {
            self.forget(path);
        }
        Ok(end)
    }

    /// Returns when every mount has been tried once.
    pub async fn settled(&self) {
        let mut changes = self.changes.subscribe();
        let all = async {
            while self.states().values().any(|s| s.word == "starting") {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(START_MAX, all).await;
    }

    /// Ends all mounts; returns when they are gone.
    pub async fn stop(&self) {
        let mut changes = self.changes.subscribe();
        self.stopping.send_replace(true);
        let all = async {
            while self.states().values().any(|s| s.pid != 0) && changes.changed().await.is_ok() {}
        };
        let _ = timeout(STOP_MAX + Duration::from_millis(500), all).await;
    }
}

/// Returns when krgd is being stopped.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|s| *s).await;
}

/// Passes a process's last words on to our own, and keeps them.
async fn pass_on(err: tokio::process::ChildStderr) -> String {
    let mut lines = BufReader::new(err).lines();
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{line}");
        last = line.strip_prefix("krgd: ").unwrap_or(&line).to_owned();
    }
    last
}

/// Takes a mount out of the tree and tells its process to end. One that sessions still look at
/// (`krg exec` has a mount of its own of it) goes on serving them, and ends with the last.
async fn retire(path: &Path, process: &Arc<PidFd>) -> Result<()> {
    clear(path)?;
    let process = process.clone();
    let wait = tokio::task::spawn_blocking(move || {
        let _ = process.signal(Signal::SIGTERM);
        let _ = process.wait_end(STOP_MAX);
    });
    Ok(wait.await?)
}

/// Tells when a process that is no child of ours has ended. A thread waits for it: it may wait
/// for years, and holds up nothing when krgd ends.
fn end_of(process: &Arc<PidFd>) -> oneshot::Receiver<()> {
    let (tx, rx) = oneshot::channel();
    let process = process.clone();
    std::thread::spawn(move || {
        while process.wait_end(Duration::from_secs(3_600)).is_ok_and(|ended| !ended) {}
        let _ = tx.send(());
    });
    rx
}

/// The type of what is mounted exactly here.
fn covered(path: &Path) -> Option<String> {
    top_at(path).ok().flatten().map(|m| m.fs_type)
}

/// A view may cover a procfs, which is what it takes the place of, and nothing else.
fn is_busy(path: &Path) -> bool {
    covered(path).is_some_and(|fs_type| fs_type != "proc")
}

fn is_ours(path: &Path) -> bool {
    covered(path).as_deref() == Some(FS_TYPE)
}

/// Takes away what dead mount processes left here.
fn clear(path: &Path) -> Result<()> {
    for _ in 0..MOUNTS_MAX {
        if !is_ours(path) {
            return Ok(());
        }
        let what = || format!("cannot unmount what is left on {}", path.display());
        umount_detach(path).with_context(what)?;
    }
    Ok(())
}
