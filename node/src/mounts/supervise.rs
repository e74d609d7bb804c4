//! One process after another at the same place.

use super::child::{self, end_of};
use super::kind::Kind;
use super::place::{self, clear, is_busy, is_ours, prepare, retire};
use super::record::{self, Record};
use super::{Mounts, Stage};
use anyhow::{Result, bail};
use krg_sys::process::{PidFd, Signal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;

/// Pauses before what died is started again: the first at once.
const PAUSES_MS: [u64; 5] = [0, 100, 500, 1_000, 5_000];

/// How a process ended.
enum End {
    /// Somebody unmounted it, or nobody wants it any more.
    Unmounted,
    /// It died.
    Died(String),
    /// krgd is being stopped.
    Stopping,
}

/// What is supervised.
struct Place<'a> {
    path: &'a Path,
    kind: Kind,
    serial: u64,
}

impl Mounts {
    /// Keeps one place until it is unmounted, or krgd ends. `resumed`: an earlier krgd has kept
    /// it, and nobody has asked this one for it.
    pub(super) async fn supervise(
        self: Arc<Self>,
        path: PathBuf,
        kind: Kind,
        serial: u64,
        mut resumed: bool,
    ) {
        let place = Place { path: &path, kind, serial };
        let mut tries = 0;
        loop {
            match self.one_life(&place, resumed).await {
                Ok(End::Stopping) => return,
                Ok(End::Unmounted) => return self.forget(&path, serial),
                Ok(End::Died(why)) => {
                    tracing::warn!(path = %path.display(), %why, "mount ended");
                    self.failed(&place, why);
                    // It had been mounted: begin anew with the short pauses.
                    tries = 0;
                }
                Err(e) => {
                    tracing::warn!(path = %path.display(), error = %format!("{e:#}"), "no mount");
                    self.failed(&place, format!("{e:#}"));
                    tries += 1;
                }
            }
            resumed = false;
            let pause = PAUSES_MS[tries.min(PAUSES_MS.len() - 1)];
            let mut stopping = self.stopping.subscribe();
            let stop = stopped(&mut stopping, kind);
            if timeout(Duration::from_millis(pause), stop).await.is_ok() {
                return self.forget(&path, serial);
            }
            if !self.is_current(&path, serial) {
                return;
            }
        }
    }

    fn failed(&self, place: &Place<'_>, why: String) {
        self.set(place.path, place.serial, |s| {
            s.pid = 0;
            s.word = "down";
            s.restarts += 1;
            s.why = why;
        });
    }

    /// From the start (or the adoption) of a process to its end.
    async fn one_life(&self, place: &Place<'_>, resumed: bool) -> Result<End> {
        let Place { path, kind, .. } = *place;
        let record = record::read(&self.records, path);
        let living = record.and_then(|r| Some((r.clone(), Arc::new(r.process()?))));
        if let Some((record, process)) = living {
            let fits = record.stamp == self.stamp && record.kind == kind;
            if fits && (kind.fs_type().is_none() || is_ours(kind, path)) {
                self.mounted(place, record.pid);
                return self.watch(place, process, None).await;
            }
            retire(record.kind, path, &process).await?;
        }
        clear(kind, path).await?;
        if kind.is_nested() {
            // Made when it is used, and where it is used: it is not missed before.
            let has_root = path.parent().is_some_and(place::is_root);
            if resumed || !has_root {
                return Ok(End::Unmounted);
            }
        }
        if is_busy(kind, path) {
            bail!("busy, something else is mounted here");
        }
        prepare(kind, path)?;
        let (child, process, record) =
            child::start(kind, path, self.config.as_deref(), &self.stamp).await?;
        record::write(&self.records, path, &record)?;
        self.mounted(place, record.pid);
        self.watch(place, process, Some(child)).await
    }

    fn mounted(&self, place: &Place<'_>, pid: u32) {
        let word = if place.kind.fs_type().is_some() { "mounted" } else { "running" };
        tracing::info!(path = %place.path.display(), pid, word);
        self.set(place.path, place.serial, |s| {
            s.pid = pid;
            s.word = word;
            s.why.clear();
        });
    }

    async fn watch(
        &self,
        place: &Place<'_>,
        process: Arc<PidFd>,
        child: Option<Child>,
    ) -> Result<End> {
        let Place { path, kind, serial } = *place;
        let mut stopping = self.stopping.subscribe();
        let end = tokio::select! {
            end = ended(kind, path, &process, child) => end?,
            () = stopped(&mut stopping, kind) => End::Stopping,
        };
        if !self.is_current(path, serial) {
            // Let go of: whoever looks at it still is served until he is done.
            let _ = process.signal(Signal::SIGTERM);
            return Ok(end);
        }
        if matches!(end, End::Stopping) {
            retire(kind, path, &process).await?;
        }
        record::remove(&self.records, path);
        clear(kind, path).await?;
        if matches!(end, End::Stopping) {
            self.forget(path, serial);
        }
        Ok(end)
    }

    /// Has the process of a mount that nobody is to have any more end.
    pub(super) fn release(self: &Arc<Self>, path: PathBuf) {
        let mounts = self.clone();
        tokio::spawn(async move {
            let Some(state) = mounts.state(&path) else { return };
            let record: Option<Record> = record::read(&mounts.records, &path);
            if let Some(process) = record.and_then(|r| r.process()) {
                let _ = retire(state.kind, &path, &Arc::new(process)).await;
            }
            mounts.forget(&path, state.serial);
        });
    }
}

/// Returns when the process has ended.
async fn ended(
    kind: Kind,
    path: &Path,
    process: &Arc<PidFd>,
    child: Option<Child>,
) -> Result<End> {
    let Some(mut child) = child else {
        // Not a child of this krgd, so its status is not known; its mount tells.
        let _ = end_of(process).await;
        let unmounted = kind.fs_type().is_some() && !is_ours(kind, path);
        return Ok(if unmounted { End::Unmounted } else { End::Died("ended".into()) });
    };
    let status = child.wait().await?;
    // A clean end is that of who was unmounted; what has no mount is never to end.
    let unmounted = status.success() && kind.fs_type().is_some();
    Ok(if unmounted { End::Unmounted } else { End::Died(status.to_string()) })
}

/// Returns when krgd is being stopped, and it is the turn of this kind.
async fn stopped(stopping: &mut watch::Receiver<Stage>, kind: Kind) {
    let _ = stopping.wait_for(|s| *s >= Stage::of(kind)).await;
}
