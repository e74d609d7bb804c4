//! Has krgd mount a node's tree. Who asks while the same is under way waits for that.

use krg_rpc::local;
use krg_rpc::proto::control::MountNodeRequest;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_types::NodeId;
use krg_types::limits::PROTOCOL_VERSION;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

/// krgd gives up earlier.
const ASK_MAX: Duration = Duration::from_secs(10);

/// What comes of it: nothing, or an errno.
pub type Outcome = Result<(), i32>;
/// A question to krgd.
type Asking = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// Asks for one node.
type Ask = Arc<dyn Fn(NodeId) -> Asking + Send + Sync>;
/// The questions that have no answer yet.
type UnderWay = Mutex<BTreeMap<NodeId, watch::Receiver<Option<Outcome>>>>;

/// Has trees mounted.
#[derive(Clone)]
pub struct Mounter {
    under_way: Arc<UnderWay>,
    ask: Ask,
    runtime: Handle,
}

impl Mounter {
    /// Asks the krgd at `socket` to mount in the directory `root`.
    pub fn new(runtime: Handle, socket: PathBuf, root: PathBuf) -> Mounter {
        let root = root.to_string_lossy().into_owned();
        Mounter::by(
            runtime,
            Arc::new(move |node| Box::pin(krgd(socket.clone(), root.clone(), node))),
        )
    }

    fn by(runtime: Handle, ask: Ask) -> Mounter {
        Mounter { under_way: Arc::default(), ask, runtime }
    }

    /// Begins, if it is not under way. What the value says in the end is what came of it.
    pub fn start(&self, node: NodeId) -> watch::Receiver<Option<Outcome>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was closed without an answer is not under way any more.
        if let Some(outcome) = under_way.get(&node).filter(|o| o.has_changed().is_ok()) {
            return outcome.clone();
        }
        let (send, outcome) = watch::channel(None);
        under_way.insert(node, outcome.clone());
        let asking = (self.ask)(node);
        let under_way = self.under_way.clone();
        self.runtime.spawn(async move {
            let said = timeout(ASK_MAX, asking).await.unwrap_or(Err(libc::EIO));
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
            send.send_replace(Some(said));
        });
        outcome
    }

    /// Returns when it is mounted, or cannot be.
    pub async fn mount(&self, node: NodeId) -> Outcome {
        let mut outcome = self.start(node);
        let said = outcome.wait_for(Option::is_some).await;
        // An end without a word is a panic.
        said.ok().and_then(|said| *said).unwrap_or(Err(libc::EIO))
    }
}

async fn krgd(socket: PathBuf, root: String, node: NodeId) -> Outcome {
    let failed = |why: &dyn std::fmt::Display| {
        tracing::warn!(%node, error = %why, "not mounted");
        libc::EIO
    };
    let channel = local::connect(&socket).await.map_err(|e| failed(&e))?;
    let ask = MountNodeRequest { version: PROTOCOL_VERSION, node: node.get(), root };
    let reply = ControlClient::new(channel).mount_node(ask).await;
    let reply = reply.map_err(|e| failed(&krg_rpc::status::why(&e)))?;
    if reply.into_inner().down { Err(libc::EHOSTDOWN) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn who_asks_meanwhile_waits_for_the_same_answer() {
        let node = |n| NodeId::new(n).unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let (go, gone) = watch::channel(false);
        let count = asked.clone();
        let ask: Ask = Arc::new(move |node: NodeId| {
            count.fetch_add(1, Ordering::Relaxed);
            let mut gone = gone.clone();
            Box::pin(async move {
                let _ = gone.wait_for(|go| *go).await;
                if node.get() == 2 { Ok(()) } else { Err(libc::EHOSTDOWN) }
            })
        });
        let mounter = Mounter::by(Handle::current(), ask);
        mounter.start(node(2));
        let (one, two, three) =
            (mounter.mount(node(2)), mounter.mount(node(2)), mounter.mount(node(3)));
        let release = async { go.send_replace(true) };
        let (one, two, three, _) = tokio::join!(one, two, three, release);
        assert_eq!((one, two, three), (Ok(()), Ok(()), Err(libc::EHOSTDOWN)));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(mounter.mount(node(2)).await, Ok(()));
        assert_eq!(asked.load(Ordering::Relaxed), 3, "an answer is not kept");
    }
}
