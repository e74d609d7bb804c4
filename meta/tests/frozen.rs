//! What an earlier krgd wrote or sent is read by this one: bytes frozen when each version was
//! made. A test that fails here means that nodes of two neighbouring versions no longer work
//! together, or that a node cannot be upgraded. `KRG_BLESS=1` writes files that are missing, and
//! never changes one that is there.

use krg_meta::codec::{decode, encode};
use krg_meta::command::{Batch, Command, Proposal, Reply, Ticket};
use krg_meta::log::{decode_payload, encode_payload};
use krg_meta::published::View;
use krg_meta::raft::StoredMembership;
use krg_meta::snapshot;
use krg_meta::state::{State, apply};
use krg_meta::table::nodes::MapLine;
use krg_meta::table::{admission, config, leases, nodes, sequences, sets, tokens, trust};
use krg_types::{MemberId, NodeId};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload, LogId, Membership};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The bytes frozen under this name.
fn frozen(name: &str, made_now: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name);
    if !path.exists() && std::env::var_os("KRG_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made_now()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn node(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

fn member(n: u32, serial: u64) -> MemberId {
    MemberId::new(node(n), serial)
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn applicant(name: &str) -> Box<admission::Applicant> {
    Box::new(admission::Applicant {
        hostname: name.to_owned(),
        address: format!("{name}:7600"),
        public_key: hash('a'),
        fingerprint: hash('b'),
        release: "0.1.0".into(),
        state_version: 1,
    })
}

fn text(s: &str) -> String {
    s.to_owned()
}

/// Every command there was in state version 1.
fn commands_of_version_1() -> Vec<Command> {
    let mut all = making_and_joining();
    all.extend(trust_and_nodes());
    all.extend(small_tables());
    all.extend(leaving());
    all
}

fn making_and_joining() -> Vec<Command> {
    vec![
        Command::Admission(admission::Command::Found {
            name: text("frozen"),
            session: 7,
            nodes_min: 1,
            founder: applicant("one"),
            node: node(1),
            authority: (hash('c'), text("certificate"), 4_000_000_000),
            gossip_key: hash('d'),
        }),
        Command::Tokens(tokens::Command::Create {
            id: text("abcdefgh"),
            hash: hash('e'),
            valid_ms: 60_000,
            note: text("for two"),
        }),
        Command::Tokens(tokens::Command::Create {
            id: text("ijklmnop"),
            hash: hash('f'),
            valid_ms: 60_000,
            note: String::new(),
        }),
        Command::Tokens(tokens::Command::Revoke { id: text("ijklmnop") }),
        Command::Admission(admission::Command::Admit {
            token: text("abcdefgh"),
            hash: hash('e'),
            node: Some(node(2)),
            applicant: applicant("two"),
        }),
    ]
}

fn trust_and_nodes() -> Vec<Command> {
    vec![
        Command::Trust(trust::Command::Certify {
            member: member(2, 2),
            fingerprint: hash('0'),
            authority: hash('c'),
        }),
        Command::Trust(trust::Command::Holds {
            member: member(2, 2),
            authorities: vec![hash('c')],
        }),
        Command::Trust(trust::Command::AddAuthority {
            fingerprint: hash('1'),
            certificate: text("another"),
            expires_s: 4_100_000_000,
        }),
        Command::Trust(trust::Command::GossipKey { key: hash('2') }),
        Command::Nodes(nodes::Command::Describe {
            member: member(2, 2),
            hostname: text("second"),
            address: text("10.0.0.2:7600"),
            release: text("0.1.0"),
            state_version: 1,
        }),
        Command::Nodes(nodes::Command::Map {
            lines: vec![MapLine { first: node(10), host: text("10.0.0.10"), count: 3 }],
        }),
        Command::Nodes(nodes::Command::Activate { nodes: vec![node(2)] }),
    ]
}

fn small_tables() -> Vec<Command> {
    vec![
        Command::Config(config::Command::Set {
            key: text("colour"),
            value: Some(text("grün")),
            if_revision: Some(0),
        }),
        Command::Config(config::Command::Set {
            key: text("gone"),
            value: None,
            if_revision: None,
        }),
        Command::Sets(sets::Command::Set { name: text("odd"), nodes: Some(text("1,3,5-7")) }),
        Command::Sequences(sequences::Command::Take { name: text("jobs"), count: 5 }),
        Command::Leases(leases::Command::Take {
            name: text("scheduler"),
            owner: member(1, 1),
            valid_ms: 5_000,
        }),
    ]
}

fn leaving() -> Vec<Command> {
    vec![
        Command::Admission(admission::Command::Readmit {
            member: member(2, 2),
            applicant: applicant("two again"),
        }),
        Command::Admission(admission::Command::Leave { nodes: vec![node(2)] }),
        Command::Admission(admission::Command::Remove {
            nodes: vec![node(2)],
            gossip_key: hash('3'),
        }),
    ]
}

fn batch_of_version_1() -> Batch {
    let proposal = |(number, command)| {
        let number = number as u64;
        let ticket = Ticket { origin: member(1, 1), epoch: 3, number, settled: number };
        Proposal { ticket, command }
    };
    let proposals = commands_of_version_1().into_iter().enumerate().map(proposal).collect();
    Batch { now_ms: 1_000, proposals }
}

/// The state after that batch.
fn view_of_version_1() -> View {
    let mut state = State::default();
    apply(&mut state, &batch_of_version_1());
    state.take_changes();
    let at = LogId::new(CommittedLeaderId::new(2, member(1, 1)), 40);
    let address = BasicNode { addr: "one:7600".into() };
    let nodes = BTreeMap::from([(member(1, 1), address)]);
    let membership = Membership::new(vec![BTreeSet::from([member(1, 1)])], nodes);
    let membership = StoredMembership::new(Some(at), membership);
    View { state, applied: Some(at), membership }
}

#[test]
fn every_command_of_version_1_does_what_it_did() {
    let mut state = State::default();
    let replies = apply(&mut state, &batch_of_version_1());
    let refused: Vec<_> = replies.0.iter().filter(|r| matches!(r, Reply::Refused(_))).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn an_entry_of_the_log_of_version_1_is_read() {
    let bytes = frozen("entry-1", || encode_payload(&EntryPayload::Normal(batch_of_version_1())));
    match decode_payload(&bytes).unwrap() {
        EntryPayload::Normal(batch) => assert_eq!(batch, batch_of_version_1()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_membership_entry_of_version_1_is_read() {
    let view = view_of_version_1();
    let membership = view.membership.membership().clone();
    let bytes =
        frozen("membership-1", || encode_payload(&EntryPayload::Membership(membership.clone())));
    match decode_payload(&bytes).unwrap() {
        EntryPayload::Membership(read) => assert_eq!(read, membership),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_forwarded_command_and_its_reply_of_version_1_are_read() {
    let proposal = batch_of_version_1().proposals[4].clone();
    let bytes = frozen("proposal-1", || encode(&proposal));
    assert_eq!(decode::<Proposal>(&bytes).unwrap(), proposal);
    let reply = Reply::Held { owner: member(1, 1), left_ms: 5, fence: 2 };
    let bytes = frozen("reply-1", || encode(&reply));
    assert_eq!(decode::<Reply>(&bytes).unwrap(), reply);
}

#[test]
fn a_snapshot_of_version_1_is_read() {
    let bytes = frozen("snapshot-1", || snapshot::encode(&view_of_version_1()).unwrap());
    let (read, expected) = (snapshot::decode(&bytes).unwrap(), view_of_version_1());
    assert_eq!(read.state.stored(), expected.state.stored());
    assert_eq!(read.applied, expected.applied);
    assert_eq!(read.state.revision, expected.state.revision);
}

#[test]
fn a_field_that_a_newer_krgd_has_added_does_not_disturb() {
    // The newer one writes what it knows more under a name of its own.
    let mut value = serde_json::to_value(commands_of_version_1().swap_remove(15)).unwrap();
    value["sequences"]["take"]["of_tomorrow"] = serde_json::json!({"x": 1});
    let read: Command = serde_json::from_value(value).unwrap();
    assert_eq!(read, commands_of_version_1().swap_remove(15));
}
