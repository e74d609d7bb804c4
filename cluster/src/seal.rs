//! One datagram of the gossip, sealed: encrypted with the cluster's key, signed by its sender, for
//! one receiver and one life of it. Pure: no socket and no clock.
//!
//! ```text
//! version 1 | key id 4 | sender 8 | its incarnation 8 | receiver 8 | its incarnation 8
//! | sequence 8 | salt 16 | encrypted ( payload | signature 64 ) | tag 16     (big endian)
//! ```
//!
//! Every packet has a key of its own, derived from the cluster's key and the random salt, so no
//! nonce can repeat: not across restarts, not between nodes, not after a copy of a machine wakes.

mod refusal;
mod window;

pub use refusal::Refusal;

use krg_types::MemberId;
use krg_types::limits::GOSSIP_PAYLOAD_BYTES_MAX;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ring::{hkdf, signature};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use window::Window;

/// The version of the format.
const VERSION: u8 = 1;
/// Names what is derived and signed, so that neither means anything elsewhere.
const CONTEXT: &[u8] = b"krg gossip packet 1";
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + 4 + 5 * 8 + SALT_BYTES;
const SIGNATURE_BYTES: usize = signature::ED25519_PUBLIC_KEY_LEN * 2;
const TAG_BYTES: usize = 16;

/// What sealing adds to a payload, bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + SIGNATURE_BYTES + TAG_BYTES;
/// The longest sealed packet, bytes.
pub const PACKET_BYTES_MAX: usize = GOSSIP_PAYLOAD_BYTES_MAX + OVERHEAD_BYTES;

/// Why a packet could not be sealed.
#[derive(thiserror::Error, Debug)]
pub enum SealError {
    /// The key of the node's certificate cannot sign.
    #[error("the key of the certificate is not an Ed25519 key: {0}")]
    Key(String),
    /// The payload does not fit a datagram.
    #[error("{0} bytes are too many for one packet of the gossip")]
    TooLong(usize),
    /// The kernel gave no random bytes, or the cipher refused.
    #[error("the packet could not be encrypted")]
    Cipher,
}

/// A key of the cluster's gossip.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u32,
    secret: [u8; 32],
}

impl Key {
    /// The key numbered `id`.
    pub fn new(id: u32, secret: [u8; 32]) -> Key {
        Key { id, secret }
    }

    /// The cipher of the packet with this salt.
    fn cipher(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.secret);
        let expanded = extracted.expand(&[CONTEXT], &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(expanded)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret has no place in a log.
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    /// Packets are sealed with it.
    pub current: Key,
    /// Packets are still opened with it, for those who have not heard of the present one.
    pub previous: Option<Key>,
}

impl Keys {
    fn find(&self, id: u32) -> Option<&Key> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|k| k.id == id)
    }
}

/// What must be known of a member to believe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// The Ed25519 key of its certificate.
    pub public_key: [u8; 32],
    /// The incarnation that the last direct probe met; `None` before the first.
    pub incarnation: Option<u64>,
}

/// The agreed member list, as far as seals need it.
pub trait Directory {
    /// A member; `None` if it is none.
    fn sender(&self, id: MemberId) -> Option<Sender>;
}

/// The part of a packet that is not encrypted.
#[derive(Clone, Copy)]
struct Header {
    key: u32,
    from: (u64, u64),
    to: (u64, u64),
    sequence: u64,
}

impl Header {
    fn write(&self, salt: &[u8; SALT_BYTES], out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(self.key.to_be_bytes());
        for n in [self.from.0, self.from.1, self.to.0, self.to.1, self.sequence] {
            out.extend(n.to_be_bytes());
        }
        out.extend(salt);
    }

    /// Of bytes that are known to be long enough and of our version.
    fn read(bytes: &[u8]) -> Header {
        let number = |at: usize, len: usize| {
            bytes[at..at + len].iter().fold(0u64, |n, &b| n << 8 | u64::from(b))
        };
        Header {
            key: number(1, 4) as u32,
            from: (number(5, 8), number(13, 8)),
            to: (number(21, 8), number(29, 8)),
            sequence: number(37, 8),
        }
    }
}

/// What is signed: everything but the encryption, which anybody with the key could redo.
fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    [CONTEXT, header, payload].concat()
}

/// There is one packet for each derived key, so its nonce says nothing.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Seals what this node sends.
pub struct Sealer {
    own: MemberId,
    incarnation: u64,
    key: Ed25519KeyPair,
    random: SystemRandom,
    sequence: AtomicU64,
}

