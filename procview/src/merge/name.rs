//! Names of devices, made unique in the cluster.

use super::text::{is_name, put};
use krg_types::NodeId;

/// Characters of the hash that ends a shortened name; 36^5 values keep names apart.
const HASH_CHARS: usize = 5;

/// `n3-sda`: the device's name with its node in front, one word without a colon, as the tables
/// want it. A name that would be longer than `max` keeps its start and ends in a hash of the
/// whole, always the same for the same name. `None` for a name no kernel would use.
pub(super) fn of_node(node: NodeId, name: &[u8], max: usize) -> Option<Vec<u8>> {
    if !is_name(name) {
        return None;
    }
    let mut out = Vec::with_capacity(max);
    put!(out, "n{node}-");
    if out.len() + name.len() <= max {
        out.extend_from_slice(name);
        return Some(out);
    }
    let keep = max.saturating_sub(out.len() + 1 + HASH_CHARS);
    out.extend(name.iter().take(keep));
    out.push(b'~');
    let mut hash = fnv1a(name);
    for _ in 0..HASH_CHARS {
        let digit = u32::try_from(hash % 36).unwrap_or(0);
        put!(out, "{}", char::from_digit(digit, 36).unwrap_or('0'));
        hash /= 36;
    }
    Some(out)
}

/// The 64-bit FNV-1a hash (RFC 9923): short, and the same on every node and in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_short_and_apart() {
        let name = |node, name: &str| {
            let name = of_node(NodeId::new(node).unwrap(), name.as_bytes(), 15).unwrap();
            String::from_utf8(name).unwrap()
        };
        assert_eq!(name(3, "eth0"), "n3-eth0");
        assert_eq!(name(42, "veth1a2b3c4"), "n42-veth1a2b3c4");
        let (a, b) = (name(255, "veth1a2b3c4"), name(255, "veth1a2b3c5"));
        assert!(a.starts_with("n255-veth~") && a.len() == 15 && b.len() == 15 && a != b);
        for bad in [&b""[..], b"a b", b"a\xff", b"a\0", &[b'x'; 65]] {
            assert_eq!(of_node(NodeId::new(1).unwrap(), bad, 15), None);
        }
    }
}
