use super::*;
use chitchat::{ChitchatMessage, Deserializable};
use proptest::prelude::*;

/// Node 3 is this one; 1 and 2 are members.
fn judge(node: Named<'_>) -> Entry {
    match (node.name, node.generation) {
        ("3.3", 7) => Entry::Own,
        ("1.1" | "2.2", 7) => Entry::Member,
        _ => Entry::Foreign,
    }
}

fn node(name: &str, generation: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(name, &mut out);
    out.extend(generation.to_le_bytes());
    out.extend([4, 0, 0, 0, 1, 0, 0]);
    out
}

fn digest_of(names: &[(&str, u64)]) -> Vec<u8> {
    let mut out = (names.len() as u16).to_le_bytes().to_vec();
    for (name, generation) in names {
        out.extend(node(name, *generation));
        out.extend([5u8, 0, 0, 0, 0, 0, 0, 0].repeat(3));
    }
    out
}

fn begin(name: &str, generation: u64) -> Vec<u8> {
    [vec![OP_NODE], node(name, generation), vec![0; 16]].concat()
}

fn set(key: &str, value: &str, version: u64, status: u8) -> Vec<u8> {
    let mut out = vec![OP_KEY];
    put_text(key, &mut out);
    put_text(value, &mut out);
    out.extend(version.to_le_bytes());
    out.push(status);
    out
}

fn packed(operations: &[u8]) -> Vec<u8> {
    let block = zstd::bulk::compress(operations, 0).unwrap();
    let len = (block.len() as u16).to_le_bytes();
    [&[BLOCK_PACKED][..], &len, &block, &[BLOCK_END]].concat()
}

fn plain(operations: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    pack(operations, &mut out);
    out
}

fn message(kind: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    [&MAGIC_AND_VERSION[..], &[kind], &parts.concat()].concat()
}

fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(value, &mut out);
    out
}

fn ack(operations: &[Vec<u8>]) -> Vec<u8> {
    message(ACK, &[packed(&operations.concat())])
}

fn check(payload: &[u8]) -> Result<Screened, Malformed> {
    let screened = screen(payload, "krg", &judge);
    if let Ok(Screened { message, .. }) = &screened {
        let mut rest = &message[..];
        ChitchatMessage::deserialize(&mut rest).expect("chitchat reads what passed");
        assert!(rest.is_empty());
    }
    screened
}

#[test]
fn members_pass_and_the_others_are_taken_out() {
    let many = [("1.1", 7), ("1.1", 6), ("2.2", 7), ("3.3", 7), ("9.9", 7)];
    let syn = message(SYN, &[digest_of(&many), text("krg")]);
    let left = message(SYN, &[digest_of(&[many[0], many[2], many[3]]), text("krg")]);
    assert_eq!(check(&syn), Ok(Screened { message: left, foreign: 2 }));

    let ours = [begin("1.1", 7), set("load", "x", 3, 0), begin("2.2", 7)].concat();
    let theirs = [begin("9.9", 7), set("load", "y", 3, 0), begin("3.3", 7)].concat();
    let (own, end) = (set("load", "lie", u64::MAX >> 2, 0), begin("1.1", 6));
    let all = [ours.clone(), theirs, own, end].concat();
    let syn_ack = message(SYN_ACK, &[digest_of(&many[..1]), packed(&all)]);
    let left = message(SYN_ACK, &[digest_of(&many[..1]), plain(&ours)]);
    assert_eq!(check(&syn_ack), Ok(Screened { message: left, foreign: 3 }));
}

#[test]
fn what_would_end_or_fill_chitchat_is_refused() {
    let member = || begin("1.1", 7);
    let load = |version| set("load", "x", version, 0);
    assert!(check(&ack(&[member(), load(1)])).is_ok());
    let max = [vec![2], 5u64.to_le_bytes().to_vec()].concat();
    let mut collected = member();
    let gc = collected.len() - 16;
    collected[gc] = 1;
    for (what, bad) in [
        ("a value of nobody", ack(&[load(1)])),
        ("a version that falls", ack(&[member(), load(2), load(1)])),
        ("a version without end", ack(&[member(), load(u64::MAX)])),
        ("a foreign one too", ack(&[begin("9.9", 7), load(u64::MAX)])),
        ("a highest version below one", ack(&[member(), load(9), max])),
        ("a deleted value", ack(&[member(), set("load", "", 1, 1)])),
        ("another key", ack(&[member(), set("root", "x", 1, 0)])),
        ("a long value", ack(&[member(), set("load", &"x".repeat(129), 1, 0)])),
        ("collected versions", ack(&[collected])),
        ("too many nodes", ack(&vec![begin("9.9", 7); GOSSIP_ENTRIES_MAX + 1])),
        ("another cluster", message(SYN, &[digest_of(&[]), text("other")])),
        ("a refusal", message(3, &[])),
        ("more than a message", message(ACK, &[plain(&[]), vec![0]])),
        ("nothing", vec![]),
    ] {
        assert_eq!(check(&bad), Err(Malformed), "{what}");
    }
    let bomb = packed(&[0; BLOCK_BYTES_MAX]);
    let block = &bomb[..bomb.len() - 1];
    let blocks = [&block.repeat(900)[..], &[BLOCK_END]].concat();
    assert!(blocks.len() < 60 << 10, "{} bytes fit a packet", blocks.len());
    assert_eq!(check(&message(ACK, &[blocks])), Err(Malformed));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&bytes);
        let _ = check(&message(ACK, &[packed(&bytes)]));
        let _ = check(&message(SYN_ACK, &[bytes]));
    }

    /// A message with one byte changed is refused, or chitchat reads what is left of it.
    #[test]
    fn a_changed_message_is_refused_or_harmless(at in any::<prop::sample::Index>(), by in 1u8..) {
        let operations = [begin("1.1", 7), set("load", "x", 3, 0), begin("2.2", 7)].concat();
        let parts = [digest_of(&[("1.1", 7), ("9.9", 7)]), plain(&operations)];
        let mut bytes = message(SYN_ACK, &parts);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(Screened { message, .. }) = screen(&bytes, "krg", &judge) {
            prop_assert!(ChitchatMessage::deserialize(&mut &message[..]).is_ok());
        }
    }
}
