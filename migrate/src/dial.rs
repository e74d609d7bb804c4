//! The way from a job's home to where it is, for as long as it is away.

use crate::cluster::Cluster;
use crate::holder::LinkEvent;
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::proto::job::{Frame, Hello, frame};
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Between attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// An attempt takes no longer.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// Keeps a connection with whoever has the job, until `tell` wants no more.
pub async fn follow(
    cluster: Arc<dyn Cluster>,
    job: u32,
    tell: impl Fn(LinkEvent) -> bool + Send + Sync,
) {
    loop {
        match connect(&cluster, job, &tell).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(why) => tracing::debug!(job, why, "no connection with where it is"),
        }
        sleep_until(Instant::now() + AGAIN).await;
    }
}

async fn connect(
    cluster: &Arc<dyn Cluster>,
    job: u32,
    tell: &(impl Fn(LinkEvent) -> bool + Send + Sync),
) -> Result<bool, String> {
    let words = |e: std::io::Error| e.to_string();
    let (record, _) = cluster.record(job).await.map_err(words)?;
    let record = record.ok_or("nothing is known of it")?;
    if let Some(why) = record.why_lost() {
        let _ = tell(LinkEvent::Lost(why));
        return Ok(false);
    }
    let holder = record.holder;
    if holder == cluster.own() {
        return Ok(tell(LinkEvent::Astray));
    }
    let channel = cluster.channel(holder).await.map_err(words)?;
    let (say, said) = unbounded_channel();
    // For krgd there, which does not hand it on.
    let hello =
        Hello { version: PROTOCOL_VERSION, cluster: cluster.name().await.map_err(words)?, job };
    let _ = say.send(Frame { what: Some(frame::What::Hello(hello)), ..Frame::default() });
    let mut client = MovesClient::new(channel);
    let link = timeout(ATTEMPT_MAX, client.link(UnboundedReceiverStream::new(said))).await;
    let link = link.map_err(|_| "it does not answer")?;
    let mut frames = link.map_err(|status| krg_rpc::status::why(&status))?.into_inner();
    if !tell(LinkEvent::Up(holder, say)) {
        return Ok(false);
    }
    while let Ok(Some(frame)) = frames.message().await {
        if !tell(LinkEvent::Came(frame)) {
            return Ok(false);
        }
    }
    Ok(tell(LinkEvent::Down))
}
