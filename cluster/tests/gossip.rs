//! Gossip between nodes over real UDP: what arrives, what is refused, and what that leaves
//! unchanged. The tests of silence use a network in memory and a clock that skips idle time.

use krg_cluster::gossip::{Datagrams, FULL_RATE_NODES, GossipMembers, Heard};
use krg_cluster::seal::{Key, Keys, Refusal, Sealer};
use krg_rpc::tonic;
use krg_types::MemberId;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use world::{Hub, Node, Person, key};

mod world;

type View = BTreeMap<MemberId, Heard>;

/// A socket that keeps a copy of what it sends and loses some of it.
struct Tap {
    socket: UdpSocket,
    sent: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
    /// So many of 100 packets are lost.
    lost_of_100: u64,
    turn: AtomicU64,
}

#[tonic::async_trait]
impl Datagrams for Tap {
    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        self.sent.lock().unwrap().push((to, packet.to_vec()));
        // A linear congruential sequence: scattered, and the same in every run.
        let next = |n: u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99));
        let n = self.turn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap();
        let lost = (n >> 33) % 100 < self.lost_of_100;
        if lost { Ok(()) } else { self.socket.send_to(packet, to).await.map(|_| ()) }
    }

    async fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(packet).await
    }
}

fn only(id: u32) -> Keys {
    Keys { current: key(id), previous: None }
}

/// Three people on sockets of the loopback.
struct World {
    people: Vec<Person>,
    taps: Vec<Arc<Tap>>,
    nodes: Vec<Node>,
}

