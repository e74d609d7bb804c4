//! Reads a message of another node's chitchat before ours does, and takes out what is nobody's
//! business. Pure. A member is believed to say who it is, not to send sound bytes: chitchat would
//! keep nodes that are none, unpack without a bound, and end on some contradictions.
//!
//! ```text
//! message  magic 2 | version 1 | kind 1 | then SYN: digest, cluster; SYN-ACK: digest, delta;
//!          ACK: delta
//! digest   count 2 | ( node | heartbeat 8 | last gc 8 | highest version 8 ) ...
//! node     name | generation 8 | 4 or 6 | address 4 or 16 | port 2
//! delta    blocks ( kind 1 | length 2 | bytes ) ... | 0, of operations when unpacked:
//!          0 node | last gc 8 | from version 8,   1 key | value | version 8 | status 1
//! ```
//! Numbers are little endian; names, keys and values are a length (2) and UTF-8.

use super::LOAD_KEY;
use krg_types::limits::{GOSSIP_ENTRIES_MAX, GOSSIP_UNPACKED_BYTES_MAX, LOAD_BYTES_MAX};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MAGIC_AND_VERSION: [u8; 3] = [0x53, 0xb0, 0];
const SYN: u8 = 0;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;
const BLOCK_END: u8 = 0;
const BLOCK_PACKED: u8 = 1;
const BLOCK_PLAIN: u8 = 2;
const OP_NODE: u8 = 0;
const OP_KEY: u8 = 1;
/// The longest block there can be.
const BLOCK_BYTES_MAX: usize = u16::MAX as usize;
/// Versions count changes: more than this is a lie, and would overflow when counted on.
const VERSION_MAX: u64 = 1 << 62;

/// The payload is not what chitchat sends here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// One node as a message names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Named<'a> {
    /// The text of its id.
    pub(super) name: &'a str,
    /// Its incarnation.
    pub(super) generation: u64,
    /// Its address.
    pub(super) address: SocketAddr,
}

/// What is to become of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// A member as it is now.
    Member,
    /// This node: others may say how much of it they know, and nothing more.
    Own,
    /// A node that is none, or an earlier life of one.
    Foreign,
}

/// A message that is safe for chitchat.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Screened {
    /// It, as bytes.
    pub(super) message: Vec<u8>,
    /// Entries taken out as foreign.
    pub(super) foreign: usize,
}

