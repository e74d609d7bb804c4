//! Members with keys, and a network in memory, for the gossip's tests and its measurement.

use krg_cluster::gossip::{
    Datagrams, Gossip, GossipMember, GossipMembers, Heard, Options, Probed,
};
use krg_cluster::load::Load;
use krg_cluster::seal::{Key, Keys};
use krg_rpc::peers::BootOffset;
use krg_rpc::tonic;
use krg_types::{MemberId, NodeId};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// One who may be a member.
#[derive(Clone)]
pub struct Person {
    pub id: MemberId,
    pub incarnation: u64,
    pub pkcs8: Vec<u8>,
    pub public_key: [u8; 32],
    pub address: SocketAddr,
    /// Its boot clock less everybody's, ns.
    pub skew_ns: i64,
}

impl Person {
    pub fn new(node: u32, address: SocketAddr) -> Person {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        Person {
            id: MemberId::new(NodeId::new(node).unwrap(), u64::from(node) + 100),
            incarnation: 1_000 + u64::from(node),
            pkcs8: pkcs8.as_ref().to_vec(),
            public_key: pair.public_key().as_ref().try_into().unwrap(),
            address,
            skew_ns: 0,
        }
    }
}

/// The gossip's key numbered `id`.
pub fn key(id: u32) -> Key {
    Key::new(id, [id as u8; 32])
}

/// The list of these people, all of them probed, as `reader` sees it.
pub fn list(reader: &Person, people: &[Person], keys: Keys) -> Arc<GossipMembers> {
    let member = |p: &Person| {
        let most_ns = p.skew_ns - reader.skew_ns;
        let offset = BootOffset { middle_ns: most_ns, most_ns };
        let probed = Some(Probed { incarnation: p.incarnation, offset });
        (p.id, GossipMember { address: p.address, public_key: p.public_key, probed })
    };
    Arc::new(GossipMembers { list: people.iter().map(member).collect(), keys })
}

/// A boot clock that follows tokio's, which a test may stop.
pub fn boot_ns() -> u64 {
    thread_local!(static START: Instant = Instant::now() - Duration::from_secs(1));
    START.with(|s| s.elapsed().as_nanos() as u64)
}

/// A node that gossips.
pub struct Node {
    pub gossip: Gossip,
    pub list: watch::Sender<Arc<GossipMembers>>,
    pub suspects: mpsc::UnboundedReceiver<MemberId>,
}

impl Node {
    /// Starts `person`; the stamps of its loads are by its own clock.
    pub async fn start(
        person: &Person,
        members: Arc<GossipMembers>,
        wire: Arc<dyn Datagrams>,
    ) -> Node {
        let list = watch::Sender::new(members);
        let (tell, suspects) = mpsc::unbounded_channel();
        let (skew_ns, cpus) = (person.skew_ns, person.id.node().unwrap().get());
        let sample = move || Load {
            average_100: 150,
            cpus,
            memory_kib: 16_384_000,
            available_kib: 12_345_678,
            processes: 314,
            stamp_ns: boot_ns().saturating_add_signed(skew_ns),
        };
        let options = Options {
            own: person.id,
            incarnation: person.incarnation,
            key_pkcs8: person.pkcs8.clone(),
            members: list.subscribe(),
            wire,
            sample: Arc::new(sample),
            boot_ns,
            suspect: Arc::new(move |id| tell.send(id).unwrap_or_default()),
        };
        Node { gossip: Gossip::start(options).await.unwrap(), list, suspects }
    }

    /// Waits until what it knows is so; every load that comes in is a chance.
    pub async fn until(&self, what: &str, so: impl Fn(&BTreeMap<MemberId, Heard>) -> bool) {
        let mut changes = self.gossip.changes();
        let wait = async {
            while !so(&self.gossip.view()) {
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        let known = || (self.gossip.view(), self.gossip.totals());
        waited.unwrap_or_else(|_| panic!("waited for {what}: {:#?}", known()));
    }
}

type Packet = (Vec<u8>, SocketAddr);

/// A network in memory: nothing is lost, nothing takes time.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<BTreeMap<SocketAddr, mpsc::UnboundedSender<Packet>>>>);

impl Hub {
    /// A socket for `node`.
    pub fn open(&self, node: u32) -> (SocketAddr, Arc<dyn Datagrams>) {
        let own = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + node), 7600));
        let (send, receive) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(own, send);
        let receive = tokio::sync::Mutex::new(receive);
        (own, Arc::new(Plug { hub: self.clone(), own, receive }))
    }

    /// Nobody is at that address any more.
    pub fn cut(&self, address: SocketAddr) {
        self.0.lock().unwrap().remove(&address);
    }
}

struct Plug {
    hub: Hub,
    own: SocketAddr,
    receive: tokio::sync::Mutex<mpsc::UnboundedReceiver<Packet>>,
}

#[tonic::async_trait]
impl Datagrams for Plug {
    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        if let Some(to) = self.hub.0.lock().unwrap().get(&to) {
            let _ = to.send((packet.to_vec(), self.own));
        }
        Ok(())
    }

    async fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self.receive.lock().await.recv().await {
            Some((bytes, from)) => {
                packet[..bytes.len()].copy_from_slice(&bytes);
                Ok((bytes.len(), from))
            }
            // Unplugged: nothing will come.
            None => std::future::pending().await,
        }
    }
}
