//! Whose signatures count: authorities, the members' certificates, the keys of the gossip.

use super::info::{self, GossipKey};
use super::{At, nodes};
use crate::codec::Stored;
use crate::command::Reply;
use crate::state::State;
use krg_types::MemberId;
use krg_types::limits::{AUTHORITIES_MAX, CERTIFICATE_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What is asked about trust.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A further authority; it signs from now on.
    AddAuthority {
        /// SHA-256 of its certificate, hexadecimal.
        fingerprint: String,
        /// The certificate, PEM.
        certificate: String,
        /// When it expires, Unix time in s.
        expires_s: u64,
    },
    /// An authority whose signatures count no more.
    DropAuthority {
        /// Which.
        fingerprint: String,
    },
    /// A member's new certificate.
    Certify {
        /// Whose.
        member: MemberId,
        /// SHA-256 of it, hexadecimal.
        fingerprint: String,
        /// Who signed it.
        authority: String,
    },
    /// A member has the keys of these authorities, and of no others.
    Holds {
        /// Who.
        member: MemberId,
        /// Their fingerprints, hexadecimal.
        authorities: Vec<String>,
    },
    /// A new key for the gossip.
    GossipKey {
        /// 32 bytes, hexadecimal.
        key: String,
    },
}

/// An authority: members' certificates that it signed count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// When it expires, Unix time in s.
    pub expires_s: u64,
    /// Counts the cluster's authorities: the highest signs.
    pub number: u64,
}

impl Stored for Authority {
    const VERSION: u8 = 1;
}

/// Applies one command.
pub fn apply(state: &mut State, at: At, command: &Command) -> Reply {
    match command {
        Command::AddAuthority { fingerprint, certificate, expires_s } => {
            if certificate.len() > 2 * CERTIFICATE_BYTES_MAX || !is_hash(fingerprint) {
                return Reply::Refused("this is not an authority's certificate".into());
            }
            if state.authorities.len() >= AUTHORITIES_MAX {
                let words = "an earlier change of the authority has not ended";
                return Reply::Refused(words.into());
            }
            let numbers = state.authorities.iter().map(|(_, row)| row.value.number);
            let number = numbers.max().unwrap_or(0) + 1;
            let certificate = certificate.clone();
            let authority = Authority { certificate, expires_s: *expires_s, number };
            state.authorities.put(at, fingerprint, authority);
            Reply::Done(at.revision)
        }
        Command::DropAuthority { fingerprint } => drop_authority(state, at, fingerprint),
        Command::Certify { member, fingerprint, authority } => {
            if !is_hash(fingerprint) || state.authorities.get(authority).is_none() {
                return Reply::Refused("its authority is not one of this cluster's".into());
            }
            nodes::edit(&mut state.nodes, at, *member, |node| {
                if node.fingerprints.first() != Some(fingerprint) {
                    // Those before are kept: the member may not have stored the new one yet.
                    node.fingerprints.insert(0, fingerprint.clone());
                    node.fingerprints.truncate(4);
                }
                node.authority.clone_from(authority);
            })
        }
        Command::Holds { member, authorities } => {
            if authorities.len() > AUTHORITIES_MAX || !authorities.iter().all(|a| is_hash(a)) {
                return Reply::Refused("these are not authorities".into());
            }
            nodes::edit(&mut state.nodes, at, *member, |node| node.keys.clone_from(authorities))
        }
        Command::GossipKey { key } if is_hash(key) => {
            rotate(state, at, key);
            Reply::Done(at.revision)
        }
        Command::GossipKey { .. } => Reply::Refused("a key has 32 bytes".into()),
    }
}

fn drop_authority(state: &mut State, at: At, fingerprint: &str) -> Reply {
    if state.authorities.len() < 2 || state.authorities.get(fingerprint).is_none() {
        return Reply::Refused("the last authority cannot be dropped".into());
    }
    let signed = |node: &nodes::Node| node.member.is_some() && node.authority == fingerprint;
    if let Some((key, _)) = state.nodes.iter().find(|(_, row)| signed(&row.value)) {
        return Reply::Refused(format!("node {key} still has a certificate of that authority"));
    }
    state.authorities.delete(fingerprint);
    Reply::Done(at.revision)
}

/// The new key is used from now on; the one before still opens what is under way.
pub(super) fn rotate(state: &mut State, at: At, key: &str) {
    info::change(&mut state.info, at, |info| {
        let id = info.gossip.first().map_or(1, |k| k.id.wrapping_add(1));
        info.gossip.insert(0, GossipKey { id, key: key.to_owned() });
        info.gossip.truncate(2);
    });
}

/// 32 bytes in hexadecimal digits.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
