//! What the tests of trust are made of: members with certificates, a server that says whom it
//! sees, and a proxy that sees what an eavesdropper would.

use krg_cluster::ca::{Ca, csr, new_key};
use krg_cluster::fingerprint;
use krg_rpc::pool;
use krg_rpc::proto::join::join_client::JoinClient;
use krg_rpc::proto::join::join_server::{Join, JoinServer};
use krg_rpc::proto::join::{JoinReply, JoinRequest};
use krg_rpc::proto::member::member_client::MemberClient;
use krg_rpc::proto::member::member_server::{Member, MemberServer};
use krg_rpc::proto::member::{
    GoodbyeReply, GoodbyeRequest, PowerOffReply, PowerOffRequest, ProbeReply, ProbeRequest,
    RenewReply, RenewRequest,
};
use krg_rpc::proto::proc::proc_view_client::ProcViewClient;
use krg_rpc::proto::proc::proc_view_server::{ProcView, ProcViewServer};
use krg_rpc::proto::proc::{Frame, LiveReply, LiveRequest, Want};
use krg_rpc::status::why;
use krg_rpc::tls::{Caller, CertificateDer, Credentials, Own, Roster, incoming, members_only};
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::transport::server::Router;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_types::{MemberId, NodeId};
use rustls::pki_types::UnixTime;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};

/// Nothing in these tests may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const DAY_S: u64 = 86_400;

pub fn now_s() -> u64 {
    UnixTime::now().as_secs()
}

pub fn authority() -> Ca {
    Ca::new("lab", now_s(), 3650).unwrap()
}

pub fn id(node: u32, serial: u64) -> MemberId {
    MemberId::new(NodeId::new(node).unwrap(), serial)
}

/// A member's key and certificate.
#[derive(Clone)]
pub struct Card {
    pub member: MemberId,
    pub own: Own,
    pub print: [u8; 32],
}

/// As signed at another time, for another span.
pub fn card_of(ca: &Ca, member: MemberId, signed_s: u64, lifetime_s: u64) -> Card {
    let key_pkcs8_der = new_key().unwrap();
    let request = csr(&key_pkcs8_der).unwrap();
    let der = ca.sign(&request, member, signed_s, lifetime_s).unwrap();
    let print = fingerprint::of(&krg_cluster::ca::public_key_of_key(&key_pkcs8_der).unwrap());
    let chain = vec![der.into(), CertificateDer::from(ca.certificate_der().to_vec())];
    Card { member, own: Own { chain, key_pkcs8_der }, print }
}

pub fn card(ca: &Ca, member: MemberId) -> Card {
    card_of(ca, member, now_s(), DAY_S)
}

pub fn roster(cards: &[&Card]) -> Roster {
    let mut roster = Roster::default();
    for card in cards {
        roster.members.entry(card.member).or_default().insert(card.print);
        roster.newest_serial = roster.newest_serial.max(card.member.serial());
    }
    roster
}

pub fn trusting(card: &Card, cas: &[&Ca], members: &[&Card]) -> Arc<Credentials> {
    Credentials::new(card.own.clone(), anchors(cas), roster(members)).unwrap()
}

pub fn anchors(cas: &[&Ca]) -> Vec<CertificateDer<'static>> {
    cas.iter().map(|ca| ca.certificate_der().to_vec().into()).collect()
}

/// Says whom it sees, and gives back what it is sent.
struct Echo;

#[tonic::async_trait]
impl Member for Echo {
    async fn probe(&self, ask: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let member = ask.extensions().get::<Caller>().and_then(|c| c.member);
        let hostname = member.map_or("nobody".to_owned(), |m| m.to_string());
        Ok(Response::new(ProbeReply { hostname, ..ProbeReply::default() }))
    }

    async fn renew(&self, ask: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Ok(Response::new(RenewReply { certificate: ask.into_inner().csr }))
    }

    async fn goodbye(
        &self,
        _ask: Request<GoodbyeRequest>,
    ) -> Result<Response<GoodbyeReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn power_off(
        &self,
        _ask: Request<PowerOffRequest>,
    ) -> Result<Response<PowerOffReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ProcView for Echo {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn watch(
        &self,
        _wants: Request<Streaming<Want>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let frames = tokio_stream::once(Ok(Frame::default())).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(frames)))
    }

    async fn live(&self, _ask: Request<LiveRequest>) -> Result<Response<LiveReply>, Status> {
        std::future::pending().await
    }
}

#[tonic::async_trait]
impl Join for Echo {
    async fn join(&self, ask: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let cluster = ask.into_inner().hostname;
        Ok(Response::new(JoinReply { cluster, ..JoinReply::default() }))
    }

