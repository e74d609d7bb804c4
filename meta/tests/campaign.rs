//! A voter on its way out is the only one who holds the change that takes it out, and no leader is
//! left: it leads once more, to the end of that change, although nobody's list counts its vote.

use krg_meta::memory::MemoryStore;
use krg_meta::open::open_memory;
use krg_meta::raft::{Entry, LogId, Vote};
use krg_meta::{Meta, Options};
use krg_rpc::dial::Plain;
use krg_rpc::tonic::transport::Server;
use krg_rpc::tonic::transport::server::TcpIncoming;
use krg_types::limits::GROUP_MAIN;
use krg_types::{MemberId, NodeId};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload, Membership, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

fn member(n: u32) -> MemberId {
    MemberId::new(NodeId::new(n).unwrap(), u64::from(n))
}

/// The first member alone, then with the second, then the second alone.
fn entries(addresses: [&str; 2]) -> Vec<Entry> {
    let list = |sets: &[u32], both: bool| {
        let sets: Vec<BTreeSet<MemberId>> = sets.iter().map(|n| [member(*n)].into()).collect();
        let nodes = [1, 2].into_iter().zip(addresses).take(if both { 2 } else { 1 });
        let node = |(n, addr): (u32, &str)| (member(n), BasicNode { addr: addr.to_owned() });
        Membership::new(sets, nodes.map(node).collect::<BTreeMap<_, _>>())
    };
    let lists = [list(&[1], false), list(&[1], true), list(&[1, 2], true), list(&[2], true)];
    let entry = |(index, list)| Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, member(1)), index),
        payload: EntryPayload::Membership(list),
    };
    (0..).zip(lists).map(entry).collect()
}

/// A member that holds so much of the log, all but what only the first has agreed on.
async fn start(own: MemberId, log: &[Entry], incoming: TcpIncoming) -> Meta {
    let store = MemoryStore::new();
    let mut opened = open_memory(store.clone(), GROUP_MAIN).unwrap();
    // The second has stood in vain for a while, and the first has heard of that.
    opened.log.save_vote(&Vote::new(7, member(2))).await.unwrap();
    opened.log.blocking_append(log.to_vec()).await.unwrap();
    opened.log.save_committed(Some(log[2].log_id)).await.unwrap();
    drop(opened);
    let options = Options {
        member: own,
        group: GROUP_MAIN,
        epoch: 1,
        dial: Arc::new(Plain),
        new_key: Arc::new(|| "00".repeat(32)),
        authority_keys: Arc::new(Vec::new),
        farewell: Arc::new(|_| Box::pin(async {})),
    };
    let meta = Meta::start(open_memory(store, GROUP_MAIN).unwrap(), options).await.unwrap();
    let server = Server::builder().add_service(meta.service().server());
    tokio::spawn(server.serve_with_incoming(incoming));
    meta
}

#[tokio::test]
async fn who_is_on_its_way_out_leads_to_the_end_of_that() {
    let incoming = [(); 2].map(|()| TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    let addresses = incoming.each_ref().map(|i| i.local_addr().unwrap().to_string());
    let log = entries(addresses.each_ref().map(String::as_str));
    let [one, two] = incoming;
    let leaving = start(member(1), &log, one).await;
    let staying = start(member(2), &log[..3], two).await;
    let mut metrics = leaving.metrics();
    let led = metrics.wait_for(|m| m.state == ServerState::Leader);
    timeout(LIMIT, led).await.expect("it leads once more").unwrap();
    let mut metrics = staying.metrics();
    let alone = metrics.wait_for(|m| {
        let voters = m.membership_config.membership().voter_ids();
        m.state == ServerState::Leader && voters.eq([member(2)])
    });
    timeout(LIMIT, alone).await.expect("the change is ended, and who stays leads").unwrap();
    leaving.stop().await;
    staying.stop().await;
}
