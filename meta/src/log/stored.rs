//! Entries, votes and places as bytes: the same on disk and on the wire.

use crate::codec::{self, CodecError, Stored};
use crate::raft::{Entry, LogId, Types, Vote};
use krg_types::MemberId;
use krg_types::limits::BATCH_COMMANDS_MAX;
use openraft::{BasicNode, EntryPayload, Membership};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
struct Payload<'a>(Cow<'a, EntryPayload<Types>>);

impl Stored for Payload<'_> {
    const VERSION: u8 = 1;
}

#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
struct Whole<'a>(Cow<'a, Entry>);

impl Stored for Whole<'_> {
    const VERSION: u8 = 1;
}

/// A vote as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct StoredVote(pub Vote);

impl Stored for StoredVote {
    const VERSION: u8 = 1;
}

/// A place in the log as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct StoredId(pub Option<LogId>);

impl Stored for StoredId {
    const VERSION: u8 = 1;
}

/// The stored form of an entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    codec::encode(&Whole(Cow::Borrowed(entry)))
}

/// The entry that was stored.
///
/// # Errors
/// When the bytes are damaged or no entry.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let Whole(entry) = codec::decode(bytes)?;
    Ok(entry.into_owned())
}

/// The stored form of an entry's content.
pub fn encode_payload(payload: &EntryPayload<Types>) -> Vec<u8> {
    codec::encode(&Payload(Cow::Borrowed(payload)))
}

/// The content of an entry that somebody sent.
///
/// # Errors
/// When the bytes are damaged, no content of an entry, or one that nobody may send.
pub fn decode_payload(bytes: &[u8]) -> Result<EntryPayload<Types>, CodecError> {
    let Payload(payload) = codec::decode(bytes)?;
    match payload.as_ref() {
        EntryPayload::Normal(batch) if batch.proposals.len() > BATCH_COMMANDS_MAX => {
            let count = batch.proposals.len();
            let words = format!("{count} commands in one entry (at most {BATCH_COMMANDS_MAX})");
            return Err(CodecError::Content(words));
        }
        EntryPayload::Membership(membership) => check_membership(membership)?,
        _ => {}
    }
    Ok(payload.into_owned())
}

/// Can Raft work with this membership? One made up elsewhere must not make it panic here.
///
/// # Errors
/// What is wrong with it.
pub fn check_membership(membership: &Membership<MemberId, BasicNode>) -> Result<(), CodecError> {
    let wrong = |words: String| Err(CodecError::Content(words));
    let configs = membership.get_joint_config();
    if configs.len() > 2 || configs.iter().any(|voters| voters.is_empty()) {
        return wrong("a membership with no voters, or with more than two sets of them".into());
    }
    let stranger = membership.voter_ids().find(|id| membership.get_node(id).is_none());
    if let Some(id) = stranger {
        return wrong(format!("a membership whose voter {id} has no address"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Batch, Command, Proposal, Ticket};
    use crate::table::config;
    use krg_types::NodeId;
    use openraft::CommittedLeaderId;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn member(node: u32) -> MemberId {
        MemberId::new(NodeId::new(node).unwrap(), 1)
    }

    fn proposal((number, key, value): (u64, String, Option<String>)) -> Proposal {
        let ticket = Ticket { origin: member(1), epoch: 2, number, settled: 0 };
        let command = Command::Config(config::Command::Set { key, value, if_revision: None });
        Proposal { ticket, command }
    }

    fn payload() -> impl Strategy<Value = EntryPayload<Types>> {
        let command = (any::<u64>(), ".{0,9}", proptest::option::of(".{0,40}"));
        let batch = proptest::collection::vec(command.prop_map(proposal), 0..4);
        prop_oneof![
            Just(EntryPayload::Blank),
            (any::<u64>(), batch).prop_map(|(now_ms, proposals)| EntryPayload::Normal(Batch {
                now_ms,
                proposals: proposals.into()
            })),
            proptest::collection::btree_set(1u32..200, 1..5).prop_map(|nodes| {
                let voters: BTreeSet<MemberId> = nodes.into_iter().map(member).collect();
                EntryPayload::Membership(Membership::new(vec![voters], None))
            }),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(payload in payload(), term: u64, index: u64) {
            let back = decode_payload(&encode_payload(&payload)).unwrap();
            prop_assert!(back == payload);
            let log_id = LogId::new(CommittedLeaderId::new(term, member(3)), index);
            let entry = Entry { log_id, payload };
            let back = decode_entry(&encode_entry(&entry)).unwrap();
            prop_assert!(back.log_id == entry.log_id && back.payload == entry.payload);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            prop_assert!(decode_payload(&bytes).is_err());
            prop_assert!(decode_entry(&bytes).is_err());
        }

        // With a checksum that fits, so that the content is looked at.
        #[test]
        fn any_content_is_read_without_panic(
            payload in payload(), at: prop::sample::Index, byte: u8,
        ) {
            let mut bytes = encode_payload(&payload);
            let at = 5 + at.index(bytes.len() - 5);
            bytes[at] = byte;
            let mut sum = crc32fast::Hasher::new();
            sum.update(&bytes[..1]);
            sum.update(&bytes[5..]);
            let sum = sum.finalize().to_be_bytes();
            bytes[1..5].copy_from_slice(&sum);
            if let Ok(EntryPayload::Membership(m)) = decode_payload(&bytes) {
                prop_assert!(m.voter_ids().all(|id| m.get_node(&id).is_some()));
            }
        }
    }

    #[test]
    fn what_nobody_may_send_is_refused() {
        let proposals = vec![proposal((1, "k".into(), None)); BATCH_COMMANDS_MAX + 1];
        let long = EntryPayload::Normal(Batch { now_ms: 0, proposals: proposals.into() });
        assert!(decode_payload(&encode_payload(&long)).is_err());
        let nobody = Membership::new(vec![BTreeSet::new()], BTreeMap::new());
        assert!(decode_payload(&encode_payload(&EntryPayload::Membership(nobody))).is_err());
        let text = r#"{"Membership":{"configs":[[257]],"nodes":{}}}"#;
        let mut bytes = encode_payload(&EntryPayload::Blank);
        bytes.truncate(5);
        bytes.extend(text.as_bytes());
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..1]);
        sum.update(&bytes[5..]);
        let sum = sum.finalize().to_be_bytes();
        bytes[1..5].copy_from_slice(&sum);
        let refused = decode_payload(&bytes).err().unwrap().to_string();
        assert!(refused.contains("has no address"), "{refused}");
    }
}
