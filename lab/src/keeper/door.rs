//! The keeper's socket: one request a connection, one reply.

use super::{Event, patience};
use crate::message::{LINE_BYTES_MAX, Reply, Request, line};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a request may take to come in.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// Takes connections until the keeper ends.
pub async fn serve(listener: UnixListener, events: mpsc::Sender<Event>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = free.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { return };
        let events = events.clone();
        tokio::spawn(async move {
            let _permit = permit;
            answer(stream, events).await;
        });
    }
}

async fn answer(mut stream: UnixStream, events: mpsc::Sender<Event>) {
    let (reading, mut writing) = stream.split();
    let mut text = Vec::new();
    let mut bounded = BufReader::new(reading.take(LINE_BYTES_MAX as u64));
    let read = timeout(REQUEST_MAX, bounded.read_until(b'\n', &mut text)).await;
    let reply = match (read, serde_json::from_slice::<Request>(&text)) {
        (Ok(Ok(_)), Ok(request)) => work(request, events).await,
        _ => Reply::Error("this is not a request that the keeper knows".into()),
    };
    // Who asked may have gone.
    let _ = writing.write_all(line(&reply).as_bytes()).await;
}

async fn work(request: Request, events: mpsc::Sender<Event>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let patience = patience(&request);
    if events.send(Event::Ask(request, reply)).await.is_err() {
        return Reply::Error("the lab is ending".into());
    }
    match timeout(patience, answer).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => Reply::Error("the lab is ending".into()),
        Err(_) => Reply::Error(format!("krgd is not ready after {} s", patience.as_secs())),
    }
}
