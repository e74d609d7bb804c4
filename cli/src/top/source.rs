//! What the viewer of this machine knows of the cluster, asked over its socket.

use crate::daemon;
use anyhow::{Result, anyhow, bail};
use krg_rpc::local;
use krg_rpc::proto::view::view_client::ViewClient;
use krg_rpc::proto::view::{SnapshotRequest, ViewNode, ViewProcess};
use krg_rpc::tonic::transport::Channel;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::view;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// The whole answer is there by then: the viewer waits a second for a node at most.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The cluster at one moment.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// Its name.
    pub cluster: String,
    /// Its members.
    pub nodes: Vec<ViewNode>,
    /// Their processes.
    pub processes: Vec<ViewProcess>,
}

/// The viewer of this machine, connected when it is asked.
pub struct Viewer {
    socket: PathBuf,
    client: Option<ViewClient<Channel>>,
}

impl Default for Viewer {
    /// It listens beside krgd.
    fn default() -> Viewer {
        Viewer { socket: daemon::socket().with_file_name(view::DOOR), client: None }
    }
}

impl Viewer {
    /// What is at most this old will do.
    ///
    /// # Errors
    /// When it is not there, refuses, or takes too long; the next question connects anew.
    pub async fn snapshot(&mut self, max_age: Duration) -> Result<Snapshot> {
        let asked = tokio::time::timeout(ANSWER_MAX, self.ask(max_age)).await;
        let asked = asked.unwrap_or_else(|_| {
            bail!("the viewer does not answer within {} s", ANSWER_MAX.as_secs())
        });
        if asked.is_err() {
            self.client = None;
        }
        asked
    }

    async fn ask(&mut self, max_age: Duration) -> Result<Snapshot> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let socket = &self.socket;
                let channel = local::connect(socket).await.map_err(|e| {
                    let (path, why) = (e.path.display(), e.why);
                    anyhow!("no viewer at {path}: {why} (is krgd running?)")
                })?;
                let client = ViewClient::new(channel);
                none.insert(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
            }
        };
        let ask = SnapshotRequest {
            version: PROTOCOL_VERSION,
            max_age_ms: u32::try_from(max_age.as_millis()).unwrap_or(u32::MAX),
            processes: true,
            ..SnapshotRequest::default()
        };
        let mut parts = client.snapshot(ask).await.map_err(|s| daemon::said(&s))?.into_inner();
        let mut all = Snapshot::default();
        while let Some(part) = parts.message().await.map_err(|s| daemon::said(&s))? {
            all.cluster = part.cluster.map_or(all.cluster, |cluster| cluster.name);
            all.nodes.extend(part.nodes);
            all.processes.extend(part.processes);
        }
        Ok(all)
    }
}

/// Asks at once, then once in each `delay` or when it is told to, until nobody listens. To be run
/// in a thread of its own: who draws never waits for an answer.
pub fn keep_asking<E: From<Result<Snapshot>>>(
    delay: Duration,
    mut now: UnboundedReceiver<()>,
    told: &Sender<E>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut viewer = Viewer::default();
        // The second look is a rate's: it does not wait for all of a long delay.
        let mut wait = delay.min(Duration::from_secs(1));
        while told.send(viewer.snapshot(delay / 2).await.into()).is_ok() {
            if let Ok(None) = tokio::time::timeout(wait, now.recv()).await {
                break;
            }
            wait = delay;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::proto::view::SnapshotPart;
    use krg_rpc::proto::view::view_server::{View, ViewServer};
    use krg_rpc::tonic::transport::Server;
    use krg_rpc::tonic::{self, Request, Response, Status};
    use std::pin::Pin;
    use tokio_stream::{Stream, StreamExt};

    /// Answers in parts, as many as it was made with.
    struct Parts(Vec<SnapshotPart>);

    #[tonic::async_trait]
    impl View for Parts {
        type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotPart, Status>> + Send>>;

        async fn snapshot(
            &self,
            ask: Request<SnapshotRequest>,
        ) -> Result<Response<Self::SnapshotStream>, Status> {
            assert_eq!(ask.into_inner().max_age_ms, 500);
            Ok(Response::new(Box::pin(tokio_stream::iter(self.0.clone()).map(Ok))))
        }
    }

    #[test]
    fn an_answer_in_parts_is_one_snapshot() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("view.sock");
            let socket = tokio::net::UnixListener::bind(&path).unwrap();
            let process = |pid| ViewProcess { pid, ..ViewProcess::default() };
            let some = |processes| SnapshotPart { processes, ..SnapshotPart::default() };
            let node = ViewNode { node: 3, ..ViewNode::default() };
            let parts = vec![
                SnapshotPart { nodes: vec![node], ..SnapshotPart::default() },
                some(vec![process(1), process(2)]),
                some(vec![process(3)]),
            ];
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(socket);
            let server = Server::builder().add_service(ViewServer::new(Parts(parts)));
            tokio::spawn(server.serve_with_incoming(incoming));
            let channel = local::connect(&path).await.unwrap();
            let client = Some(ViewClient::new(channel));
            let mut viewer = Viewer { socket: path, client };
            for _ in 0..2 {
                let all = viewer.snapshot(Duration::from_millis(500)).await.unwrap();
                let pids: Vec<u32> = all.processes.iter().map(|p| p.pid).collect();
                assert_eq!((all.nodes[0].node, pids), (3, vec![1, 2, 3]));
            }
            // Where nobody listens it is an error each time, and no wait.
            viewer.socket = dir.path().join("other.sock");
            viewer.client = None;
            for _ in 0..2 {
                assert!(viewer.snapshot(Duration::from_millis(500)).await.is_err());
            }
            assert!(viewer.client.is_none());
        });
    }
}
