//! A part of the agreed configuration as another process of this node has it: from krgd, as it
//! changes. While krgd is away the last one stays.

use super::agreed::Agreed;
use crate::config::Config;
use anyhow::{Context, Result};
use krg_rpc::local;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{ConfigEvent, ConfigGetRequest, ConfigWatchRequest};
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// krgd is asked again so much later when it was not there.
const RETRY: Duration = Duration::from_millis(200);
/// The first answer comes within this.
const FIRST_MAX: Duration = Duration::from_secs(4);

struct Feed {
    socket: PathBuf,
    prefix: &'static str,
    send: watch::Sender<Arc<Agreed>>,
}

/// What is agreed under keys that begin with `prefix`, from now on.
///
/// # Errors
/// When krgd does not answer.
pub async fn start(
    config: &Config,
    prefix: &'static str,
) -> Result<watch::Receiver<Arc<Agreed>>> {
    let (send, receive) = watch::channel(Arc::default());
    let feed = Feed { socket: config.run_dir.join("krgd.sock"), prefix, send };
    let first = timeout(FIRST_MAX, feed.all()).await;
    first.context("krgd does not tell what is agreed")??;
    tokio::spawn(async move {
        while !feed.send.is_closed() {
            if let Err(e) = feed.follow().await {
                tracing::debug!(error = %e, "no configuration from krgd now");
            }
            sleep_until(Instant::now() + RETRY).await;
        }
    });
    Ok(receive)
}

impl Feed {
    async fn client(&self) -> Result<ControlClient<krg_rpc::tonic::transport::Channel>> {
        let client = ControlClient::new(local::connect(&self.socket).await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Takes all of it; as of which revision.
    async fn all(&self) -> Result<u64> {
        let ask = ConfigGetRequest {
            version: PROTOCOL_VERSION,
            key: self.prefix.into(),
            prefix: true,
            linearizable: false,
        };
        let reply = self.client().await?.config_get(ask).await?.into_inner();
        let agreed: Agreed = reply.pairs.into_iter().map(|p| (p.key, p.value)).collect();
        self.tell(agreed);
        Ok(reply.revision)
    }

    fn tell(&self, agreed: Agreed) {
        self.send.send_if_modified(|now| {
            let changed = **now != agreed;
            *now = Arc::new(agreed);
            changed
        });
    }

    /// Follows it until krgd is gone, or has to tell all of it again.
    async fn follow(&self) -> Result<()> {
        let from = self.all().await? + 1;
        let (version, key, prefix) = (PROTOCOL_VERSION, self.prefix.into(), true);
        let ask = ConfigWatchRequest { version, key, prefix, from };
        let mut events = self.client().await?.config_watch(ask).await?.into_inner();
        while let Some(event) = events.message().await? {
            let ConfigEvent { key, value, gap, .. } = event;
            if gap {
                return Ok(());
            }
            let mut agreed = Agreed::clone(&self.send.borrow());
            match value {
                Some(value) => agreed.insert(key, value),
                None => agreed.remove(&key),
            };
            self.tell(agreed);
        }
        Ok(())
    }
}
