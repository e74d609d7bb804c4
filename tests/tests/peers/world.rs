//! Members with real papers in one process: honest nodes with this machine behind them, and
//! viewers of them, over TLS.

use krg_cluster::ca::{Ca, csr, new_key, public_key_of_key};
use krg_cluster::identity::{self, Founder, Identity};
use krg_cluster::probe::{self, Asking};
use krg_cluster::serve::Service;
use krg_cluster::{Members, fingerprint};
use krg_procview::gather::Gather;
use krg_procview::live::Live;
use krg_procview::sample::{NoJobs, Sampler};
use krg_procview::serve;
use krg_rpc::dial::Secure;
use krg_rpc::pool;
use krg_rpc::proto::member::member_server::MemberServer;
use krg_rpc::proto::proc as wire;
use krg_rpc::proto::proc::proc_view_server::{ProcView, ProcViewServer};
use krg_rpc::tls::{self, Credentials};
use krg_rpc::tonic::service::interceptor::InterceptedService;
use krg_rpc::tonic::transport::Channel;
use krg_sys::clock::{boot_ns, wall_ns};
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::{MemberId, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The cluster's name.
pub const CLUSTER: &str = "test";
/// What must happen happens within this.
pub const SOON: Duration = Duration::from_secs(5);
/// How long certificates last here, s.
const LIFETIME_S: u64 = 3_600;

pub fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("a node's number")
}

/// The membership of a node here: node 2 is member 2.2.
pub fn member(n: u32) -> MemberId {
    MemberId::new(id(n), n.into())
}

fn now_s() -> u64 {
    wall_ns() / 1_000_000_000
}

/// A cluster's members, as they are known to each other.
pub struct World {
    identities: Vec<Identity>,
    /// Its authority.
    pub ca: Ca,
}

impl World {
    /// Nodes 1 to `nodes`.
    pub fn new(nodes: u32) -> World {
        let made = identity::founder(CLUSTER, 1, id(1), "127.0.0.1:1", now_s());
        let (first, ca) = made.expect("keys are made");
        let mut identities: Vec<Identity> = (1..=nodes)
            .map(|n| match n {
                1 => first.clone(),
                n => another(&first, &ca, n),
            })
            .collect();
        let founders: Vec<Founder> = identities.iter().map(founder).collect();
        for identity in &mut identities {
            identity.founders = founders.clone();
            identity.newest_serial = nodes.into();
        }
        World { identities, ca }
    }

    /// A node's papers.
    pub fn papers(&self, node: u32) -> &Identity {
        &self.identities[node as usize - 1]
    }

    /// The same for TLS.
    pub fn credentials(&self, node: u32) -> Arc<Credentials> {
        self.papers(node).credentials().expect("good papers")
    }

    /// A channel of one node to another.
    pub fn channel(&self, from: u32, to: u32, address: SocketAddr) -> Channel {
        pool::secure_channel(address.to_string(), member(to), self.credentials(from))
    }

    /// An honest node with this process's machine behind it.
    pub async fn honest(&self, node: u32) -> SocketAddr {
        let (listener, address) = listen().await;
        self.honest_at(node, listener);
        address
    }

    /// The same at a place that is known already.
    pub fn honest_at(&self, node: u32, listener: TcpListener) {
        let procfs = Arc::new(Procfs::open(HidePid::default()).expect("/proc opens"));
        let facts = wire::NodeFacts { node, cpus: 2, ticks_per_s: 100, ..Default::default() };
        let view = serve::Service {
            cluster: CLUSTER.into(),
            facts,
            sampler: Sampler::new(procfs.clone(), NoJobs),
            live: Live::start(procfs).expect("threads start"),
        };
        self.serve(node, service(node), serve::server(view), listener);
    }

    /// A node that answers like this, to members only.
    pub fn serve<T: ProcView>(
        &self,
        node: u32,
        service: Service,
        view: ProcViewServer<T>,
        listener: TcpListener,
    ) {
        let server = pool::server()
            .add_service(InterceptedService::new(MemberServer::new(service), tls::members_only))
            .add_service(InterceptedService::new(view, tls::members_only))
            .serve_with_incoming(tls::incoming(listener, self.credentials(node)));
        tokio::spawn(server);
    }

    /// The member list of node 1, which probes these nodes.
    pub fn members(&self, nodes: &[(u32, SocketAddr)]) -> Arc<Members> {
        let dial = Arc::new(Secure(self.credentials(1)));
        let members = Arc::new(Members::new(id(1), CLUSTER, dial));
        let at = nodes.iter().map(|(n, address)| (member(*n), address.to_string()));
        members.set(&at.collect::<Vec<_>>());
        let asking = Asking { incarnation: 1, boot_ns, wall_ns };
        tokio::spawn(probe::run(members.clone(), asking, Duration::from_secs(1)));
        members
    }

    /// A viewer at node 1 of these nodes, once it has seen `online` of them.
    pub async fn viewer(
        &self,
        nodes: &[(u32, SocketAddr)],
        online: usize,
    ) -> (Arc<Members>, Arc<Gather>) {
        let members = self.members(nodes);
        let mut changes = krg_rpc::peers::Peers::changes(&*members);
        let seen =
            async { while members.online() < online && changes.changed().await.is_ok() {} };
        tokio::time::timeout(SOON, seen).await.expect("they answer");
        let gather = Gather::start(members.clone(), Duration::from_secs(60));
        (members, gather)
    }
}

/// What an honest node says of itself.
pub fn service(node: u32) -> Service {
    Service {
        node: id(node),
        cluster: CLUSTER.into(),
        hostname: format!("n{node}"),
        incarnation: 1,
        boot_ns,
        wall_ns,
        release: "1".to_owned(),
        members: None,
        duties: None,
    }
}

/// A port of loopback.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its number");
    (listener, address)
}

fn another(first: &Identity, ca: &Ca, n: u32) -> Identity {
    let key_pkcs8_der = new_key().expect("a key");
    let request = csr(&key_pkcs8_der).expect("a request");
    let signed = ca.sign(&request, member(n), now_s(), LIFETIME_S);
    Identity {
        node: id(n),
        member: member(n),
        key_pkcs8_der,
        certificate_der: signed.expect("it is signed"),
        cas: None,
        ..first.clone()
    }
}

fn founder(identity: &Identity) -> Founder {
    let key = public_key_of_key(&identity.key_pkcs8_der).expect("a key");
    Founder {
        member: identity.member,
        address: identity.address.clone(),
        fingerprint: fingerprint::of(&key),
    }
}