    async fn readmit(&self, _ask: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn router() -> Router {
    pool::server()
        .add_service(MemberServer::with_interceptor(Echo, members_only))
        .add_service(ProcViewServer::with_interceptor(Echo, members_only))
        .add_service(JoinServer::new(Echo))
}

/// A node's server, until the test's runtime ends.
pub async fn serve(credentials: &Arc<Credentials>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = incoming(listener, credentials.clone());
    tokio::spawn(router().serve_with_incoming(connections));
    address
}

/// The same without TLS or anybody to keep out.
pub async fn serve_plainly() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = pool::server().add_service(MemberServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(pool::incoming(listener)));
    address
}

pub fn to(address: SocketAddr, member: MemberId, credentials: &Arc<Credentials>) -> Channel {
    pool::secure_channel(address.to_string(), member, credentials.clone())
}

/// A machine that is busy may miss a connect timeout, and a channel may not have read yet that
/// its connection ended: neither is what is tested here.
async fn insist<T, F: Future<Output = Result<Response<T>, Status>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, String> {
    let calls = async {
        loop {
            match call().await.map_err(|status| why(&status)) {
                Err(words) if words.starts_with("no connection to") => {}
                Err(words) if words == "connection closed" => {}
                result => return result.map(Response::into_inner),
            }
        }
    };
    timeout(PATIENCE, calls).await.expect("an answer")
}

/// Whom the server sees, or why the call failed.
pub async fn probe(channel: &Channel) -> Result<String, String> {
    let client = MemberClient::new(channel.clone());
    let ask = || {
        let mut client = client.clone();
        async move { client.probe(ProbeRequest::default()).await }
    };
    insist(ask).await.map(|reply| reply.hostname)
}

pub async fn echo(channel: &Channel, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let client = MemberClient::new(channel.clone());
    let ask = || {
        let (mut client, csr) = (client.clone(), bytes.to_vec());
        async move { client.renew(RenewRequest { csr, ..RenewRequest::default() }).await }
    };
    insist(ask).await.map(|reply| reply.certificate)
}

pub async fn join(channel: &Channel) -> Result<String, String> {
    let client = JoinClient::new(channel.clone());
    let ask = || {
        let mut client = client.clone();
        let hostname = "welcome".to_owned();
        async move { client.join(JoinRequest { hostname, ..JoinRequest::default() }).await }
    };
    insist(ask).await.map(|reply| reply.cluster)
}

/// Whether one attempt to join is answered at all.
pub async fn joins(channel: &Channel) -> bool {
    let mut client = JoinClient::new(channel.clone());
    timeout(PATIENCE, client.join(JoinRequest::default())).await.expect("an answer").is_ok()
}

/// An open stream that has brought its first frame and brings no other.
pub async fn stream(channel: &Channel) -> Streaming<Frame> {
    let mut client = ProcViewClient::new(channel.clone());
    let wants = tokio_stream::pending::<Want>();
    let frames = timeout(PATIENCE, client.watch(wants)).await.unwrap();
    let mut frames = frames.unwrap().into_inner();
    assert!(timeout(PATIENCE, frames.message()).await.unwrap().unwrap().is_some());
    frames
}

/// Sees everything on its way to a server.
pub struct Proxy {
    pub address: SocketAddr,
    /// All bytes of both directions.
    pub seen: Arc<Mutex<Vec<u8>>>,
    /// Connections that neither end has ended.
    pub open: watch::Receiver<usize>,
}

impl Proxy {
    /// Waits until so many connections are open.
    pub async fn opens(&mut self, n: usize) {
        let waited = timeout(PATIENCE, self.open.wait_for(|open| *open == n)).await;
        waited.unwrap_or_else(|_| panic!("{n} connections wanted")).unwrap();
    }
}

pub async fn proxy(server: SocketAddr) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (count, open) = watch::channel(0);
    let recorded = seen.clone();
    tokio::spawn(async move {
        let count = Arc::new(count);
        while let Ok((near, _)) = listener.accept().await {
            let (seen, count) = (recorded.clone(), count.clone());
            tokio::spawn(async move {
                let far = TcpStream::connect(server).await.unwrap();
                count.send_modify(|n| *n += 1);
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::select! {
                    () = pass(near_read, far_write, &seen) => {}
                    () = pass(far_read, near_write, &seen) => {}
                }
                count.send_modify(|n| *n -= 1);
            });
        }
    });
    Proxy { address, seen, open }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seen: &Mutex<Vec<u8>>,
) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        seen.lock().unwrap().extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