impl World {
    async fn start(lost_of_100: u64) -> World {
        let (mut people, mut taps, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for node in 1..=3 {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut person = Person::new(node, socket.local_addr().unwrap());
            person.skew_ns = [0, 5_000_000_000, -800_000_000][node as usize - 1];
            people.push(person);
            let (sent, turn) = (Mutex::default(), AtomicU64::new(node.into()));
            taps.push(Arc::new(Tap { socket, sent, lost_of_100, turn }));
        }
        for (person, tap) in people.iter().zip(&taps) {
            let list = world::list(person, &people, only(1));
            nodes.push(Node::start(person, list, tap.clone()).await);
        }
        World { people, taps, nodes }
    }

    fn id(&self, node: usize) -> MemberId {
        self.people[node - 1].id
    }

    /// The list and the keys that `node` goes by from now on.
    fn tell(&self, node: usize, people: &[Person], keys: Keys) {
        let list = world::list(&self.people[node - 1], people, keys);
        self.nodes[node - 1].list.send_replace(list);
    }

    /// Everybody knows everybody's load, and has heard it anew since.
    async fn all_hear_all(&self) {
        for node in &self.nodes {
            node.until("all loads", |v| stamps(v).len() == 3).await;
        }
        let first: Vec<_> = self.nodes.iter().map(|n| stamps(&n.gossip.view())).collect();
        for (node, first) in self.nodes.iter().zip(first) {
            let newer = |v: &View| stamps(v).iter().all(|(id, at)| *at > first[id]);
            node.until("newer loads", newer).await;
        }
    }

    async fn refused(&self, node: usize, why: Refusal, times: u64) {
        let node = &self.nodes[node - 1];
        node.until(&why.to_string(), |_| node.gossip.totals().refused(why) >= times).await;
    }

    /// Sends from an address that is no member's.
    async fn inject(&self, to: usize, packet: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(packet, self.people[to - 1].address).await.unwrap();
    }

    /// What `from` has sent to `to`.
    fn overheard(&self, from: usize, to: usize) -> Vec<Vec<u8>> {
        let sent = self.taps[from - 1].sent.lock().unwrap();
        let to = self.people[to - 1].address;
        sent.iter().filter(|s| s.0 == to).map(|s| s.1.clone()).collect()
    }
}

/// When each load was so, by its owner's clock.
fn stamps(view: &View) -> BTreeMap<MemberId, u64> {
    view.iter().filter_map(|(id, h)| Some((*id, h.load?.stamp_ns))).collect()
}

#[tokio::test]
async fn loads_arrive_with_their_age() {
    let world = World::start(0).await;
    world.all_hear_all().await;
    for node in &world.nodes {
        node.until("life", |v| v.values().all(|h| h.alive)).await;
        for (id, heard) in node.gossip.view() {
            let load = heard.load.unwrap();
            assert_eq!(load.cpus, id.node().unwrap().get(), "its own words");
            // The owner's clock may be seconds away; only its own life counts.
            let age = heard.age.unwrap();
            assert!(age < Duration::from_secs(4), "{id} {age:?} by {load:?}");
        }
        let totals = node.gossip.totals();
        assert!(totals.refused.iter().all(|r| r.1 == 0), "{totals:?}");
    }
}

#[tokio::test]
async fn an_age_grows_while_nothing_arrives() {
    let mut world = World::start(0).await;
    world.all_hear_all().await;
    let two = world.id(2);
    drop(world.nodes.remove(1));
    let node = &world.nodes[0];
    let age = |v: &View| v[&two].age.unwrap();
    node.until("an old load", |v| age(v) > Duration::from_millis(1_500)).await;
    assert!(node.gossip.view()[&world.id(3)].age.unwrap() < Duration::from_millis(1_500));
}

#[tokio::test]
async fn what_is_not_from_a_member_changes_nothing() {
    let world = World::start(0).await;
    world.all_hear_all().await;
    let (one, two, three) = (&world.people[0], &world.people[1], &world.people[2]);
    let good = only(1);
    let wrong = Keys { current: Key::new(1, [77; 32]), previous: None };
    let seal = |who: &Person, signer: &Person, keys: &Keys| {
        let sealer = Sealer::new(who.id, who.incarnation, &signer.pkcs8).unwrap();
        // Higher than any number in use, as an attacker would.
        (0..64).for_each(|_| drop(sealer.seal(keys, one.id, one.incarnation, b"")));
        sealer.seal(keys, one.id, one.incarnation, b"lies").unwrap()
    };
    let outsider = Person::new(9, two.address);
    let replays = world.overheard(2, 1);
    for (packet, why) in [
        (b"hello".to_vec(), Refusal::TooShort),
        (vec![0xff; 1_000], Refusal::Version),
        (vec![1; 1_000], Refusal::NotForUs),
        (replays[0].clone(), Refusal::Replay),
        (world.overheard(2, 3)[0].clone(), Refusal::NotForUs),
        (seal(three, two, &good), Refusal::BadSignature),
        (seal(two, two, &wrong), Refusal::BadSeal),
        (seal(two, two, &only(5)), Refusal::UnknownKey),
        (seal(&outsider, &outsider, &good), Refusal::UnknownSender),
        (seal(two, two, &good), Refusal::Malformed),
    ] {
        let before = world.nodes[0].gossip.totals().refused(why);
        world.inject(1, &packet).await;
        world.refused(1, why, before + 1).await;
    }
    assert_eq!(world.nodes[0].gossip.view().len(), 3);
    world.all_hear_all().await;
}

#[tokio::test]
async fn keys_rotate_while_gossip_goes_on() {
    let world = World::start(0).await;
    world.all_hear_all().await;
    let refused = |n: &Node| n.gossip.totals().refused(Refusal::UnknownKey);
    // Everybody knows both keys before one seals with the new one: nothing is lost.
    let known = Keys { current: key(1), previous: Some(key(2)) };
    let used = Keys { current: key(2), previous: Some(key(1)) };
    for keys in [known, used] {
        for node in 1..=3 {
            world.tell(node, &world.people, keys.clone());
            world.all_hear_all().await;
        }
    }
    assert!(world.nodes.iter().all(|n| refused(n) == 0));
    // A node that has not heard of it loses packets until it has.
    world.tell(1, &world.people, Keys { current: key(3), previous: Some(key(2)) });
    world.refused(2, Refusal::UnknownKey, 1).await;
    for node in 2..=3 {
        world.tell(node, &world.people, Keys { current: key(3), previous: Some(key(2)) });
    }
    world.all_hear_all().await;
    for node in 1..=3 {
        world.tell(node, &world.people, only(3));
    }
    world.all_hear_all().await;
}

#[tokio::test]
async fn a_removed_member_is_refused_at_once() {
    let world = World::start(0).await;
    world.all_hear_all().await;
    for node in 1..=2 {
        world.tell(node, &world.people[..2], only(1));
        let view = world.nodes[node - 1].gossip.view();
        assert!(view.len() == 2 && !view.contains_key(&world.id(3)));
    }
    for node in 1..=2 {
        world.refused(node, Refusal::UnknownSender, 2).await;
        assert_eq!(world.nodes[node - 1].gossip.view().len(), 2);
    }
    // And what is left of it in the others' tables goes nowhere.
    let before = world.overheard(1, 3).len() + world.overheard(2, 3).len();
    world.refused(1, Refusal::UnknownSender, 4).await;
    assert_eq!(world.overheard(1, 3).len() + world.overheard(2, 3).len(), before);
}

#[tokio::test]
async fn a_lossy_network_converges() {
    let world = World::start(30).await;
    world.all_hear_all().await;
    world.all_hear_all().await;
    let sent = world.taps[0].sent.lock().unwrap().len() as u64;
    let reached: u64 = world.nodes.iter().map(|n| n.gossip.totals().received_packets).sum();
    let all: u64 = world.nodes.iter().map(|n| n.gossip.totals().sent_packets).sum();
    assert!(sent > 0 && reached * 100 < all * 85, "{reached} of {all}: nothing was lost");
}

#[tokio::test]
async fn a_new_life_refutes_what_is_said_of_the_old_one() {
    let mut world = World::start(0).await;
    world.all_hear_all().await;
    let three = world.people[2].clone();
    let old = world.overheard(3, 1);
    drop(world.nodes.pop());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut again = three.clone();
    (again.incarnation, again.address) = (three.incarnation + 1, socket.local_addr().unwrap());
    world.people[2] = again.clone();
    let list = world::list(&again, &world.people, only(1));
    world.nodes.push(Node::start(&again, list, Arc::new(socket)).await);

    // Node 1 has not probed it anew: its packets are not believed, but a probe is asked for.
    let wait = async { while world.nodes[0].suspects.recv().await != Some(three.id) {} };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    world.refused(1, Refusal::OtherIncarnation, 1).await;
    // Only node 1 probes it. Node 2 goes on telling of the old life.
    world.tell(1, &world.people, only(1));
    let heard = |v: &View| v[&three.id].alive && v[&three.id].load.is_some();
    world.nodes[0].until("the new life", heard).await;
    let foreign = world.nodes[0].gossip.totals().foreign_entries;
    let before = world.nodes[0].gossip.totals().refused(Refusal::OtherIncarnation);
    world.inject(1, old.last().unwrap()).await;
    world.refused(1, Refusal::OtherIncarnation, before + 1).await;
    let node = &world.nodes[0];
    node.until("rumours", |_| node.gossip.totals().foreign_entries > foreign).await;
    assert!(heard(&node.gossip.view()));
    world.tell(2, &world.people, only(1));
    world.all_hear_all().await;
}

async fn in_memory(count: u32) -> (Hub, Vec<Person>, Vec<Node>) {
    let (hub, mut nodes) = (Hub::default(), Vec::new());
    let sockets: Vec<_> = (1..=count).map(|n| (n, hub.open(n))).collect();
    let people: Vec<_> = sockets.iter().map(|(n, (at, _))| Person::new(*n, *at)).collect();
    for (person, (_, (_, wire))) in people.iter().zip(sockets) {
        let list = world::list(person, &people, only(1));
        nodes.push(Node::start(person, list, wire).await);
    }
    (hub, people, nodes)
}

#[tokio::test(start_paused = true)]
async fn silence_asks_for_a_probe_and_so_does_its_end() {
    let (hub, people, mut nodes) = in_memory(4).await;
    let all = |v: &View| v.values().all(|h| h.alive);
    for node in &nodes {
        node.until("everybody", all).await;
    }
    let quiet = &mut nodes[0].suspects;
    while quiet.try_recv().is_ok() {}
    hub.cut(people[3].address);
    drop(nodes.pop());
    let first = tokio::time::timeout(Duration::from_secs(20), nodes[0].suspects.recv()).await;
    assert_eq!(first, Ok(Some(people[3].id)));
    // It is not heard of; it is a member all the same, with its last load.
    let silent = nodes[0].gossip.view()[&people[3].id];
    assert!(!silent.alive && silent.load.is_some());

    let (at, wire) = hub.open(4);
    assert_eq!(at, people[3].address);
    let mut again = people[3].clone();
    again.incarnation += 1;
    let now: Vec<_> = people[..3].iter().cloned().chain([again.clone()]).collect();
    for (node, person) in nodes.iter().zip(&now) {
        node.list.send_replace(world::list(person, &now, only(1)));
    }
    let list = world::list(&again, &now, only(1));
    let back = Node::start(&again, list, wire).await;
    let second = tokio::time::timeout(Duration::from_secs(20), nodes[0].suspects.recv()).await;
    assert_eq!(second, Ok(Some(again.id)));
    back.until("everybody", all).await;
    nodes[0].until("everybody", all).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_been_probed_takes_no_part() {
    let (_hub, people, nodes) = in_memory(2).await;
    let mut list = GossipMembers::clone(&nodes[0].list.borrow());
    list.list.get_mut(&people[1].id).unwrap().probed = None;
    nodes[0].list.send_replace(Arc::new(list));
    let refused = || nodes[0].gossip.totals().refused(Refusal::OtherIncarnation);
    nodes[0].until("refusals", |_| refused() >= 2).await;
    let heard = nodes[0].gossip.view()[&people[1].id];
    assert_eq!(heard, Heard::default());
}

#[tokio::test(start_paused = true)]
async fn bytes_stay_bounded_when_the_cluster_grows() {
    let mut bytes = Vec::new();
    for count in [FULL_RATE_NODES as u32, 2 * FULL_RATE_NODES as u32] {
        let (_hub, _people, nodes) = in_memory(count).await;
        let sent = || nodes[0].gossip.totals().sent_bytes;
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(5)).await;
        let before = sent();
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(10)).await;
        bytes.push(sent() - before);
    }
    assert!(bytes[0] > 10_000 && bytes[1] * 2 > bytes[0], "the gossip has stopped: {bytes:?}");
    assert!(bytes[1] * 2 < bytes[0] * 3, "{bytes:?}");
}
