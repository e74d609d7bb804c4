//! Gossip: chitchat among the members of the agreed list, over sealed packets. It carries each
//! node's load vector and tells the prober whom to ask; it never says that a node is down.
//!
//! Each round (500 ms) a node begins three handshakes of three packets. Up to 16 members all of
//! them take place; with n members 16 of n do: messages grow with n, and a node's bytes a second
//! do not.

mod board;
mod counters;
mod ids;
mod rounds;
mod screen;
mod socket;

pub use board::Heard;
pub use counters::Totals;
pub use socket::Datagrams;

use crate::load::Load;
use crate::seal::{Directory, Keys, SealError, Sealer, Sender};
use board::Board;
use chitchat::{KeyChangeEvent, spawn_chitchat};
use counters::Counters;
use krg_rpc::peers::BootOffset;
use krg_types::MemberId;
use rounds::Rounds;
use socket::{Ready, SealedSocket};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Time between rounds.
pub const ROUND: Duration = Duration::from_millis(500);
/// Up to so many members every handshake that chitchat begins takes place.
pub const FULL_RATE_NODES: usize = 16;
/// chitchat's own name for a cluster. Clusters are told apart by their keys.
const CLUSTER: &str = "krg";
/// The one key in chitchat's store.
const LOAD_KEY: &str = "load";
/// Called with a member that is worth a probe at once: it is not heard of any more, it is heard
/// of again, or it has started again.
pub type Suspect = Arc<dyn Fn(MemberId) + Send + Sync>;

/// What the last direct probe of a member learnt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// The incarnation of its daemon.
    pub incarnation: u64,
    /// Its boot clock less ours.
    pub offset: BootOffset,
}

/// One member, as the gossip needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GossipMember {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Ed25519 key of its certificate, raw.
    pub public_key: [u8; 32],
    /// `None` until it has been probed: it takes part from then on.
    pub probed: Option<Probed>,
}

/// Who takes part, and the keys in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GossipMembers {
    /// Every member, this one included.
    pub list: BTreeMap<MemberId, GossipMember>,
    /// The cluster's keys.
    pub keys: Keys,
}

impl Directory for GossipMembers {
    fn sender(&self, id: MemberId) -> Option<Sender> {
        let member = self.list.get(&id)?;
        let incarnation = member.probed.map(|p| p.incarnation);
        Some(Sender { public_key: member.public_key, incarnation })
    }
}

/// What gossip needs to start.
pub struct Options {
    /// This node's membership.
    pub own: MemberId,
    /// This life of its daemon; never the same twice.
    pub incarnation: u64,
    /// The PKCS#8 key of its certificate.
    pub key_pkcs8: Vec<u8>,
    /// The member list, which changes while gossip runs.
    pub members: watch::Receiver<Arc<GossipMembers>>,
    /// What packets travel on: a bound `tokio::net::UdpSocket`.
    pub wire: Arc<dyn Datagrams>,
    /// This node's load now.
    pub sample: Arc<dyn Fn() -> Load + Send + Sync>,
    /// This node's boot clock, ns.
    pub boot_ns: fn() -> u64,
    /// See there.
    pub suspect: Suspect,
}

/// Why gossip did not start.
#[derive(thiserror::Error, Debug)]
pub enum GossipError {
    /// The certificate's key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// chitchat would not.
    #[error("the gossip does not start: {0}")]
    Start(String),
}

/// Running gossip; it ends when this is dropped.
pub struct Gossip {
    own: (MemberId, u64),
    board: Arc<Board>,
    members: watch::Receiver<Arc<GossipMembers>>,
    counters: Arc<Counters>,
    boot_ns: fn() -> u64,
    task: JoinHandle<()>,
}

impl Gossip {
    /// Starts it on the current runtime.
    pub async fn start(options: Options) -> Result<Gossip, GossipError> {
        let own = (options.own, options.incarnation);
        let sealer = Sealer::new(own.0, own.1, &options.key_pkcs8)?;
        let (board, counters) = (Arc::new(Board::new()), Arc::new(Counters::default()));
        let socket = SealedSocket::new(
            own,
            options.wire,
            sealer,
            options.members.clone(),
            counters.clone(),
            options.suspect.clone(),
        );
        let ready = Ready(Mutex::new(Some(socket)));
        let chitchat = spawn_chitchat(rounds::config(own), Vec::new(), &ready)
            .await
            .map_err(|e| GossipError::Start(e.to_string()))?;
        let first = (options.sample)().to_string();
        chitchat
            .with_chitchat(|c| {
                let board = board.clone();
                let heard = move |e: KeyChangeEvent<'_>| {
                    board.heard(&e.node.node_id, e.node.generation_id, e.value);
                };
                c.subscribe_event(LOAD_KEY, heard).forever();
                // Only now, so that the own load is on the board too.
                c.self_node_state().set(LOAD_KEY, &first);
            })
            .await;
        let rounds = Rounds {
            own,
            chitchat,
            board: board.clone(),
            members: options.members.clone(),
            sample: options.sample,
            suspect: options.suspect,
            turn: 0,
        };
        let task = tokio::spawn(rounds.run());
        let (members, boot_ns) = (options.members, options.boot_ns);
        Ok(Gossip { own, board, members, counters, boot_ns, task })
    }

    /// What is known of every member now.
    pub fn view(&self) -> BTreeMap<MemberId, Heard> {
        let members = self.members.borrow().clone();
        self.board.view(&members, self.own, (self.boot_ns)())
    }

    /// Wakes when a load has come in, somebody is or is no longer heard of, or the list changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes()
    }

    /// What was sent, received and refused since the start.
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.task.abort();
    }
}
