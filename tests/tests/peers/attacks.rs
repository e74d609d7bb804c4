//! Everything that a caller can do to a node: raw bytes, whole requests that no message was made
//! into, and well-formed messages with bad contents.

use crate::peers::tls;
use krg_cluster::ca::{csr, new_key};
use krg_cluster::identity::Identity;
use krg_rpc::proto::join::JoinRequest;
use krg_rpc::proto::join::join_client::JoinClient;
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::member::{GoodbyeRequest, PowerOffRequest, ProbeRequest, RenewRequest};
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_client::ProcViewClient;
use krg_rpc::proto::raft as proto;
use krg_rpc::proto::raft::raft_client::RaftClient;
use krg_rpc::tonic::body::Body;
use krg_rpc::tonic::codegen::{Service, http};
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::{Code, Response, Status};
use krg_types::MemberId;
use krg_types::limits::{
    BATCH_COMMANDS_MAX, CERTIFICATE_BYTES_MAX, GROUP_MAIN, PROTOCOL_VERSION,
};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Every method that other nodes can call.
const METHODS: [&str; 15] = [
    "/krg.join.v1.Join/Join",
    "/krg.join.v1.Join/Readmit",
    "/krg.member.v1.Member/Probe",
    "/krg.member.v1.Member/Renew",
    "/krg.member.v1.Member/Goodbye",
    "/krg.member.v1.Member/PowerOff",
    "/krg.proc.v1.ProcView/Watch",
    "/krg.proc.v1.ProcView/Live",
    "/krg.order.v1.Orders/Signal",
    "/krg.raft.v1.Raft/Append",
    "/krg.raft.v1.Raft/Vote",
    "/krg.raft.v1.Raft/Snapshot",
    "/krg.raft.v1.Raft/Propose",
    "/krg.raft.v1.Raft/ReadIndex",
    "/krg.raft.v1.Raft/AuthorityKeys",
];
/// An answer comes within this, whatever was asked.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What was asked, and the code of the answer.
pub type Told = (String, Code);

