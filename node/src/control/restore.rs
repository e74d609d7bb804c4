//! Backups of what was agreed, and going on after a loss.

use super::{Answer, Answers, CHANGE_MAX, Service, done, failed};
use crate::life::{Station, Turn};
use krg_meta::command::{Command, Reply};
use krg_meta::snapshot;
use krg_meta::state::State;
use krg_meta::table::{config, nodes, sequences, sets};
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Status, Streaming};
use krg_types::limits::{PROTOCOL_VERSION, SNAPSHOT_BYTES_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes of one piece.
const PIECE_BYTES: usize = 256 << 10;
/// Changes that a restore has under way at once.
const CHANGES_MAX: usize = 512;

/// Everything this node's copy holds, as a snapshot's bytes.
pub fn backup(station: &Station) -> Result<Answers<wire::Piece>, Status> {
    let bytes = snapshot::encode(&station.meta.view());
    let bytes = bytes.map_err(|e| Status::internal(e.to_string()))?;
    let pieces: Vec<_> = bytes
        .chunks(PIECE_BYTES)
        .map(|data| Ok(wire::Piece { data: data.to_vec(), version: PROTOCOL_VERSION }))
        .collect();
    Ok(Box::pin(tokio_stream::iter(pieces)))
}

/// Brings back the configuration, the sets, the sequences and the map of a backup. Who is a member
/// and whom to trust stays as it is: keys of the past open nothing.
pub async fn restore(
    station: &Station,
    mut pieces: Streaming<wire::Piece>,
) -> Answer<wire::Done> {
    let mut bytes = Vec::new();
    let mut first = true;
    while let Some(piece) = pieces.message().await? {
        if std::mem::take(&mut first) {
            super::check_version(piece.version)?;
        }
        if (bytes.len() + piece.data.len()) as u64 > SNAPSHOT_BYTES_MAX {
            return Err(Status::resource_exhausted("this is longer than a backup can be"));
        }
        bytes.extend(piece.data);
    }
    let past = snapshot::decode(&bytes)
        .map_err(|e| Status::invalid_argument(format!("this is not a backup: {e}")))?;
    let commands = commands(&past.state, &station.meta.view().state);
    let count = commands.len();
    let room = Arc::new(Semaphore::new(CHANGES_MAX));
    let mut changes: JoinSet<Result<Reply, Status>> = JoinSet::new();
    for command in commands {
        let permit = room.clone().acquire_owned().await;
        let meta = station.meta.clone();
        changes.spawn(async move {
            let _permit = permit;
            meta.propose(command, CHANGE_MAX).await.map_err(failed)
        });
    }
    while let Some(change) = changes.join_next().await {
        change.map_err(|e| Status::internal(e.to_string()))??;
    }
    done(format!("{count} changes, as of revision {}", past.state.revision))
}

/// What makes `now` like `past`.
fn commands(past: &State, now: &State) -> Vec<Command> {
    let set = |key: &str, value: Option<&config::Text>| {
        let (key, value) = (key.to_owned(), value.map(|text| text.0.clone()));
        Command::Config(config::Command::Set { key, value, if_revision: None })
    };
    let mut all = Vec::new();
    let gone = now.config.iter().filter(|(key, _)| past.config.get(key).is_none());
    all.extend(gone.map(|(key, _)| set(key, None)));
    let other = |key: &str, value| now.config.get(key) != Some(value);
    let kept = past.config.iter().filter(|(key, row)| other(key, &row.value));
    all.extend(kept.map(|(key, row)| set(key, Some(&row.value))));
    let list = |name: &str, nodes: Option<String>| {
        Command::Sets(sets::Command::Set { name: name.to_owned(), nodes })
    };
    let gone = now.sets.iter().filter(|(name, _)| past.sets.get(name).is_none());
    all.extend(gone.map(|(name, _)| list(name, None)));
    all.extend(past.sets.iter().map(|(name, row)| list(name, Some(row.value.0.clone()))));
    for (name, row) in past.sequences.iter() {
        let next = now.sequences.get(name).map_or(1, |next| next.0);
        // Only forward: a number that was given out since is not given out again.
        if let Some(count) = row.value.0.checked_sub(next).filter(|count| *count > 0) {
            let name = name.to_owned();
            all.push(Command::Sequences(sequences::Command::Take { name, count }));
        }
    }
    let lines: Vec<_> = past.map.iter().map(|(_, row)| row.value.clone()).collect();
    if !lines.is_empty() {
        all.push(Command::Nodes(nodes::Command::Map { lines }));
    }
    all
}

/// This node goes on alone.
pub async fn recover(service: &Service, force: bool) -> Answer<wire::Done> {
    let station = &service.0;
    if !force {
        let words = "this ends the membership of every other node: say --force if they are lost";
        return Err(Status::failed_precondition(words));
    }
    if !station.meta.standing().stale {
        let words = "a majority of the voters answers: there is nothing to recover from";
        return Err(Status::failed_precondition(words));
    }
    service.turn(Turn::Survive).await?;
    done("this node goes on alone; the others have to join again, with tokens")
}
