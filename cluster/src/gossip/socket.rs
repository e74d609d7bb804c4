//! The socket that chitchat sees: what it sends is sealed, what it receives has been opened and
//! screened, and both only among the members of the list as it is at that moment.

use super::counters::Counters;
use super::screen::{self, Entry, Named};
use super::{CLUSTER, FULL_RATE_NODES, GossipMembers, Suspect, ids};
use crate::seal::{Opener, PACKET_BYTES_MAX, Refusal, Sealer};
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use krg_rpc::tonic;
use krg_types::MemberId;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A socket that fails is tried again after so long.
const SOCKET_REST: Duration = Duration::from_millis(100);
/// A member whose packets are from an unknown life is reported at most so often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Carries datagrams, as UDP does: some are lost, none is vouched for.
#[tonic::async_trait]
pub trait Datagrams: Send + Sync + 'static {
    /// Sends one.
    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()>;
    /// Waits for the next one: its length and where it seems to come from. Nothing is lost if the
    /// wait is given up.
    async fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}

#[tonic::async_trait]
impl Datagrams for tokio::net::UdpSocket {
    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        self.send_to(packet, to).await.map(|_| ())
    }

    async fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(packet).await
    }
}

/// See the module.
pub(super) struct SealedSocket {
    own: (MemberId, u64),
    wire: Arc<dyn Datagrams>,
    sealer: Sealer,
    opener: Opener,
    members: watch::Receiver<Arc<GossipMembers>>,
    counters: Arc<Counters>,
    suspect: Suspect,
    reported: HashMap<MemberId, Instant>,
    /// Grows by `FULL_RATE_NODES` with each handshake that chitchat begins; one costs the number
    /// of members.
    credit: usize,
    /// One byte longer than the longest packet, so that a longer one shows.
    buffer: Box<[u8]>,
}

impl SealedSocket {
    pub(super) fn new(
        own: (MemberId, u64),
        wire: Arc<dyn Datagrams>,
        sealer: Sealer,
        members: watch::Receiver<Arc<GossipMembers>>,
        counters: Arc<Counters>,
        suspect: Suspect,
    ) -> SealedSocket {
        SealedSocket {
            own,
            wire,
            sealer,
            opener: Opener::new(own.0, own.1),
            members,
            counters,
            suspect,
            reported: HashMap::new(),
            credit: 0,
            buffer: vec![0; PACKET_BYTES_MAX + 1].into(),
        }
    }

    /// Whether a handshake may begin: with many members each begins fewer, so that the bytes stay
    /// bounded while messages grow.
    fn may_begin(&mut self, members: usize) -> bool {
        self.credit += FULL_RATE_NODES;
        let begin = self.credit >= members;
        if begin {
            self.credit = (self.credit - members).min(FULL_RATE_NODES);
        }
        begin
    }

    /// The message in a packet, and its sender's address for chitchat.
    fn open(&mut self, from: SocketAddr, len: usize) -> Option<(SocketAddr, ChitchatMessage)> {
        let members = self.members.borrow().clone();
        let packet = &self.buffer[..len];
        let (sender, payload) = match self.opener.open(&members.keys, &*members, packet) {
            Ok(opened) => opened,
            Err((sender, why)) => {
                self.counters.refused(from, why);
                if let (Some(sender), Refusal::OtherIncarnation) = (sender, why) {
                    self.report(sender);
                }
                return None;
            }
        };
        let judge = |node: Named<'_>| judge(&members, self.own, node);
        let screened = screen::screen(&payload, CLUSTER, &judge).ok().and_then(|screened| {
            let message = ChitchatMessage::deserialize(&mut &screened.message[..]).ok()?;
            Some((message, screened.foreign))
        });
        let Some((message, foreign)) = screened else {
            self.counters.refused(from, Refusal::Malformed);
            return None;
        };
        self.counters.foreign(foreign);
        self.counters.received(len);
        Some((ids::address(sender), message))
    }

    /// A genuine packet of another life than the probed one: that member has started again.
    fn report(&mut self, sender: MemberId) {
        let last = self.reported.get(&sender);
        if last.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.reported.insert(sender, Instant::now());
            (self.suspect)(sender);
        }
    }
}

/// What a message says of a node counts only if it is a member, in the life that the last probe
/// met: nobody can speak for a node's past or for a future it has not had.
fn judge(members: &GossipMembers, own: (MemberId, u64), node: Named<'_>) -> Entry {
    let Some(id) = ids::parse(node.name) else { return Entry::Foreign };
    let probed = members.list.get(&id).and_then(|m| m.probed).map(|p| p.incarnation);
    let (life, kind) =
        if id == own.0 { (Some(own.1), Entry::Own) } else { (probed, Entry::Member) };
    let known = life == Some(node.generation) && node.address == ids::address(id);
    if known { kind } else { Entry::Foreign }
}

#[tonic::async_trait]
impl Socket for SealedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let members = self.members.borrow().clone();
        if matches!(message, ChitchatMessage::Syn { .. }) && !self.may_begin(members.list.len()) {
            return Ok(());
        }
        // Members that left are in chitchat's tables for a while; so are lives that ended.
        let listed = members.list.iter().find(|m| ids::address(*m.0) == to && *m.0 != self.own.0);
        let Some((&id, member)) = listed else { return Ok(()) };
        let Some(probed) = member.probed else { return Ok(()) };
        let payload = message.serialize_to_vec();
        match self.sealer.seal(&members.keys, id, probed.incarnation, &payload) {
            Ok(packet) => match self.wire.send(member.address, &packet).await {
                Ok(()) => self.counters.sent(packet.len()),
                // A lost packet is the network's right.
                Err(e) => tracing::debug!(member = %id, "gossip not sent: {e}"),
            },
            Err(e) => tracing::warn!(member = %id, "gossip not sent: {e}"),
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            match self.wire.receive(&mut self.buffer).await {
                Ok((len, from)) => {
                    if let Some(opened) = self.open(from, len) {
                        return Ok(opened);
                    }
                }
                // An error given to chitchat would end it.
                Err(e) => {
                    tracing::warn!("the gossip's socket: {e}");
                    sleep_until(Instant::now() + SOCKET_REST).await;
                }
            }
        }
    }
}

/// Hands a socket that exists to chitchat, once.
pub(super) struct Ready(pub(super) Mutex<Option<SealedSocket>>);

#[tonic::async_trait]
impl Transport for Ready {
    async fn open(&self, _listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(socket.ok_or_else(|| anyhow::anyhow!("the socket is in use"))?))
    }
}
