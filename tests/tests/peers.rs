//! Members that speak garbage, another version, another cluster, or lie, and outsiders: refused,
//! and nothing else suffers. First real services and a real viewer in one process, over loopback;
//! then a lab.

mod peers {
    pub mod attacks;
    pub mod files;
    pub mod lab;
    pub mod lies;
    pub mod tls;
    pub mod world;
}

use krg_cluster::serve::Service;
use krg_procview::gather::{Gather, Standing};
use krg_rpc::peers::Peers;
use krg_rpc::pool;
use krg_rpc::proto::member::ProbeRequest;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_client::ProcViewClient;
use krg_rpc::proto::proc::proc_view_server::{ProcView, ProcViewServer};
use krg_rpc::tonic::{self, Code, Request, Response, Status, Streaming};
use krg_sys::clock::boot_ns;
use krg_types::PidFile;
use krg_types::limits::PROTOCOL_VERSION;
use peers::attacks;
use peers::lies::{self, Kind, Watched};
use peers::world::{CLUSTER, SOON, World, id, listen, service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

fn want(version: u32, cluster: &str) -> wire::Want {
    let cluster = cluster.into();
    wire::Want {
        version,
        cluster,
        id: 1,
        procs: true,
        files: 1,
        max_age_ms: 0,
        ..Default::default()
    }
}

#[tokio::test]
async fn another_version_and_another_cluster_are_refused() {
    let world = World::new(2);
    let address = world.honest(2).await;
    for (version, cluster) in [(PROTOCOL_VERSION + 2, CLUSTER), (PROTOCOL_VERSION, "other")] {
        let mut client = ProcViewClient::new(world.channel(1, 2, address));
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

        let mut member = MemberClient::new(world.channel(1, 2, address));
        let probe = ProbeRequest { version, cluster, from: 9, incarnation: 1 };
        let refusal = member.probe(probe).await.expect_err("it is refused");
        assert_eq!(refusal.code(), Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn hostile_questions_get_an_errno() {
    let world = World::new(2);
    let address = world.honest(2).await;
    let mut client = ProcViewClient::new(world.channel(1, 2, address));
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

/// Somebody else is served as before.
async fn serves_others(world: &World, address: SocketAddr) {
    let (_, gather) = world.viewer(&[(2, address)], 1).await;
    gather.refresh(None, true, 0, Duration::ZERO).await;
    let view = gather.view(id(2)).expect("it is known");
    assert!(!view.procs.is_empty(), "the node serves others as before");
}

#[tokio::test]
async fn garbage_and_giant_lengths_end_their_connection_only() {
    let world = World::new(3);
    let address = world.honest(2).await;
    // An outsider without TLS, one without papers, a member, one with another cluster's papers.
    attacks::plain_garbage(address).await;
    serves_others(&world, address).await;
    let strangers = World::new(3);
    for papers in [None, Some(world.papers(3)), Some(strangers.papers(3))] {
        attacks::garbage_in_tls(address, papers).await;
        serves_others(&world, address).await;
    }
    for (what, code) in attacks::wrong_bodies(&world.channel(3, 2, address)).await {
        // A subscription without a question is an empty answer.
        let empty = what.contains("Watch") && code == Code::Ok;
        assert!(empty || ![Code::Ok, Code::DeadlineExceeded].contains(&code), "{what}: {code:?}");
    }
    serves_others(&world, address).await;
}

#[tokio::test]
async fn an_outsider_gets_nothing() {
    let world = World::new(3);
    let address = world.honest(2).await;
    let probe = || ProbeRequest {
        version: PROTOCOL_VERSION,
        cluster: CLUSTER.to_owned(),
        from: 3,
        incarnation: 1,
    };
    let member = world.channel(3, 2, address);
    MemberClient::new(member).probe(probe()).await.expect("a member is answered");
    let strangers = World::new(3);
    let mut papers = strangers.papers(3).clone();
    papers.authorities.push(world.papers(2).authorities[0].clone());
    let stranger = pool::secure_channel(
        address.to_string(),
        world.papers(2).member,
        papers.credentials().expect("good papers"),
    );
    let nobody = pool::pinned_channel(address.to_string(), world.ca.fingerprint());
    for channel in [stranger, nobody] {
        let refusal = MemberClient::new(channel.clone()).probe(probe()).await;
        let refusal = refusal.expect_err("it is refused");
        let refused = [Code::PermissionDenied, Code::Unavailable, Code::Unknown];
        assert!(refused.contains(&refusal.code()), "{refusal:?}");
        let ask = wire::LiveRequest {
            version: PROTOCOL_VERSION,
            cluster: CLUSTER.into(),
            pid: std::process::id(),
            file: PidFile::Comm.id(),
            ..Default::default()
        };
        let refusal = ProcViewClient::new(channel).live(ask).await.expect_err("it is refused");
        assert!(refused.contains(&refusal.code()), "{refusal:?}");
    }
    serves_others(&world, address).await;
}

#[tokio::test]
async fn an_outsider_in_a_members_place_is_not_taken_for_it() {
    let (world, strangers) = (World::new(3), World::new(3));
    let (good, bad) = (world.honest(2).await, strangers.honest(3).await);
    let (members, gather) = world.viewer(&[(2, good), (3, bad)], 1).await;
    gather.refresh(None, true, 1, Duration::ZERO).await;
    assert!(!gather.view(id(2)).expect("known").procs.is_empty());
    assert!(gather.view(id(3)).expect("known").procs.is_empty(), "no stranger is shown");
    let why = why(&members, 3, "authority").await;
    assert!(why.contains("not signed by an authority of this cluster"), "{why}");
    assert_eq!(gather.standing(id(3)), Standing::Down);
}

/// Why a node is not believed, once the reason has this word in it.
async fn why(members: &krg_cluster::Members, node: u32, word: &str) -> String {
    let mut last = String::new();
    let told = async {
        while !last.contains(word) {
            last = members.member(id(node)).expect("it is known").why;
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(SOON, told).await;
    assert!(told.is_ok(), "it is not noticed: {last}");
    last
}

#[tokio::test]
async fn a_lying_node_is_dropped_and_the_others_are_shown() {
    let world = World::new(3);
    for lie in lies::all(3) {
        let (name, is_online) = (lie.name, lie.kind.is_online());
        let good = world.honest(2).await;
        let (listener, bad) = listen().await;
        let (papers, told) = (world.papers(3).clone(), Arc::new(AtomicU32::new(0)));
        let count = told.clone();
        let liar = tokio::spawn(async move { lies::tell(lie, &papers, listener, count).await });
        let online = if is_online { 2 } else { 1 };
        let (members, gather) = world.viewer(&[(2, good), (3, bad)], online).await;
        let begun = Instant::now();
        gather.refresh(None, true, 1, Duration::ZERO).await;
        assert!(begun.elapsed() < Duration::from_millis(950), "{name}: in time");
        assert!(!gather.view(id(2)).expect("known").procs.is_empty(), "{name}");
        assert!(gather.view(id(3)).expect("known").procs.is_empty(), "{name}: it is shown");
        assert_eq!(gather.standing(id(2)), Standing::Online, "{name}");
        if !is_online {
            assert_eq!(gather.standing(id(3)), Standing::Down, "{name}");
        }
        let heard = async {
            while told.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await
            }
        };
        assert!(tokio::time::timeout(SOON, heard).await.is_ok(), "{name}: nobody heard it");
        assert!(members.member(id(3)).is_some(), "{name}: it stays a member");
        liar.abort();
    }
}

#[tokio::test]
async fn a_node_of_another_number_is_not_taken_for_the_one_that_was_called() {
    let world = World::new(7);
    // Member 7 answers where member 2 is called.
    let members = world.members(&[(2, world.honest(7).await)]);
    let said = why(&members, 2, "7").await;
    assert!(said.contains("membership 7.7 answers where 2.2 was called"), "{said}");
    let gather = Gather::start(members, Duration::from_secs(60));
    assert_eq!(gather.standing(id(2)), Standing::Down);
    // Member 2 answers, and says that it is node 7.
    let (listener, address) = listen().await;
    let papers = world.papers(2).clone();
    let lie = lies::Lie { name: "", kind: Kind::Probe(PROTOCOL_VERSION, 7) };
    tokio::spawn(async move { lies::tell(lie, &papers, listener, Arc::default()).await });
    let members = world.members(&[(2, address)]);
    let said = why(&members, 2, "7").await;
    assert!(said.contains("node 2") && said.contains("not one of us"), "{said}");
    let gather = Gather::start(members, Duration::from_secs(60));
    assert_eq!(gather.standing(id(2)), Standing::Down);
}

/// Clocks of before a boot are ahead of those after it.
#[tokio::test]
async fn a_node_that_was_booted_again_is_asked_again() {
    const UP_NS: u64 = 10 * 86_400 * 1_000_000_000;
    let world = World::new(2);
    let machine = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number");
    let before = Service { boot_ns: || boot_ns() + UP_NS, ..service(2) };
    let frame = wire::Frame {
        full: true,
        procs_stamp_ns: boot_ns() + UP_NS,
        procs: vec![wire::Proc { pid: 5, ..Default::default() }],
        ..Default::default()
    };
    let view = ProcViewServer::new(Watched { frame, told: Arc::default() });
    {
        let _inside = machine.enter();
        listener.set_nonblocking(true).expect("it can");
        let listener = TcpListener::from_std(listener).expect("a listener");
        world.serve(2, before, view, listener);
    }
    let (_members, gather) = world.viewer(&[(2, address)], 1).await;
    gather.refresh(None, true, 0, Duration::ZERO).await;
    assert_eq!(gather.view(id(2)).expect("known").procs.len(), 1);
    machine.shutdown_background();
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    world.honest_at(2, listener);
    let again = async {
        while gather.view(id(2)).expect("known").procs.len() < 2 {
            gather.refresh(None, true, 0, Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(SOON, again).await.is_ok(), "its processes of before are shown");
}

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

#[tokio::test]
async fn a_slow_pass_is_not_taken_for_silence_but_silence_is() {
    let world = World::new(2);
    for working in [true, false] {
        let (listener, address) = listen().await;
        world.serve(2, service(2), ProcViewServer::new(Slow(working)), listener);
        let (members, gather) = world.viewer(&[(2, address)], 1).await;
        let mut changes = members.changes();
        changes.mark_unchanged();
        gather.refresh(None, true, 0, Duration::ZERO).await;
        // Silence was seen as a change for the worse; a probe may have mended it since.
        assert_eq!(changes.has_changed().expect("it lives"), !working, "working: {working}");
    }
}