/// Who asks whom.
pub struct Target {
    /// The cluster's name.
    pub cluster: String,
    /// The one who asks, by its certificate or because it says so.
    pub own: MemberId,
    /// The one who is asked.
    pub to: MemberId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// An HTTP/2 connection that announces a message of 1 GiB to ProcView.Live.
pub fn giant() -> Vec<u8> {
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

/// What is sent where HTTP/2 (or TLS, if `plain`) should be.
pub fn garbage() -> [Vec<u8>; 5] {
    [
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        // The beginning of a TLS handshake of 16 KiB.
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec(),
        giant(),
    ]
}

/// Bytes without TLS: each connection is answered or ended, and never waits for more.
pub async fn plain_garbage(address: SocketAddr) {
    for text in garbage() {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may hang up before all of it is sent.
        let _ = stream.write_all(&text).await;
        let mut answer = vec![0; 1 << 16];
        let end = async { while stream.read(&mut answer).await.is_ok_and(|n| n > 0) {} };
        let first = text.iter().take(12).collect::<Vec<_>>();
        assert!(timeout(ANSWER_MAX, end).await.is_ok(), "it is left open: {first:?}");
    }
}

/// Requests to every method that no message was made into: 1 GiB announced, garbage, nothing.
pub async fn wrong_bodies(channel: &Channel) -> Vec<Told> {
    let bodies = ["\0\x40\0\0\0\x01\x02\x03", "\0\0\0\0\x04\x7f\x7f\x7f\x7f", "", "\0\0", "<p>"];
    let mut told = Vec::new();
    for method in METHODS.into_iter().chain(["/krg.proc.v1.ProcView/None", "/none"]) {
        for body in bodies {
            let name = format!("{method} {body:?}");
            let answer = timeout(ANSWER_MAX, raw(channel.clone(), method, body)).await;
            told.push((name, answer.unwrap_or(Code::DeadlineExceeded)));
        }
    }
    told
}

/// The gRPC status that a request with this body gets.
async fn raw(mut channel: Channel, method: &str, body: &str) -> Code {
    let request = http::Request::post(format!("http://x{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body.to_owned()))
        .expect("a request");
    let ready = poll_fn(|cx| Service::<http::Request<Body>>::poll_ready(&mut channel, cx));
    if ready.await.is_err() {
        return Code::Unavailable;
    }
    let Ok(answer) = channel.call(request).await else { return Code::Unavailable };
    // A refusal is the head of the answer; a stream that has begun tells at its end.
    match Status::from_header_map(answer.headers()) {
        Some(status) => status.code(),
        None => at_the_end(answer).await,
    }
}

async fn at_the_end(answer: http::Response<Body>) -> Code {
    let mut grpc = krg_rpc::tonic::Streaming::new_response(
        NoMessage,
        answer.into_body(),
        http::StatusCode::OK,
        None,
        None,
    );
    match grpc.message().await {
        Err(status) => status.code(),
        Ok(_) => Code::Ok,
    }
}

/// Reads a message as nothing: only the status counts.
struct NoMessage;

impl krg_rpc::tonic::codec::Decoder for NoMessage {
    type Item = ();
    type Error = Status;

    fn decode(
        &mut self,
        _: &mut krg_rpc::tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

/// Notes how one question was answered.
async fn ask<T>(
    told: &mut Vec<Told>,
    name: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) {
    let code = match timeout(ANSWER_MAX, call).await {
        Ok(Ok(_)) => Code::Ok,
        Ok(Err(status)) => status.code(),
        Err(_) => Code::DeadlineExceeded,
    };
    told.push((name.to_owned(), code));
}

/// Well-formed messages with bad contents. None of them may be answered well.
pub async fn wrong_questions(target: &Target, channel: &Channel) -> Vec<Told> {
    let mut told = wrong_calls(target, channel).await;
    told.extend(wrong_raft(target, channel).await);
    told
}

async fn wrong_calls(target: &Target, channel: &Channel) -> Vec<Told> {
    let mut told = Vec::new();
    let (version, cluster) = (PROTOCOL_VERSION, target.cluster.clone());
    let mut member = MemberClient::new(channel.clone());
    let mut view = ProcViewClient::new(channel.clone());
    for (version, cluster) in [(version + 2, cluster.clone()), (version, "other".to_owned())] {
        let probe = ProbeRequest { version, cluster: cluster.clone(), from: 9, incarnation: 1 };
        ask(&mut told, "probe", member.probe(probe)).await;
        let live = wire::LiveRequest { version, cluster: cluster.clone(), ..Default::default() };
        ask(&mut told, "live", view.live(live)).await;
        let off = PowerOffRequest { version, cluster, reboot: false };
        ask(&mut told, "power off", member.power_off(off)).await;
    }
    let another = MemberId::new(target.to.node().expect("a node"), target.to.serial() + 1);
    let bye = GoodbyeRequest { version, cluster: cluster.clone(), member: another.get() };
    ask(&mut told, "goodbye to another membership", member.goodbye(bye)).await;
    let key = new_key().expect("a key");
    let strange = csr(&key).expect("a request");
    for csr in [Vec::new(), vec![0x30; 64], vec![0; CERTIFICATE_BYTES_MAX + 1], strange.clone()] {
        let name = format!("renew with {} bytes", csr.len());
        let renew = RenewRequest { version, cluster: cluster.clone(), csr };
        ask(&mut told, &name, member.renew(renew)).await;
    }
    let good = JoinRequest {
        version,
        token_id: "0123456789".to_owned(),
        token_secret: "x".repeat(20),
        hostname: "evil".to_owned(),
        address: "10.0.0.1:7600".to_owned(),
        csr: strange,
        ..Default::default()
    };
    let long = || "x".repeat(5_000);
    let joins = [
        ("a token that nobody made", good.clone()),
        ("another version", JoinRequest { version: version + 2, ..good.clone() }),
        ("node 256", JoinRequest { node: 256, ..good.clone() }),
        ("no address", JoinRequest { address: String::new(), ..good.clone() }),
        ("a long name", JoinRequest { hostname: long(), ..good.clone() }),
        ("no request", JoinRequest { csr: Vec::new(), ..good.clone() }),
        ("garbage for a request", JoinRequest { csr: vec![1; 100], ..good }),
    ];
    for (name, request) in joins {
        let mut client = JoinClient::new(channel.clone());
        ask(&mut told, &format!("join: {name}"), client.join(request)).await;
    }
    told
}

async fn wrong_raft(target: &Target, channel: &Channel) -> Vec<Told> {
    let mut told = Vec::new();
    let mut raft = RaftClient::new(channel.clone());
    let right = proto::Envelope {
        version: PROTOCOL_VERSION,
        group: GROUP_MAIN,
        from: target.own.get(),
        to: target.to.get(),
    };
    let envelopes = [
        None,
        Some(proto::Envelope { version: PROTOCOL_VERSION + 2, ..right }),
        Some(proto::Envelope { group: GROUP_MAIN + 1, ..right }),
        Some(proto::Envelope { to: right.to + 256, ..right }),
        Some(proto::Envelope { from: right.to, ..right }),
        Some(proto::Envelope { from: 0, ..right }),
    ];
    let vote = proto::Vote { term: 1, member: target.own.get(), committed: false };
    for envelope in envelopes {
        let name = format!("{envelope:?}");
        let append = proto::AppendRequest { envelope, vote: Some(vote), ..Default::default() };
        ask(&mut told, &format!("append {name}"), raft.append(append)).await;
        let ballot = proto::VoteRequest { envelope, vote: Some(vote), last: None };
        ask(&mut told, &format!("vote {name}"), raft.vote(ballot)).await;
        let propose = proto::ProposeRequest { envelope, ..Default::default() };
        ask(&mut told, &format!("propose {name}"), raft.propose(propose)).await;
        let read = proto::ReadIndexRequest { envelope };
        ask(&mut told, &format!("read index {name}"), raft.read_index(read)).await;
        let keys = proto::AuthorityKeysRequest { envelope };
        ask(&mut told, &format!("keys {name}"), raft.authority_keys(keys)).await;
    }
    wrong_entries(&mut told, &mut raft, right, vote).await;
    told
}

/// Under the right envelope.
async fn wrong_entries(
    told: &mut Vec<Told>,
    raft: &mut RaftClient<Channel>,
    right: proto::Envelope,
    vote: proto::Vote,
) {
    let nobody = proto::Vote { member: 0, ..vote };
    let id = proto::LogId { term: 1, member: right.from, index: 1 };
    let entry = |payload: &[u8]| proto::Entry { id: Some(id), payload: payload.to_vec() };
    let entries = [
        proto::Entry { id: None, payload: Vec::new() },
        entry(&[]),
        entry(&[0xff; 64]),
        entry(&vec![0; 1 << 20]),
    ];
    let envelope = Some(right);
    for vote in [None, Some(nobody)] {
        let append = proto::AppendRequest { envelope, vote, ..Default::default() };
        ask(told, &format!("append by {vote:?}"), raft.append(append)).await;
        let ballot = proto::VoteRequest { envelope, vote, last: None };
        ask(told, &format!("vote for {vote:?}"), raft.vote(ballot)).await;
    }
    for entry in entries {
        let name = format!("append of {} bytes", entry.payload.len());
        let (vote, entries) = (Some(vote), vec![entry]);
        let append = proto::AppendRequest { envelope, vote, entries, ..Default::default() };
        ask(told, &name, raft.append(append)).await;
    }
    for commands in [vec![vec![0xff; 64]], vec![Vec::new(); BATCH_COMMANDS_MAX + 1]] {
        let name = format!("{} proposals", commands.len());
        let propose = proto::ProposeRequest { envelope, commands, timeout_ms: u32::MAX };
        ask(told, &name, raft.propose(propose)).await;
    }
    let first = proto::SnapshotPiece { envelope, vote: Some(vote), ..Default::default() };
    let garbage = proto::SnapshotPiece { meta: vec![0xff; 64], last: true, ..first.clone() };
    for pieces in [Vec::new(), vec![first], vec![garbage]] {
        let name = format!("a snapshot of {} bad pieces", pieces.len());
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        for piece in pieces {
            tx.send(piece).await.expect("room");
        }
        drop(tx);
        ask(told, &name, raft.snapshot(ReceiverStream::new(rx))).await;
    }
}

/// Bytes inside TLS that are no HTTP/2, or announce a gigabyte: an error frame or the end comes,
/// never the wait for it.
pub async fn garbage_in_tls(address: SocketAddr, papers: Option<&Identity>) {
    for text in garbage() {
        // One that is refused at once may learn it here or when it reads.
        let Ok(mut stream) = tls::connect(address, papers, tls::CONTROL).await else { continue };
        let _ = stream.write_all(&text).await;
        let _ = stream.flush().await;
        let mut answer = vec![0; 1 << 16];
        let first = text.iter().take(12).collect::<Vec<_>>();
        assert!(timeout(ANSWER_MAX, stream.read(&mut answer)).await.is_ok(), "silent: {first:?}");
    }
}
