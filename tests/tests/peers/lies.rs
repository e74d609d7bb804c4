//! A member gone bad: it has real papers, takes the place of an honest node, and answers wrongly.

use krg_cluster::identity::Identity;
use krg_rpc::pool;
use krg_rpc::proto::member::member_server::{Member, MemberServer};
use krg_rpc::proto::member::{
    GoodbyeReply, GoodbyeRequest, PowerOffReply, PowerOffRequest, ProbeReply, ProbeRequest,
    RenewReply, RenewRequest,
};
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_server::{ProcView, ProcViewServer};
use krg_rpc::tls::{self, Credentials};
use krg_rpc::tonic::body::Body;
use krg_rpc::tonic::codegen::{Service, http};
use krg_rpc::tonic::server::NamedService;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_sys::clock::boot_ns;
use krg_types::limits::PROTOCOL_VERSION;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// One way to answer wrongly.
#[derive(Clone)]
pub struct Lie {
    /// What is wrong, for a failure's text.
    pub name: &'static str,
    /// How it is told.
    pub kind: Kind,
}

/// How a lie is told.
#[derive(Clone)]
pub enum Kind {
    /// Probes are answered well; this frame answers every Want.
    Frame(Box<wire::Frame>),
    /// Probes are answered well; this body answers every question for processes.
    Body(&'static str),
    /// Probes are answered with this version and this number.
    Probe(u32, u32),
    /// After the handshake come these bytes.
    Stream(Vec<u8>),
    /// There is no handshake, only these bytes.
    Plain(Vec<u8>),
}

impl Kind {
    /// A node that lies so answers probes like an honest one.
    pub fn is_online(&self) -> bool {
        matches!(self, Kind::Frame(_) | Kind::Body(_))
    }
}

/// All of them, for the node with this number.
pub fn all(node: u32) -> Vec<Lie> {
    let proc = |pid| wire::Proc { pid, ..Default::default() };
    let stat = |bytes| wire::Proc { stat: Some(vec![b'x'; bytes]), ..proc(5) };
    let procs = |proc| wire::Frame { procs: vec![proc], ..Default::default() };
    let facts = |node, cpus| wire::Frame {
        facts: Some(wire::NodeFacts { node, cpus, ..Default::default() }),
        ..Default::default()
    };
    let frames = [
        ("a process 0", procs(proc(0))),
        ("a pid that is none", procs(proc(1 << 22))),
        ("a line of 1 MiB", procs(stat(1 << 20))),
        ("facts of another node", facts(node % 3 + 1, 4)),
        ("four thousand million cpus", facts(node, u32::MAX)),
        ("a message beyond the bound", procs(stat(9 << 20))),
    ];
    let frames = frames.map(|(name, frame)| (name, Kind::Frame(Box::new(frame))));
    let others = [
        ("a frame that is garbage", Kind::Body("\0\0\0\0\x04\x7f\x7f\x7f\x7f")),
        // gRPC: not compressed, 2^30 bytes follow.
        ("a frame of 1 GiB", Kind::Body("\0\x40\0\0\0\x01\x02\x03")),
        ("no gRPC", Kind::Body("<html>")),
        ("another protocol version", Kind::Probe(PROTOCOL_VERSION + 2, node)),
        ("the number of another node", Kind::Probe(PROTOCOL_VERSION, 7)),
        ("garbage after the handshake", Kind::Stream(vec![0xff; 100_000])),
        ("nothing after the handshake", Kind::Stream(Vec::new())),
        ("garbage and no handshake", Kind::Plain(vec![0xff; 100_000])),
        ("HTTP without TLS", Kind::Plain(b"HTTP/1.0 200 OK\r\n\r\n".to_vec())),
    ];
    frames.into_iter().chain(others).map(|(name, kind)| Lie { name, kind }).collect()
}

/// Tells a lie to all who come, until dropped. `told` counts how often it was told: to answer a
/// probe well is no lie.
pub async fn tell(lie: Lie, papers: &Identity, listener: TcpListener, told: Arc<AtomicU32>) {
    let credentials = papers.credentials().expect("good papers");
    let honest =
        Liar { version: PROTOCOL_VERSION, node: papers.node.get(), told: Arc::default() };
    let honest = MemberServer::new(honest);
    let mut server = pool::server();
    let router = match lie.kind {
        Kind::Frame(frame) => {
            let view = ProcViewServer::new(Watched { frame: *frame, told });
            server.add_service(honest).add_service(view)
        }
        Kind::Body(text) => server.add_service(honest).add_service(RawView { text, told }),
        Kind::Probe(version, node) => {
            server.add_service(MemberServer::new(Liar { version, node, told }))
        }
        Kind::Stream(bytes) => return babble_in_tls(&bytes, credentials, listener, told).await,
        Kind::Plain(bytes) => return babble(&bytes, listener, told).await,
    };
    router.serve_with_incoming(tls::incoming(listener, credentials)).await.expect("it serves");
}

async fn babble_in_tls(
    bytes: &[u8],
    credentials: Arc<Credentials>,
    listener: TcpListener,
    told: Arc<AtomicU32>,
) {
    let mut incoming = tls::incoming(listener, credentials);
    while let Some(Ok(conn)) = incoming.next().await {
        told.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(say(conn, bytes.to_vec()));
    }
}

async fn babble(bytes: &[u8], listener: TcpListener, told: Arc<AtomicU32>) {
    while let Ok((tcp, _)) = listener.accept().await {
        told.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(say(tcp, bytes.to_vec()));
    }
}

/// Says it, and then listens until the other side has enough.
async fn say(mut conn: impl AsyncRead + AsyncWrite + Unpin, bytes: Vec<u8>) {
    let _ = conn.write_all(&bytes).await;
    let _ = conn.flush().await;
    let mut rest = [0; 4096];
    while conn.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}

/// Answers probes with what it was told to.
struct Liar {
    version: u32,
    node: u32,
    told: Arc<AtomicU32>,
}

fn never<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl Member for Liar {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        self.told.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(ProbeReply {
            version: self.version,
            node: self.node,
            hostname: "liar".to_owned(),
            incarnation: 77,
            boot_ns: boot_ns(),
            ..Default::default()
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        never()
    }

    async fn goodbye(
        &self,
        _: Request<GoodbyeRequest>,
    ) -> Result<Response<GoodbyeReply>, Status> {
        never()
    }

    async fn power_off(
        &self,
        _: Request<PowerOffRequest>,
    ) -> Result<Response<PowerOffReply>, Status> {
        never()
    }
}

/// Answers every Want with what it was told to.
pub struct Watched {
    /// The answer.
    pub frame: wire::Frame,
    /// How often it was given.
    pub told: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl ProcView for Watched {
    type WatchStream = ReceiverStream<Result<wire::Frame, Status>>;

    async fn watch(
        &self,
        wants: Request<Streaming<wire::Want>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        let (mut wants, frame) = (wants.into_inner(), self.frame.clone());
        let told = self.told.clone();
        tokio::spawn(async move {
            while let Ok(Some(want)) = wants.message().await {
                told.fetch_add(1, Ordering::Relaxed);
                let _ = tx.send(Ok(wire::Frame { answers: want.id, ..frame.clone() })).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn live(
        &self,
        _: Request<wire::LiveRequest>,
    ) -> Result<Response<wire::LiveReply>, Status> {
        Ok(Response::new(wire::LiveReply { errno: -7, ..Default::default() }))
    }
}

/// ProcView with a body that no message was made into.
#[derive(Clone)]
struct RawView {
    text: &'static str,
    told: Arc<AtomicU32>,
}

impl NamedService for RawView {
    const NAME: &'static str = "krg.proc.v1.ProcView";
}

impl Service<http::Request<Body>> for RawView {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.told.fetch_add(1, Ordering::Relaxed);
        let answer = http::Response::builder().header("content-type", "application/grpc");
        ready(Ok(answer.body(Body::new(self.text.to_owned())).expect("an answer")))
    }
}