impl Sealer {
    /// For this life of `own`, which has the PKCS#8 key of its certificate.
    pub fn new(own: MemberId, incarnation: u64, key_pkcs8: &[u8]) -> Result<Sealer, SealError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key_pkcs8)
            .map_err(|e| SealError::Key(e.to_string()))?;
        let sequence = AtomicU64::new(1);
        Ok(Sealer { own, incarnation, key, random: SystemRandom::new(), sequence })
    }

    /// The packet that takes `payload` to this life of `to`.
    pub fn seal(
        &self,
        keys: &Keys,
        to: MemberId,
        to_incarnation: u64,
        payload: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        if payload.len() > GOSSIP_PAYLOAD_BYTES_MAX {
            return Err(SealError::TooLong(payload.len()));
        }
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| SealError::Cipher)?;
        let header = Header {
            key: keys.current.id,
            from: (self.own.get(), self.incarnation),
            to: (to.get(), to_incarnation),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        };
        let mut packet = Vec::with_capacity(payload.len() + OVERHEAD_BYTES);
        header.write(&salt, &mut packet);
        let mut body = payload.to_vec();
        body.extend(self.key.sign(&signed(&packet, payload)).as_ref());
        let cipher = keys.current.cipher(&salt).ok_or(SealError::Cipher)?;
        cipher
            .seal_in_place_append_tag(nonce(), Aad::from(&packet), &mut body)
            .map_err(|_| SealError::Cipher)?;
        packet.extend(body);
        Ok(packet)
    }
}

/// Opens what this node receives.
pub struct Opener {
    own: MemberId,
    incarnation: u64,
    seen: HashMap<MemberId, (u64, Window)>,
}

impl Opener {
    /// For this life of `own`.
    pub fn new(own: MemberId, incarnation: u64) -> Opener {
        Opener { own, incarnation, seen: HashMap::new() }
    }

    /// Who sent this packet, and what. Cheap checks come first; nothing is remembered of a packet
    /// whose signature does not verify. `OtherIncarnation` is said only of genuine packets: their
    /// sender is worth a probe.
    pub fn open(
        &mut self,
        keys: &Keys,
        directory: &dyn Directory,
        packet: &[u8],
    ) -> Result<(MemberId, Vec<u8>), (Option<MemberId>, Refusal)> {
        let header = self.check(packet).map_err(|why| (None, why))?;
        let key = keys.find(header.key).ok_or((None, Refusal::UnknownKey))?;
        let unknown = (None, Refusal::UnknownSender);
        let from = MemberId::from_u64(header.from.0).filter(|&id| id != self.own);
        let from = from.ok_or(unknown)?;
        let sender = directory.sender(from).ok_or(unknown)?;
        let refuse = |why| (Some(from), why);

        let (clear, sealed) = packet.split_at(HEADER_BYTES);
        let salt = &clear[HEADER_BYTES - SALT_BYTES..];
        let cipher = key.cipher(salt).ok_or(refuse(Refusal::BadSeal))?;
        let mut body = sealed.to_vec();
        let opened = cipher
            .open_in_place(nonce(), Aad::from(clear), &mut body)
            .map_err(|_| refuse(Refusal::BadSeal))?;
        let (payload, signature) = opened.split_at(opened.len() - SIGNATURE_BYTES);
        UnparsedPublicKey::new(&ED25519, sender.public_key)
            .verify(&signed(clear, payload), signature)
            .map_err(|_| refuse(Refusal::BadSignature))?;

        if sender.incarnation != Some(header.from.1) {
            return Err(refuse(Refusal::OtherIncarnation));
        }
        if !self.is_new(directory, from, header.from.1, header.sequence) {
            return Err(refuse(Refusal::Replay));
        }
        Ok((from, payload.to_vec()))
    }

    /// What can be said without a key.
    fn check(&self, packet: &[u8]) -> Result<Header, Refusal> {
        if packet.len() < OVERHEAD_BYTES {
            return Err(Refusal::TooShort);
        }
        if packet.len() > PACKET_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        if packet[0] != VERSION {
            return Err(Refusal::Version);
        }
        let header = Header::read(packet);
        if header.to.0 != self.own.get() {
            return Err(Refusal::NotForUs);
        }
        if header.to.1 != self.incarnation {
            return Err(Refusal::OldReceiver);
        }
        Ok(header)
    }

    /// Remembers a genuine packet; false if it was remembered already.
    fn is_new(
        &mut self,
        directory: &dyn Directory,
        from: MemberId,
        incarnation: u64,
        sequence: u64,
    ) -> bool {
        if !self.seen.contains_key(&from) {
            // A member that left never comes back under its id.
            self.seen.retain(|&id, _| directory.sender(id).is_some());
        }
        let fresh = || (incarnation, Window::new());
        let entry = self.seen.entry(from).or_insert_with(fresh);
        if entry.0 != incarnation {
            *entry = fresh();
        }
        entry.1.insert(sequence)
    }
}
