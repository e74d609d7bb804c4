//! Who sees his node's own numbers in the view (SEE_LOCAL_PROC_STAT), as a mount knows it.

use crate::config::Config;
use krg_migrate::caps::Whose;
use krg_migrate::lineage::{Looking, boot};
use krg_migrate::place;
use krg_procview::fs::Sight;
use krg_procview::fs::brief::STANDS;
use krg_rpc::local;
use krg_rpc::proto::capability as wire;
use krg_rpc::proto::capability::capability_commands_client::CapabilityCommandsClient;
use krg_rpc::tonic::Status;
use krg_sys::caller::Asker;
use krg_sys::procfs::Procfs;
use krg_types::Capability::SeeLocalProcStat;
use krg_types::capability::Sets;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

/// krgd is asked again so much later when it was not there.
const RETRY: Duration = Duration::from_millis(200);

/// Until then.
const FORGOTTEN: Duration = Duration::from_millis(2 * STANDS.as_millis() as u64);

/// It.
pub struct Local {
    node: u32,
    boot: u32,
    procfs: Arc<Procfs>,
    jobs: PathBuf,
    socket: PathBuf,
    /// Somebody may.
    any: AtomicBool,
    kept: RwLock<HashMap<Whose, Sets>>,
}

impl Sight for Local {
    fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    fn is_local(&self, asker: &Asker) -> bool {
        // What everybody pays.
        self.any.load(Ordering::Acquire) && self.has(asker)
    }
}

impl Local {
    /// Follows what krgd says of it from now on.
    pub fn start(config: &Config, node: u32, procfs: Arc<Procfs>) -> Arc<Local> {
        let local = Arc::new(Local {
            node,
            boot: boot(&procfs),
            procfs,
            jobs: config.run_dir.join("jobs"),
            socket: config.run_dir.join("krgd.sock"),
            any: AtomicBool::new(false),
            kept: RwLock::default(),
        });
        let following = local.clone();
        tokio::spawn(async move {
            loop {
                if let Err(e) = following.follow().await {
                    tracing::debug!(error = %e, "krgd does not tell of capabilities now");
                }
                sleep_until(Instant::now() + RETRY).await;
            }
        });
        local
    }

    fn has(&self, asker: &Asker) -> bool {
        let Some(pid) = asker.tgid(&self.procfs) else { return false };
        let (node, boot, procfs) = (self.node, self.boot, &*self.procfs);
        let jobs = place::all(&self.jobs);
        let Some(subject) = (Looking { node, boot, procfs, jobs: &jobs }).at(pid) else {
            return false;
        };
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let sets = subject.lineage.sets(|whose| kept.get(whose).copied());
        sets.effective.has(SeeLocalProcStat)
    }

    async fn follow(&self) -> Result<(), Status> {
        let channel = local::connect(&self.socket).await;
        let channel = channel.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut client =
            CapabilityCommandsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (say, said) = mpsc::channel(4);
        let mut lists = client.follow(ReceiverStream::new(said)).await?.into_inner();
        while let Some(list) = lists.message().await? {
            let revision = list.revision;
            if self.take(list) {
                // The kernel forgets what it was told while nobody might.
                sleep_until(Instant::now() + FORGOTTEN).await;
            }
            let known = wire::Known { version: PROTOCOL_VERSION, revision };
            if say.send(known).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether it is now that somebody may for the first time.
    fn take(&self, list: wire::Kept) -> bool {
        let pairs = list.pairs.iter();
        let kept = pairs.filter_map(|p| Some((Whose::parse(&p.key)?, Sets::parse(&p.value)?)));
        let kept: HashMap<Whose, Sets> = kept.collect();
        let sees = |sets: &Sets| {
            [sets.effective, sets.inheritable_effective].iter().any(|s| s.has(SeeLocalProcStat))
        };
        let any = kept.values().any(sees);
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
        !self.any.swap(any, Ordering::AcqRel) && any
    }
}
