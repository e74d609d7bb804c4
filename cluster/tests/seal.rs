//! A sealed packet is believed once, by the one it is for, while its sender is who it says.

use krg_cluster::seal::{
    Directory, Key, Keys, OVERHEAD_BYTES, Opener, PACKET_BYTES_MAX, Refusal, SealError, Sealer,
    Sender,
};
use krg_types::limits::{GOSSIP_PAYLOAD_BYTES_MAX, GOSSIP_REPLAY_WINDOW};
use krg_types::{MemberId, NodeId};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::{BTreeMap, HashSet};

const LIFE: u64 = 70;

#[derive(Default)]
struct List(BTreeMap<MemberId, Sender>);

impl Directory for List {
    fn sender(&self, id: MemberId) -> Option<Sender> {
        self.0.get(&id).copied()
    }
}

fn id(node: u32) -> MemberId {
    MemberId::new(NodeId::new(node).unwrap(), 10 + u64::from(node))
}

fn key(id: u32) -> Key {
    Key::new(id, [id as u8; 32])
}

fn keys() -> Keys {
    Keys { current: key(1), previous: None }
}

/// Members 1 to 3 and their private keys; the opener is member 1.
struct World {
    list: List,
    private: Vec<Vec<u8>>,
    opener: Opener,
}

impl World {
    fn new() -> World {
        let mut list = List::default();
        let private = (1..=3).map(|node| {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
            let public_key = pair.public_key().as_ref().try_into().unwrap();
            list.0.insert(id(node), Sender { public_key, incarnation: Some(LIFE) });
            pkcs8.as_ref().to_vec()
        });
        let private = private.collect();
        World { list, private, opener: Opener::new(id(1), LIFE) }
    }

    /// Says it is `node`, signs with the key of `signer`.
    fn sealer(&self, node: u32, signer: usize) -> Sealer {
        Sealer::new(id(node), LIFE, &self.private[signer - 1]).unwrap()
    }

    fn seal(&self) -> Vec<u8> {
        self.sealer(2, 2).seal(&keys(), id(1), LIFE, b"payload").unwrap()
    }

    fn open(&mut self, packet: &[u8]) -> Result<(MemberId, Vec<u8>), Refusal> {
        self.opener.open(&keys(), &self.list, packet).map_err(|e| e.1)
    }
}

#[test]
fn a_packet_arrives_once() {
    let mut world = World::new();
    let packet = world.seal();
    assert_eq!(packet.len(), b"payload".len() + OVERHEAD_BYTES);
    assert!(!packet.windows(7).any(|w| w == b"payload"), "it is readable");
    assert_eq!(world.open(&packet), Ok((id(2), b"payload".to_vec())));
    assert_eq!(world.open(&packet), Err(Refusal::Replay));
    // The same words again are another packet, and nothing of it repeats.
    assert_ne!(world.seal()[45..], packet[45..]);
}

#[test]
fn nobody_speaks_for_another() {
    let mut world = World::new();
    let forged = world.sealer(2, 3).seal(&keys(), id(1), LIFE, b"x").unwrap();
    assert_eq!(world.open(&forged), Err(Refusal::BadSignature));
    let stranger = world.sealer(9, 3).seal(&keys(), id(1), LIFE, b"x").unwrap();
    assert_eq!(world.open(&stranger), Err(Refusal::UnknownSender));
    let mirror = world.sealer(1, 1).seal(&keys(), id(1), LIFE, b"x").unwrap();
    assert_eq!(world.open(&mirror), Err(Refusal::UnknownSender));
    let outside = Keys { current: Key::new(1, [9; 32]), previous: None };
    let outsider = world.sealer(2, 2).seal(&outside, id(1), LIFE, b"x").unwrap();
    assert_eq!(world.open(&outsider), Err(Refusal::BadSeal));
    // A forgery uses up no number of the one it is forged for.
    let genuine = world.seal();
    assert!(world.open(&genuine).is_ok());
}

#[test]
fn a_packet_is_for_one_life_of_one_member_and_from_one() {
    let mut world = World::new();
    let sealer = world.sealer(2, 2);
    let other = sealer.seal(&keys(), id(3), LIFE, b"x").unwrap();
    assert_eq!(world.open(&other), Err(Refusal::NotForUs));
    let old = sealer.seal(&keys(), id(1), LIFE - 1, b"x").unwrap();
    assert_eq!(world.open(&old), Err(Refusal::OldReceiver));

    let before = sealer.seal(&keys(), id(1), LIFE, b"x").unwrap();
    world.list.0.get_mut(&id(2)).unwrap().incarnation = None;
    assert_eq!(world.open(&before), Err(Refusal::OtherIncarnation));
    world.list.0.get_mut(&id(2)).unwrap().incarnation = Some(LIFE + 1);
    assert_eq!(world.open(&before), Err(Refusal::OtherIncarnation));
    let after = Sealer::new(id(2), LIFE + 1, &world.private[1]).unwrap();
    let after = after.seal(&keys(), id(1), LIFE, b"y").unwrap();
    assert_eq!(world.open(&after), Ok((id(2), b"y".to_vec())));

    world.list.0.remove(&id(2));
    assert_eq!(world.open(&after), Err(Refusal::UnknownSender));
}