/// Screens one message.
pub(super) fn screen(
    payload: &[u8],
    cluster: &str,
    judge: &dyn Fn(Named<'_>) -> Entry,
) -> Result<Screened, Malformed> {
    let mut input = Reader(payload);
    let mut out = Screened { message: Vec::with_capacity(payload.len()), foreign: 0 };
    let magic = input.take(MAGIC_AND_VERSION.len())?;
    let kind = input.byte()?;
    if magic != MAGIC_AND_VERSION {
        return Err(Malformed);
    }
    out.message.extend(MAGIC_AND_VERSION);
    out.message.push(kind);
    match kind {
        SYN => {
            digest(&mut input, judge, &mut out)?;
            let name = input.text()?;
            if name != cluster {
                return Err(Malformed);
            }
            put_text(name, &mut out.message);
        }
        SYN_ACK => {
            digest(&mut input, judge, &mut out)?;
            delta(&mut input, judge, &mut out)?;
        }
        ACK => delta(&mut input, judge, &mut out)?,
        _ => return Err(Malformed),
    }
    if input.0.is_empty() { Ok(out) } else { Err(Malformed) }
}

fn digest(
    input: &mut Reader<'_>,
    judge: &dyn Fn(Named<'_>) -> Entry,
    out: &mut Screened,
) -> Result<(), Malformed> {
    let count = input.short()?;
    if usize::from(count) > GOSSIP_ENTRIES_MAX {
        return Err(Malformed);
    }
    let at = out.message.len();
    out.message.extend([0, 0]);
    let mut kept: u16 = 0;
    for _ in 0..count {
        let start = input.0;
        let node = input.node()?;
        input.take(3 * 8)?;
        if judge(node) == Entry::Foreign {
            out.foreign += 1;
        } else {
            out.message.extend(&start[..start.len() - input.0.len()]);
            kept += 1;
        }
    }
    out.message[at..at + 2].copy_from_slice(&kept.to_le_bytes());
    Ok(())
}

fn delta(
    input: &mut Reader<'_>,
    judge: &dyn Fn(Named<'_>) -> Entry,
    out: &mut Screened,
) -> Result<(), Malformed> {
    let unpacked = unpack(input)?;
    let mut operations = Reader(&unpacked);
    let mut plain = Vec::with_capacity(unpacked.len());
    // Nodes seen, whether the current one is kept, and the highest version it has had.
    let (mut nodes, mut keep, mut version) = (0, None, 0);
    while !operations.0.is_empty() {
        let start = operations.0;
        match operations.byte()? {
            OP_NODE => {
                let node = operations.node()?;
                // Nothing is ever deleted here, so nothing was collected.
                let collected = operations.long()?;
                let from = operations.long()?;
                nodes += 1;
                if collected != 0 || from > VERSION_MAX || nodes > GOSSIP_ENTRIES_MAX {
                    return Err(Malformed);
                }
                let member = judge(node) == Entry::Member;
                out.foreign += usize::from(!member);
                (keep, version) = (Some(member), 0);
            }
            OP_KEY => {
                let (key, value) = (operations.text()?, operations.text()?);
                let newer = operations.long()?;
                let set = operations.byte()? == 0;
                let sound = newer > version && newer <= VERSION_MAX && set;
                if keep.is_none() || !sound || key != LOAD_KEY || value.len() > LOAD_BYTES_MAX {
                    return Err(Malformed);
                }
                version = newer;
            }
            // The third operation of chitchat is about deleted keys.
            _ => return Err(Malformed),
        }
        if keep == Some(true) {
            plain.extend(&start[..start.len() - operations.0.len()]);
        }
    }
    pack(&plain, &mut out.message);
    Ok(())
}

/// The bytes of all blocks of a delta.
fn unpack(input: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let mut all = Vec::new();
    let mut block = Vec::new();
    loop {
        let kind = input.byte()?;
        if kind == BLOCK_END {
            return Ok(all);
        }
        let len = input.short()?;
        let bytes = input.take(len.into())?;
        match kind {
            BLOCK_PLAIN => all.extend(bytes),
            BLOCK_PACKED => {
                block.resize(BLOCK_BYTES_MAX, 0);
                let unpacked = zstd::bulk::decompress_to_buffer(bytes, &mut block[..]);
                all.extend(&block[..unpacked.map_err(|_| Malformed)?]);
            }
            _ => return Err(Malformed),
        }
        if all.len() > GOSSIP_UNPACKED_BYTES_MAX {
            return Err(Malformed);
        }
    }
}

/// Blocks of plain bytes: this goes no further than to our own chitchat.
fn pack(plain: &[u8], out: &mut Vec<u8>) {
    for block in plain.chunks(BLOCK_BYTES_MAX) {
        out.push(BLOCK_PLAIN);
        out.extend((block.len() as u16).to_le_bytes());
        out.extend(block);
    }
    out.push(BLOCK_END);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Takes values off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[b]| b)
    }

    fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.short()?;
        std::str::from_utf8(self.take(len.into())?).map_err(|_| Malformed)
    }

    fn node(&mut self) -> Result<Named<'a>, Malformed> {
        let name = self.text()?;
        let generation = self.long()?;
        let ip = match self.byte()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed),
        };
        let address = SocketAddr::new(ip, self.short()?);
        Ok(Named { name, generation, address })
    }
}

#[cfg(test)]
mod tests;
