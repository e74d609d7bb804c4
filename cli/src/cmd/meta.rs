//! `krg meta` and `krg metrics`: backups of what the nodes have agreed on, and krgd's figures.

use super::cluster::say;
use crate::args::config::MetaCommand;
use crate::daemon::{self, AGREE_MAX, STATUS_MAX};
use anyhow::{Context, Result, bail};
use krg_rpc::proto::control::{BackupRequest, Piece, StatusRequest};
use krg_types::limits::{PROTOCOL_VERSION, SNAPSHOT_BYTES_MAX};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a file in one message.
const PIECE_BYTES: usize = 256 << 10;

/// Runs it; returns the exit code.
pub fn run(command: MetaCommand) -> Result<u8> {
    match command {
        MetaCommand::Backup { file, .. } if file == Path::new("-") => to_stdout(),
        MetaCommand::Backup { file, force } => to_file(&file, force),
        MetaCommand::Restore { file } => restore(file),
    }
}

/// Prints krgd's metrics.
pub fn metrics() -> Result<u8> {
    let question = StatusRequest { version: PROTOCOL_VERSION };
    let text = daemon::ask(STATUS_MAX, async |mut krgd| krgd.metrics(question).await)?.data;
    std::io::stdout().write_all(&text)?;
    Ok(0)
}

/// Writes a backup; returns its bytes.
async fn backup(to: &mut impl Write) -> Result<u64> {
    let mut krgd = daemon::connect().await?;
    let request = BackupRequest { version: PROTOCOL_VERSION };
    let asked = async { krgd.backup(request).await.map_err(|s| daemon::said(&s)) };
    let mut pieces = daemon::in_time(AGREE_MAX, asked).await?.into_inner();
    let mut bytes = 0;
    loop {
        let next = async { pieces.message().await.map_err(|s| daemon::said(&s)) };
        let Some(piece) = daemon::in_time(AGREE_MAX, next).await? else { break };
        to.write_all(&piece.data)?;
        bytes += piece.data.len() as u64;
    }
    if bytes == 0 {
        bail!("krgd sent nothing: there is no backup");
    }
    Ok(bytes)
}

fn to_stdout() -> Result<u8> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        bail!("a backup is not for a terminal: send it on, or name a file");
    }
    daemon::run(backup(&mut out))?;
    out.flush()?;
    Ok(0)
}

/// The file is there whole or not at all, whatever happens in between; only its owner reads it.
fn to_file(file: &Path, force: bool) -> Result<u8> {
    let name = file.display();
    if !force && file.symlink_metadata().is_ok() {
        bail!("{name} is there already (--force replaces it)");
    }
    let dir = match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let cannot = || format!("cannot write {name}");
    // Made with mode 0600, and removed when it is dropped.
    let mut temp = NamedTempFile::with_prefix_in(".krg-backup-", dir).with_context(cannot)?;
    let bytes = daemon::run(async {
        tokio::select! {
            bytes = backup(&mut temp) => bytes,
            _ = tokio::signal::ctrl_c() => bail!("interrupted: {name} was not written"),
        }
    })?;
    temp.as_file().sync_all().with_context(cannot)?;
    let kept = if force { temp.persist(file) } else { temp.persist_noclobber(file) };
    kept.map_err(|e| e.error).with_context(cannot)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(cannot)?;
    println!("{name}: {bytes} bytes");
    Ok(0)
}

fn restore(file: PathBuf) -> Result<u8> {
    let name = file.display();
    let done = daemon::run(async {
        if file == Path::new("-") {
            let input = std::io::stdin().as_fd().try_clone_to_owned()?;
            return send(tokio::fs::File::from_std(input.into())).await;
        }
        let open = tokio::fs::File::open(&file).await;
        let input = open.with_context(|| format!("cannot read {name}"))?;
        let about = input.metadata().await?;
        if !about.is_file() {
            bail!("{name} is no file");
        }
        if about.len() == 0 || about.len() > SNAPSHOT_BYTES_MAX {
            bail!("{name} is no backup: it has {} bytes", about.len());
        }
        send(input).await
    })?;
    say(&done);
    Ok(0)
}

/// Sends a backup to krgd.
async fn send(mut input: impl AsyncRead + Unpin) -> Result<krg_rpc::proto::control::Done> {
    let mut krgd = daemon::connect().await?;
    let (pieces, queue) = mpsc::channel(2);
    let answer = krgd.restore(ReceiverStream::new(queue));
    tokio::pin!(answer);
    // While `pieces` lives the stream has no end, so krgd never takes a part for the whole.
    tokio::select! {
        early = &mut answer => return Ok(early.map_err(|s| daemon::said(&s))?.into_inner()),
        fed = feed(&mut input, &pieces) => fed?,
    }
    drop(pieces);
    let answer = async { answer.await.map_err(|s| daemon::said(&s)) };
    Ok(daemon::in_time(daemon::JOIN_MAX, answer).await?.into_inner())
}

async fn feed(input: &mut (impl AsyncRead + Unpin), pieces: &mpsc::Sender<Piece>) -> Result<()> {
    let mut sent = 0;
    loop {
        let mut data = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut *input).take(PIECE_BYTES as u64).read_to_end(&mut data).await;
        if read.context("cannot read the backup")? == 0 {
            break;
        }
        sent += data.len() as u64;
        if sent > SNAPSHOT_BYTES_MAX {
            bail!("that is no backup: it has more than {SNAPSHOT_BYTES_MAX} bytes");
        }
        let piece = Piece { data, version: PROTOCOL_VERSION };
        let taken = async { Ok(pieces.send(piece).await.is_ok()) };
        if !daemon::in_time(AGREE_MAX, taken).await? {
            // krgd has given up: its answer says why.
            return std::future::pending().await;
        }
    }
    if sent == 0 {
        bail!("that is no backup: it is empty");
    }
    Ok(())
}
