//! The node's side of a view: answers each Want of a subscription with what has changed.

use crate::fill::fill;
use crate::live::Live;
use crate::sample::{Sampler, Wanted};
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_server::ProcView;
use krg_rpc::status::check_caller;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_sys::clock::boot_ns;
use krg_types::SystemFile;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Frames made ahead of a slow viewer: it holds no more memory than this.
const FRAMES_WAITING_MAX: usize = 2;

/// How often a viewer hears of this node while it waits for a long pass.
const WORKING_PERIOD: Duration = Duration::from_millis(150);

/// Serves views of this node's processes.
#[derive(Clone, Debug)]
pub struct Service {
    /// The cluster's name: others are refused.
    pub cluster: Arc<str>,
    /// What this node says of itself at the start of a subscription.
    pub facts: wire::NodeFacts,
    /// The samples.
    pub sampler: Arc<Sampler>,
    /// Single files.
    pub live: Arc<Live>,
}

/// What one viewer has been sent.
#[derive(Default)]
struct Sent {
    greeted: bool,
    pass: u64,
    versions: [u64; SystemFile::ALL.len()],
}

type Frames = ReceiverStream<Result<wire::Frame, Status>>;

#[tonic::async_trait]
impl ProcView for Service {
    type WatchStream = Frames;

    async fn watch(
        &self,
        wants: Request<Streaming<wire::Want>>,
    ) -> Result<Response<Frames>, Status> {
        let (tx, rx) = mpsc::channel(FRAMES_WAITING_MAX);
        tokio::spawn(self.clone().subscription(wants.into_inner(), tx));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn live(
        &self,
        ask: Request<wire::LiveRequest>,
    ) -> Result<Response<wire::LiveReply>, Status> {
        let ask = ask.into_inner();
        check_caller(&self.cluster, ask.version, &ask.cluster)?;
        Ok(Response::new(self.live.answer(ask).await))
    }
}

impl Service {
    /// Lives as long as the viewer's stream; every Want is one sample at most.
    async fn subscription(
        self,
        mut wants: Streaming<wire::Want>,
        frames: mpsc::Sender<Result<wire::Frame, Status>>,
    ) {
        let mut sent = Sent::default();
        while let Some(Ok(want)) = wants.next().await {
            if let Err(refusal) = check_caller(&self.cluster, want.version, &want.cluster) {
                let _ = frames.send(Err(refusal)).await;
                return;
            }
            let refresh = self.sampler.refresh(Wanted {
                procs: want.procs,
                files: want.files,
                max_age: Duration::from_millis(want.max_age_ms.into()),
                texts_max_age: Duration::from_millis(want.texts_max_age_ms.into()),
            });
            tokio::pin!(refresh);
            // A long pass is not silence: the viewer is told that it goes on.
            while tokio::time::timeout(WORKING_PERIOD, &mut refresh).await.is_err() {
                let working = wire::Frame { more: true, ..Default::default() };
                if frames.send(Ok(working)).await.is_err() {
                    return;
                }
            }
            for frame in self.frames(&want, &mut sent) {
                if frames.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What has changed since the last answer, in frames of bounded size.
    fn frames(&self, want: &wire::Want, sent: &mut Sent) -> Vec<wire::Frame> {
        self.sampler.with(|sample| {
            let mut frames = vec![wire::Frame { now_ns: boot_ns(), ..Default::default() }];
            let first = &mut frames[0];
            first.facts = (!sent.greeted).then(|| self.facts.clone());
            first.passes = sample.passes;
            sent.greeted = true;
            for file in SystemFile::ALL.into_iter().filter(|f| want.files & f.bit() != 0) {
                let have = &sample.files[file.id() as usize];
                let known = &mut sent.versions[file.id() as usize];
                let changed = *known != have.version;
                *known = have.version;
                first.files.push(wire::SystemFile {
                    id: file.id(),
                    stamp_ns: have.stamp_ns,
                    // Unchanged: the stamp alone. Not there: an empty text.
                    text: changed.then(|| have.text.clone().unwrap_or_default()),
                });
            }
            if want.procs {
                first.procs_stamp_ns = sample.procs_stamp_ns;
                first.list_stamp_ns = sample.list_stamp_ns;
                first.full = sample.table.needs_full(sent.pass);
                let since = if first.full { 0 } else { sent.pass };
                if since != 0 {
                    first.gone = sample.table.gone_since(since).collect();
                }
                fill(&mut frames, sample.table.changed_since(since), want.shared_texts);
                sent.pass = sample.table.last_pass();
            }
            let last = frames.len() - 1;
            for (i, frame) in frames.iter_mut().enumerate() {
                frame.more = i < last;
                frame.answers = if i == last { want.id } else { 0 };
            }
            frames
        })
    }
}

/// A server for it, with its bounds.
pub fn server(service: Service) -> wire::proc_view_server::ProcViewServer<Service> {
    // A Want is small; so is the question for one file, but for its list of groups.
    wire::proc_view_server::ProcViewServer::new(service)
        .max_decoding_message_size(512 << 10)
        .max_encoding_message_size(krg_types::limits::MESSAGE_BYTES_MAX)
}
