//! Peers that speak garbage, another version, another cluster, or lie: refused, and nothing else
//! suffers. Real services and a real viewer in one process, over loopback.

use krg_cluster::serve::Identity;
use krg_cluster::{Members, probe};
use krg_procview::gather::{Gather, Standing};
use krg_procview::live::Live;
use krg_procview::sample::Sampler;
use krg_procview::serve;
use krg_rpc::peers::Peers;
use krg_rpc::pool;
use krg_rpc::proto::member::ProbeRequest;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::member::member_server::MemberServer;
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_client::ProcViewClient;
use krg_rpc::proto::proc::proc_view_server::{ProcView, ProcViewServer};
use krg_rpc::tonic::{self, Code, Request, Response, Status, Streaming};
use krg_sys::clock::boot_ns;
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::{NodeId, PidFile};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;

const CLUSTER: &str = "test";
const SOON: Duration = Duration::from_secs(5);

fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("a node's number")
}

fn identity(node: u32) -> Identity {
    let cluster = CLUSTER.into();
    let hostname = format!("n{node}");
    Identity { node: id(node), cluster, hostname, incarnation: 1, boot_ns, members: None }
}

fn procfs() -> Arc<Procfs> {
    Arc::new(Procfs::open(HidePid::default()).expect("/proc opens"))
}

/// An honest node with this process's machine behind it.
async fn honest(node: u32) -> SocketAddr {
    let facts = wire::NodeFacts { node, cpus: 2, ticks_per_s: 100, ..Default::default() };
    let view = serve::Service {
        cluster: CLUSTER.into(),
        facts,
        sampler: Sampler::new(procfs()),
        live: Live::start(procfs()).expect("threads start"),
    };
    serve_on(node, serve::server(view)).await
}

async fn serve_on<T: ProcView>(node: u32, view: ProcViewServer<T>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its number");
    let server = pool::server()
        .add_service(MemberServer::new(identity(node)))
        .add_service(view)
        .serve_with_incoming(pool::incoming(listener));
    tokio::spawn(server);
    address
}

/// A viewer at node 1 of these nodes, once it has seen `online` of them.
async fn viewer(nodes: &[(NodeId, SocketAddr)], online: usize) -> (Arc<Members>, Arc<Gather>) {
    let members = Arc::new(Members::new(id(1), CLUSTER, nodes));
    let mut changes = members.changes();
    tokio::spawn(probe::run(members.clone(), boot_ns, Duration::from_secs(1)));
    let seen = async { while members.online() < online && changes.changed().await.is_ok() {} };
    tokio::time::timeout(SOON, seen).await.expect("they answer");
    let gather = Gather::start(members.clone(), Duration::from_secs(60));
    (members, gather)
}

fn want(version: u32, cluster: &str) -> wire::Want {
    let cluster = cluster.into();
    wire::Want { version, cluster, id: 1, procs: true, files: 1, max_age_ms: 0 }
}