#[test]
fn keys_rotate() {
    let mut world = World::new();
    let sealer = world.sealer(2, 2);
    let old = || sealer.seal(&keys(), id(1), LIFE, b"old").unwrap();
    let both = Keys { current: key(2), previous: Some(key(1)) };
    let new = sealer.seal(&both, id(1), LIFE, b"new").unwrap();
    let mut open = |keys: &Keys, packet: &[u8]| {
        world.opener.open(keys, &world.list, packet).map(|p| p.1).map_err(|e| e.1)
    };
    assert_eq!(open(&keys(), &new), Err(Refusal::UnknownKey));
    assert_eq!(open(&both, &new), Ok(b"new".to_vec()));
    assert_eq!(open(&both, &old()), Ok(b"old".to_vec()));
    let only = Keys { current: key(2), previous: None };
    assert_eq!(open(&only, &old()), Err(Refusal::UnknownKey));
}

#[test]
fn lengths_are_bounded() {
    let mut world = World::new();
    let sealer = world.sealer(2, 2);
    let longest = vec![7; GOSSIP_PAYLOAD_BYTES_MAX];
    let packet = sealer.seal(&keys(), id(1), LIFE, &longest).unwrap();
    assert_eq!((packet.len(), world.open(&packet)), (PACKET_BYTES_MAX, Ok((id(2), longest))));
    let longer = vec![7; GOSSIP_PAYLOAD_BYTES_MAX + 1];
    let sealed = sealer.seal(&keys(), id(1), LIFE, &longer);
    assert!(matches!(sealed, Err(SealError::TooLong(_))));
    assert_eq!(world.open(&vec![1; PACKET_BYTES_MAX + 1]), Err(Refusal::TooLong));
    let empty = sealer.seal(&keys(), id(1), LIFE, b"").unwrap();
    assert_eq!(world.open(&empty), Ok((id(2), vec![])));
    assert!(Sealer::new(id(1), 1, b"no key").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_are_believed(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(World::new().open(&bytes).is_err());
    }

    #[test]
    fn no_bit_can_be_changed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut world = World::new();
        let packet = world.seal();
        let mut changed = packet.clone();
        changed[at.index(packet.len())] ^= 1 << bit;
        prop_assert!(world.open(&changed).is_err());
        prop_assert!(world.open(&packet).is_ok(), "the attempt did harm");
    }

    #[test]
    fn no_byte_can_be_missing_or_added(cut in any::<prop::sample::Index>(), more in 1usize..9) {
        let mut world = World::new();
        let packet = world.seal();
        prop_assert!(world.open(&packet[..cut.index(packet.len())]).is_err());
        prop_assert!(world.open(&[&packet[..], &vec![0; more]].concat()).is_err());
    }

    /// In whatever order packets come, and come again, each is believed once.
    #[test]
    fn order_does_not_matter_within_the_window(
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let mut world = World::new();
        let sealer = world.sealer(2, 2);
        let payload = |i: usize| vec![i as u8];
        let packets: Vec<_> = (0..30)
            .map(|i| sealer.seal(&keys(), id(1), LIFE, &payload(i)).unwrap())
            .collect();
        let mut seen = HashSet::new();
        for pick in picks {
            let i = pick.index(packets.len());
            let new = Ok((id(2), payload(i)));
            let expected = if seen.insert(i) { new } else { Err(Refusal::Replay) };
            prop_assert_eq!(world.open(&packets[i]), expected);
        }
    }
}

#[test]
fn what_has_left_the_window_is_a_replay() {
    let mut world = World::new();
    let sealer = world.sealer(2, 2);
    let seal = || sealer.seal(&keys(), id(1), LIFE, b"x").unwrap();
    let (late, in_time) = (seal(), seal());
    let mut later: Vec<_> = (0..GOSSIP_REPLAY_WINDOW - 1).map(|_| seal()).collect();
    let newest = later.pop().unwrap();
    assert!(world.open(&newest).is_ok());
    assert!(world.open(&in_time).is_ok());
    assert_eq!(world.open(&late), Err(Refusal::Replay));
}
