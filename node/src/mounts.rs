//! The processes that krgd keeps: mounts, each in a process of its own, and the file server. They
//! are started again when they died, and found again when krgd was restarted.

mod child;
mod demand;
mod kind;
mod place;
mod record;
mod supervise;

pub use kind::Kind;

use anyhow::{Context, Result, bail};
use child::START_MAX;
use krg_rpc::proto::control as wire;
use krg_types::limits::{MOUNTS_MAX, NODE_MOUNTS_MAX};
use place::STOP_MAX;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The name under which the file server is listed; it has no place.
const FILES: &str = "serve-files";

/// What is known of one process.
#[derive(Clone, Debug)]
struct State {
    kind: Kind,
    /// Tells it from earlier and later ones at the same place.
    serial: u64,
    pid: u32,
    word: &'static str,
    restarts: u32,
    why: String,
}

/// How far the end of krgd has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Running,
    /// What is mounted in another mount, and whatever stands alone, ends.
    Leaves,
    /// What others are mounted in ends.
    All,
}

impl Stage {
    /// When a process of this kind ends.
    fn of(kind: Kind) -> Stage {
        if matches!(kind, Kind::Mfs(_)) { Stage::All } else { Stage::Leaves }
    }
}

/// All of them.
pub struct Mounts {
    records: PathBuf,
    config: Option<PathBuf>,
    /// What a process must have been started with to be kept over a restart of krgd.
    stamp: String,
    states: Mutex<States>,
    changes: watch::Sender<u64>,
    stopping: watch::Sender<Stage>,
}

/// What is kept, by its place.
#[derive(Default)]
struct States {
    at: BTreeMap<PathBuf, State>,
    serial: u64,
}

impl States {
    fn insert(&mut self, path: &Path, kind: Kind) -> Result<u64> {
        if self.at.contains_key(path) {
            bail!("{}: already mounted here", path.display());
        }
        let most = if kind.is_nested() { NODE_MOUNTS_MAX } else { MOUNTS_MAX };
        let alike = self.at.values().filter(|s| s.kind.is_nested() == kind.is_nested());
        if alike.count() >= most {
            bail!("{most} mounts are all that one daemon serves");
        }
        self.serial += 1;
        let (serial, word, why) = (self.serial, "starting", String::new());
        let state = State { kind, serial, pid: 0, word, restarts: 0, why };
        self.at.insert(path.to_owned(), state);
        Ok(serial)
    }
}

impl Mounts {
    /// None yet. `stamp` changes when a process must be replaced.
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
            stopping: watch::Sender::new(Stage::Running),
        }))
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, path: &Path) -> Option<State> {
        self.states().at.get(path).cloned()
    }

    fn is_current(&self, path: &Path, serial: u64) -> bool {
        self.states().at.get(path).is_some_and(|s| s.serial == serial)
    }

    fn set(&self, path: &Path, serial: u64, edit: impl FnOnce(&mut State)) {
        if let Some(state) = self.states().at.get_mut(path).filter(|s| s.serial == serial) {
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
            kind: s.kind.word(),
        };
        states.at.iter().map(mount).collect()
    }

    /// Takes up what an earlier krgd left: living processes are kept, dead ones cleared and
    /// started again.
    pub fn resume(self: &Arc<Self>) {
        for (path, record) in record::all(&self.records) {
            let _ = self.begin(path, record.kind, true);
        }
    }

    /// Mounts something of this kind on `path` and keeps it there.
    ///
    /// # Errors
    /// When there are too many, or it is kept there already.
    pub fn keep(self: &Arc<Self>, path: PathBuf, kind: Kind) -> Result<()> {
        self.begin(path, kind, false)
    }

    /// Keeps this node's file server running.
    ///
    /// # Errors
    /// When it is kept already.
    pub fn keep_files(self: &Arc<Self>) -> Result<()> {
        self.begin(FILES.into(), Kind::Files, false)
    }

    fn begin(self: &Arc<Self>, path: PathBuf, kind: Kind, resumed: bool) -> Result<()> {
        if *self.stopping.borrow() != Stage::Running {
            bail!("krgd is ending");
        }
        let serial = self.states().insert(&path, kind)?;
        tokio::spawn(self.clone().supervise(path, kind, serial, resumed));
        Ok(())
    }

    /// As `keep`, for somebody who waits for it; nothing stays behind if it fails.
    ///
    /// # Errors
    /// With the reason, when it is not mounted in time.
    pub async fn mount_now(self: &Arc<Self>, path: PathBuf, kind: Kind) -> Result<u32> {
        if !path.is_absolute() {
            bail!("{}: not an absolute path", path.display());
        }
        if !path.is_dir() {
            bail!("{0}: no such directory (make it: mkdir -p {0})", path.display());
        }
        if place::is_busy(kind, &path) {
            bail!("{}: busy, something is mounted here", path.display());
        }
        self.let_go(&path);
        let mut changes = self.changes.subscribe();
        self.keep(path.clone(), kind)?;
        loop {
            match self.state(&path) {
                Some(s) if s.word == "mounted" => return Ok(s.pid),
                Some(s) if s.restarts > 0 => {
                    self.forget(&path, s.serial);
                    bail!("{}: {}", path.display(), s.why);
                }
                None => bail!("{}: unmounted again at once", path.display()),
                Some(_) => timeout(START_MAX * 2, changes.changed()).await??,
            }
        }
    }

    /// Forgets a mount that was taken out of the tree while somebody looked at it: its process
    /// goes on until he is done, and its place is free.
    fn let_go(&self, path: &Path) {
        let state = self.state(path).filter(|s| s.word == "mounted");
        if let Some(state) = state.filter(|s| !place::is_ours(s.kind, path)) {
            self.forget(path, state.serial);
        }
    }

    fn forget(&self, path: &Path, serial: u64) {
        if !self.is_current(path, serial) {
            return;
        }
        self.states().at.remove(path);
        record::remove(&self.records, path);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Returns when everything has been tried once.
    pub async fn settled(&self) {
        let mut changes = self.changes.subscribe();
        let all = async {
            while self.states().at.values().any(|s| s.word == "starting") {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(START_MAX, all).await;
    }

    /// Ends all of them, those first that are mounted in others; returns when they are gone.
    pub async fn stop(&self) {
        let mut changes = self.changes.subscribe();
        for stage in [Stage::Leaves, Stage::All] {
            self.stopping.send_replace(stage);
            let is_left =
                |s: &State| Stage::of(s.kind) <= stage && (s.pid != 0 || s.word == "starting");
            let all = async {
                while self.states().at.values().any(is_left) && changes.changed().await.is_ok() {}
            };
            let _ = timeout(STOP_MAX + Duration::from_millis(200), all).await;
        }
    }
}