#[tokio::test]
async fn another_version_and_another_cluster_are_refused() {
    let address = honest(2).await;
    for (version, cluster) in [(PROTOCOL_VERSION + 1, CLUSTER), (PROTOCOL_VERSION, "other")] {
        let mut client = ProcViewClient::new(pool::channel(address));
        let (tx, rx) = tokio::sync::mpsc::channel(1);
        tx.send(want(version, cluster)).await.expect("room");
        let mut frames =
            client.watch(ReceiverStream::new(rx)).await.expect("it opens").into_inner();
        let refusal = frames.message().await.expect_err("it is refused");
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");

        let cluster = cluster.to_owned();
        let ask = wire::LiveRequest { version, cluster: cluster.clone(), ..Default::default() };
        let refusal = client.live(ask).await.expect_err("it is refused");
        assert_eq!(refusal.code(), Code::FailedPrecondition);

        let mut member = MemberClient::new(pool::channel(address));
        let refusal = member.probe(ProbeRequest { version, cluster, from: 9 }).await;
        assert_eq!(refusal.expect_err("it is refused").code(), Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn hostile_questions_get_an_errno() {
    let address = honest(2).await;
    let mut client = ProcViewClient::new(pool::channel(address));
    let good = wire::LiveRequest {
        version: PROTOCOL_VERSION,
        cluster: CLUSTER.into(),
        pid: std::process::id(),
        file: PidFile::Comm.id(),
        ..Default::default()
    };
    let reply = client.live(good.clone()).await.expect("it answers").into_inner();
    assert_eq!(reply.errno, 0, "the question that the bad ones are made of is good");
    let bad = [
        (wire::LiveRequest { file: 63, ..good.clone() }, 22),
        (wire::LiveRequest { file: u32::MAX, ..good.clone() }, 22),
        (wire::LiveRequest { entry: "../../environ".into(), ..good.clone() }, 22),
        (wire::LiveRequest { entry: "..".into(), ..good.clone() }, 22),
        (wire::LiveRequest { entry: "x".repeat(300), ..good.clone() }, 22),
        (wire::LiveRequest { groups: vec![7; 70_000], ..good.clone() }, 22),
        (wire::LiveRequest { pid: 0, ..good.clone() }, 3),
        (wire::LiveRequest { pid: u32::MAX, ..good.clone() }, 3),
        (wire::LiveRequest { start_ticks: 1, ..good.clone() }, 3),
        (wire::LiveRequest { tid: u32::MAX, ..good.clone() }, 2),
    ];
    for (ask, errno) in bad {
        let shown = format!("{ask:?}").chars().take(200).collect::<String>();
        let reply = client.live(ask).await.expect("it answers").into_inner();
        assert_eq!(reply.errno, errno, "{shown}");
    }
}

/// An HTTP/2 connection that announces a message of 1 GiB to ProcView.Live.
fn giant() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let mut out = u32::try_from(body.len()).expect("small").to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(body);
        out
    };
    // HPACK (RFC 7541): indexed :method POST and :scheme http, then literals.
    let mut headers = vec![0x83, 0x86];
    let mut literal = |name: &str, value: &str| {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).expect("short"));
            headers.extend(text.as_bytes());
        }
    };
    literal(":path", "/krg.proc.v1.ProcView/Live");
    literal(":authority", "x");
    literal("content-type", "application/grpc");
    literal("te", "trailers");
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(4, 0, 0, &[]));
    out.extend(frame(1, 4, 1, &headers));
    // gRPC: not compressed, 2^30 bytes follow.
    out.extend(frame(0, 0, 1, &[0, 0x40, 0, 0, 0, 1, 2, 3]));
    out
}

#[tokio::test]
async fn garbage_and_giant_lengths_end_their_connection_only() {
    let address = honest(2).await;
    let texts: [Vec<u8>; 4] = [
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        giant(),
    ];
    for text in texts {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may hang up before all of it is sent.
        let _ = stream.write_all(&text).await;
        let mut answer = vec![0; 1 << 16];
        let n = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("no silence");
        // An error frame or the end: never the wait for a gigabyte.
        drop(n);
        let (_, gather) = viewer(&[(id(2), address)], 1).await;
        gather.refresh(None, true, 0, Duration::ZERO).await;
        let view = gather.view(id(2)).expect("it is known");
        assert!(!view.procs.is_empty(), "the node serves others as before");
    }
}

/// A node that answers every Want with what it was told to.
struct Liar(wire::Frame);

#[tonic::async_trait]
impl ProcView for Liar {
    type WatchStream = ReceiverStream<Result<wire::Frame, Status>>;

