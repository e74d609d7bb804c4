//! What an administrator does on a machine: admits, readmits and dismisses members.

use super::client;
use super::history::{Op, Outcome};
use super::world::{MACHINES, Papers, World, address, lock, mix, name, now};
use krg_meta::command::{Command, Reply};
use krg_meta::state::STATE_VERSION;
use krg_meta::table::admission::{self, Applicant};
use krg_meta::table::{nodes, tokens};
use krg_meta::{Meta, MetaError};
use krg_types::{MemberId, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// One order may take so long.
const ORDER_MAX: Duration = Duration::from_secs(4);
/// Tokens are good for so long, ms.
const TOKEN_MS: u64 = 3_600_000;

/// One order.
#[derive(Clone, Debug)]
pub enum Order {
    /// Makes the machine a member.
    Admit(usize),
    /// Makes the machine, which has lost the store of this membership, a member again.
    Readmit(usize, MemberId),
    /// Makes a node a member no more.
    Leave(NodeId),
    /// Has a snapshot made.
    Snapshot,
    /// Writes and reads, and notes whether that worked.
    Probe,
    /// Ends the daemon in good order.
    Stop,
}

/// 32 bytes in hexadecimal digits, always the same for the same things.
pub fn hex32(things: impl std::hash::Hash) -> String {
    format!("{:016x}", mix(things)).repeat(4)
}

/// What a machine says of itself when it becomes a member.
pub fn applicant(machine: usize, attempt: u64) -> Box<Applicant> {
    Box::new(Applicant {
        hostname: name(machine),
        address: address(machine),
        public_key: hex32(("key", machine, attempt)),
        fingerprint: hex32(("certificate", machine, attempt)),
        release: "simulated".into(),
        state_version: STATE_VERSION,
    })
}

/// The first command of the cluster.
pub fn found() -> Command {
    let authority = (hex32("authority"), "simulated".into(), u64::MAX);
    Command::Admission(admission::Command::Found {
        name: "simulated".into(),
        session: 1,
        nodes_min: 1,
        founder: applicant(0, 0),
        node: NodeId::new(1).unwrap(),
        authority,
        gossip_key: hex32("gossip"),
    })
}

/// What a member says of itself when it starts.
pub fn describe(machine: usize, member: MemberId) -> Command {
    Command::Nodes(nodes::Command::Describe {
        member,
        hostname: name(machine),
        address: address(machine),
        release: "simulated".into(),
        state_version: STATE_VERSION,
    })
}

/// Carries out orders one after the other; returns with the order to stop.
pub async fn run(
    world: Arc<World>,
    machine: usize,
    meta: Meta,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Admit(whom) => admit(&world, &meta, whom).await,
            Order::Readmit(whom, was) => readmit(&world, &meta, whom, was).await,
            Order::Leave(node) => {
                let leave = admission::Command::Leave { nodes: vec![node] };
                let _ = meta.propose(Command::Admission(leave), ORDER_MAX).await;
            }
            Order::Snapshot => drop(meta.snapshot_now().await),
            Order::Probe => probe(&world, machine, &meta).await,
            Order::Stop => return,
        }
    }
}

async fn admit(world: &World, meta: &Meta, whom: usize) {
    let attempt = world.slot(whom).attempts;
    let (id, hash) = (format!("token{whom}.{attempt}"), hex32(("token", whom, attempt)));
    let token = tokens::Command::Create {
        id: id.clone(),
        hash: hash.clone(),
        valid_ms: TOKEN_MS,
        note: String::new(),
    };
    // It may be there already.
    let _ = meta.propose(Command::Tokens(token), ORDER_MAX).await;
    let applicant = applicant(whom, attempt);
    let admit = admission::Command::Admit { token: id, hash, node: None, applicant };
    let reply = meta.propose(Command::Admission(admit), ORDER_MAX).await;
    hand_over(world, whom, attempt, reply);
}

async fn readmit(world: &World, meta: &Meta, whom: usize, member: MemberId) {
    let attempt = world.slot(whom).attempts;
    let applicant = applicant(whom, attempt);
    let readmit = admission::Command::Readmit { member, applicant };
    let reply = meta.propose(Command::Admission(readmit), ORDER_MAX).await;
    hand_over(world, whom, attempt, reply);
}

/// The papers reach the machine if it still waits for them. Who was refused tries anew.
fn hand_over(world: &World, whom: usize, attempt: u64, reply: Result<Reply, MetaError>) {
    let mut slot = world.slot(whom);
    if slot.attempts != attempt || slot.papers.is_some() {
        return;
    }
    match reply {
        Ok(Reply::Admitted(member)) => slot.papers = Some(Papers { member, founder: false }),
        Err(MetaError::Refused(_)) => slot.attempts += 1,
        _ => {}
    }
}

async fn probe(world: &World, machine: usize, meta: &Meta) {
    let key = format!("probe/{machine}");
    let value = format!("{machine} at {:?}", now());
    let client = (client::CLIENTS as usize * MACHINES + machine) as u64;
    let set = Op::Set { key: key.clone(), value: value.clone(), if_revision: None };
    let written = client::ask(world, client, meta, set, ORDER_MAX).await;
    // The two must not be taken for concurrent.
    sleep_until(Instant::now() + Duration::from_millis(10)).await;
    let read = client::ask(world, client, meta, Op::Read { key }, ORDER_MAX).await;
    let outcome = match (&written, &read) {
        (Outcome::Done(_), Outcome::Read(_, Some((found, _)))) if *found == value => Ok(()),
        _ => Err(format!("wrote: {written:?}, read: {read:?}")),
    };
    lock(&world.probes).insert(machine, outcome);
}
