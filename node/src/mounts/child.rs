//! Starting a process, and hearing of its end.

use super::kind::Kind;
use super::record::Record;
use anyhow::{Context, Result, bail};
use krg_sys::process::{PidFd, Signal};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A process has so long to say that it is ready.
pub const START_MAX: Duration = Duration::from_secs(5);

/// Starts one, and waits until it is ready.
///
/// # Errors
/// With its last words, when it does not get ready.
pub async fn start(
    kind: Kind,
    path: &Path,
    config: Option<&Path>,
    stamp: &str,
) -> Result<(Child, Arc<PidFd>, Record)> {
    // The program that runs, also when a newer one has taken its place on the disk.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("krgd");
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.args(kind.args(path));
    // fuser has a buffer of 16 MiB for each thread, of which hardly anything is used: with huge
    // pages all of it would be in memory, once more for each mount.
    command.env("MIMALLOC_ALLOW_THP", "0");
    // Of its own process group: a Ctrl-C for krgd is not one for it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(false);
    command.stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start the process")?;
    let pid = child.id().context("the process ended at once")?;
    let process = PidFd::open(pid)?.context("the process ended at once")?;
    let start = krg_sys::process::start_time(pid)?.context("the process ended")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut said = BufReader::new(out.context("no pipe")?).lines();
    let log = tokio::spawn(pass_on(err.context("no pipe")?));
    match timeout(START_MAX, said.next_line()).await {
        Ok(Ok(Some(line))) if line == kind.ready() => {}
        Ok(_) => bail!("{}", log.await.unwrap_or_default().trim()),
        Err(_) => {
            let _ = process.signal(Signal::SIGKILL);
            bail!("the process does not get ready");
        }
    }
    let record = Record { pid, start, stamp: stamp.to_owned(), kind };
    Ok((child, Arc::new(process), record))
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

/// Tells when a process that is no child of ours has ended. A thread waits for it: it may wait
/// for years, and holds up nothing when krgd ends.
pub fn end_of(process: &Arc<PidFd>) -> oneshot::Receiver<()> {
    let (tx, rx) = oneshot::channel();
    let process = process.clone();
    std::thread::spawn(move || {
        while process.wait_end(Duration::from_secs(3_600)).is_ok_and(|ended| !ended) {}
        let _ = tx.send(());
    });
    rx
}
