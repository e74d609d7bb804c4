//! The shared configuration, by hand.

use super::{Answer, Answers, failed};
use crate::export::{self, agreed::PREFIX};
use crate::life::Station;
use krg_meta::command::{Command, Reply};
use krg_meta::published::View;
use krg_meta::table::config::{self, Text};
use krg_meta::table::{Change, Row, decode_row};
use krg_meta::watch::{Event, Notice};
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Response, Status};
use krg_types::limits::MESSAGE_BYTES_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A change without a time of its own may take so long, ms.
const TIMEOUT_MS: u32 = 8_000;
/// And with one, this at most.
const TIMEOUT_MS_MAX: u32 = 600_000;
/// Bytes of one answer.
const LIST_MAX: usize = MESSAGE_BYTES_MAX / 4 * 3;
/// Events that a slow reader may be behind before the feed keeps them.
const EVENTS_MAX: usize = 256;

/// One key, or those with a prefix.
pub async fn get(station: &Station, ask: wire::ConfigGetRequest) -> Answer<wire::ConfigReply> {
    let view = match ask.linearizable {
        true => station.meta.view_linearizable().await.map_err(failed)?,
        false => station.meta.view(),
    };
    let pairs = pairs(&view, &ask.key, ask.prefix);
    if pairs.iter().map(|pair| pair.key.len() + pair.value.len() + 32).sum::<usize>() > LIST_MAX {
        let words = "these are too many for one answer: ask for a longer prefix";
        return Err(Status::out_of_range(words));
    }
    let standing = station.meta.standing();
    Ok(Response::new(wire::ConfigReply {
        pairs,
        revision: view.state.revision,
        stale: standing.stale && !ask.linearizable,
        leader_age_ms: standing.leader_age.map(|age| age.as_millis() as u64),
    }))
}

fn pairs(view: &View, key: &str, prefix: bool) -> Vec<wire::ConfigPair> {
    let pair = |key: &str, row: &Row<Text>| wire::ConfigPair {
        key: key.to_owned(),
        value: row.value.0.clone(),
        revision: row.revision,
    };
    match prefix {
        true => view.state.config.with_prefix(key).map(|(k, row)| pair(k, row)).collect(),
        false => view.state.config.row(key).map(|row| pair(key, row)).into_iter().collect(),
    }
}

/// Sets a key or deletes it.
pub async fn set(station: &Station, ask: wire::ConfigSetRequest) -> Answer<wire::ConfigSetReply> {
    config::check_key(&ask.key).map_err(Status::invalid_argument)?;
    if let Some(value) = ask.value.as_deref().filter(|_| ask.key.starts_with(PREFIX)) {
        let agreed = pairs(&station.meta.view(), PREFIX, true);
        let agreed = agreed.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let own = station.home.identity().node;
        let checked = export::check(&station.config, own, agreed, &ask.key, value);
        checked.map_err(Status::invalid_argument)?;
    }
    let limit = match ask.timeout_ms {
        0 => TIMEOUT_MS,
        ms => ms.min(TIMEOUT_MS_MAX),
    };
    let wire::ConfigSetRequest { key, value, if_revision, at_once, .. } = ask;
    let command = Command::Config(config::Command::Set { key, value, if_revision });
    let limit = Duration::from_millis(limit.into());
    let (done, revision) = match station.meta.propose(command, limit).await.map_err(failed)? {
        Reply::Done(revision) => (true, revision),
        Reply::NotNow(revision) => (false, revision),
        other => return Err(Status::internal(format!("{other:?} is no answer to that"))),
    };
    // Whoever asks this node next sees what this node has said was done.
    if done && !at_once {
        station.meta.wait_revision(revision, limit).await.map_err(failed)?;
    }
    Ok(Response::new(wire::ConfigSetReply { revision, done }))
}

/// Changes of one key or of those with a prefix, each once, in order.
pub fn watch(station: Arc<Station>, ask: wire::ConfigWatchRequest) -> Answers<wire::ConfigEvent> {
    let (send, events) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        let matches = |key: &str| match ask.prefix {
            true => key.starts_with(&ask.key),
            false => key == ask.key,
        };
        let mut from = ask.from;
        if from == 0 {
            // What is there now, then what follows exactly that.
            let view = station.meta.view();
            if tell_all(&send, &view, &ask, false).await.is_err() {
                return;
            }
            from = view.state.revision + 1;
        }
        let mut subscription = station.meta.watch(from);
        loop {
            let notice = tokio::select! {
                notice = subscription.next() => notice,
                () = send.closed() => return,
                () = station.turns.closed() => return,
            };
            let told = match notice {
                Some(Notice::Event(event)) => tell(&send, &event, matches).await,
                Some(Notice::Gap { resume }) => tell_all(&send, &resume, &ask, true).await,
                None => return,
            };
            if told.is_err() {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(events))
}

type Sender = mpsc::Sender<Result<wire::ConfigEvent, Status>>;
type Gone = mpsc::error::SendError<Result<wire::ConfigEvent, Status>>;

/// What is there now.
async fn tell_all(
    send: &Sender,
    view: &View,
    ask: &wire::ConfigWatchRequest,
    gap: bool,
) -> Result<(), Gone> {
    let mut first = gap;
    if gap && pairs(view, &ask.key, ask.prefix).is_empty() {
        let revision = view.state.revision;
        let nothing = wire::ConfigEvent { revision, gap, ..wire::ConfigEvent::default() };
        send.send(Ok(nothing)).await?;
    }
    for pair in pairs(view, &ask.key, ask.prefix) {
        let wire::ConfigPair { key, value, revision } = pair;
        let gap = std::mem::take(&mut first);
        send.send(Ok(wire::ConfigEvent { revision, key, value: Some(value), gap })).await?;
    }
    Ok(())
}

async fn tell(send: &Sender, event: &Event, matches: impl Fn(&str) -> bool) -> Result<(), Gone> {
    let config = |c: &&Change| c.table == "config" && matches(&c.key);
    for change in event.changes.iter().filter(config) {
        // It was encoded by this very program a moment ago.
        let row = change.value.as_deref().and_then(|v| decode_row::<Text>(v).ok());
        let told = wire::ConfigEvent {
            revision: event.revision,
            key: change.key.clone(),
            value: row.map(|row| row.value.0),
            gap: false,
        };
        send.send(Ok(told)).await?;
    }
    Ok(())
}