    async fn watch(
        &self,
        wants: Request<Streaming<wire::Want>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        let (mut wants, frame) = (wants.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Ok(Some(want)) = wants.message().await {
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

#[tokio::test]
async fn a_lying_node_is_dropped_and_the_others_are_shown() {
    let proc = |pid| wire::Proc { pid, ..Default::default() };
    let lies = [
        wire::Frame { procs: vec![proc(0)], ..Default::default() },
        wire::Frame { procs: vec![proc(1 << 22)], ..Default::default() },
        wire::Frame {
            procs: vec![wire::Proc { stat: Some(vec![b'x'; 1 << 20]), ..proc(5) }],
            ..Default::default()
        },
        wire::Frame {
            facts: Some(wire::NodeFacts { node: 1, cpus: 4, ..Default::default() }),
            ..Default::default()
        },
        wire::Frame {
            facts: Some(wire::NodeFacts { node: 3, cpus: u32::MAX, ..Default::default() }),
            ..Default::default()
        },
        // Beyond the bound of one message.
        wire::Frame {
            procs: vec![wire::Proc { stat: Some(vec![b'x'; 9 << 20]), ..proc(5) }],
            ..Default::default()
        },
    ];
    for lie in lies {
        let good = honest(2).await;
        let bad = serve_on(3, ProcViewServer::new(Liar(lie))).await;
        let (members, gather) = viewer(&[(id(2), good), (id(3), bad)], 2).await;
        let begun = std::time::Instant::now();
        gather.refresh(None, true, 1, Duration::ZERO).await;
        assert!(begun.elapsed() < Duration::from_millis(950), "in time");
        assert!(!gather.view(id(2)).expect("known").procs.is_empty());
        assert!(gather.view(id(3)).expect("known").procs.is_empty(), "no lie is shown");
        let told = members.list().into_iter().any(|m| m.id == id(3));
        assert!(told);
    }
}

#[tokio::test]
async fn a_node_of_another_number_is_not_taken_for_the_one_configured() {
    let other = honest(7).await;
    let members = Arc::new(Members::new(id(1), CLUSTER, &[(id(2), other)]));
    tokio::spawn(probe::run(members.clone(), boot_ns, Duration::from_secs(1)));
    let told = async {
        loop {
            let why = members.list().remove(0).why;
            if why.contains('7') {
                return why;
            }
            tokio::task::yield_now().await;
        }
    };
    let why = tokio::time::timeout(SOON, told).await.expect("it is noticed");
    assert!(why.contains("node 2") && why.contains("not one of us"), "{why}");
    let gather = Gather::start(members, Duration::from_secs(60));
    assert_eq!(gather.standing(id(2)), Standing::Down);
}

#[tokio::test]
async fn a_slow_pass_is_not_taken_for_silence_but_silence_is() {
    /// Says that it works on it, again and again, or nothing at all.
    struct Slow(bool);

    #[tonic::async_trait]
    impl ProcView for Slow {
        type WatchStream = ReceiverStream<Result<wire::Frame, Status>>;

        async fn watch(
            &self,
            _: Request<Streaming<wire::Want>>,
        ) -> Result<Response<Self::WatchStream>, Status> {
            let (tx, rx) = tokio::sync::mpsc::channel(1);
            let working = self.0;
            tokio::spawn(async move {
                let mut period = tokio::time::interval(Duration::from_millis(100));
                while !tx.is_closed() {
                    period.tick().await;
                    if working {
                        let frame = wire::Frame { more: true, ..Default::default() };
                        let _ = tx.send(Ok(frame)).await;
                    }
                }
            });
            Ok(Response::new(ReceiverStream::new(rx)))
        }

        async fn live(
            &self,
            _: Request<wire::LiveRequest>,
        ) -> Result<Response<wire::LiveReply>, Status> {
            std::future::pending().await
        }
    }
    for working in [true, false] {
        let address = serve_on(2, ProcViewServer::new(Slow(working))).await;
        let (members, gather) = viewer(&[(id(2), address)], 1).await;
        let mut changes = members.changes();
        changes.mark_unchanged();
        gather.refresh(None, true, 0, Duration::ZERO).await;
        // Silence was seen as a change for the worse; a probe may have mended it since.
        assert_eq!(changes.has_changed().expect("it lives"), !working, "working: {working}");
    }
}
