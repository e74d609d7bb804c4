//! How a room reaches other nodes without knowing who keeps the member list.

use krg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

/// What is known about one node now.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// The channel to its daemon.
    pub channel: Channel,
    /// It answered the last question.
    pub up: bool,
    /// Since it last answered; `None` if it never did.
    pub silent_for: Option<Duration>,
    /// Its boot clock less ours, ns, as measured by a probe.
    pub boot_offset_ns: Option<BootOffset>,
}

/// Another node's boot clock less our own, known to within a round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootOffset {
    /// The middle of the measured interval, ns; stays put while measurements agree with it.
    pub middle_ns: i64,
    /// The most it can be, ns: for ages that must not be understated.
    pub most_ns: i64,
}

/// The nodes of the cluster, this one included, lowest number first.
pub trait Peers: Send + Sync + 'static {
    /// This node.
    fn own(&self) -> NodeId;
    /// The cluster's name, said in every request.
    fn cluster(&self) -> Arc<str>;
    /// Every configured node.
    fn all(&self) -> Vec<Peer>;
    /// One node.
    fn get(&self, id: NodeId) -> Option<Peer>;
    /// Wakes whenever somebody begins or ceases to answer.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
    /// A request to this node failed or missed its deadline: fail fast until a probe succeeds.
    fn failed(&self, id: NodeId, why: &str);
}
