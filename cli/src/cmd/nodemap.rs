//! MOSIX's node map: which numbers belong to which addresses. `/etc/mosix.map`.

use krg_types::NodeId;
use krg_types::limits::{ADDRESS_BYTES_MAX, MAP_ENTRIES_MAX, NODE_ID_MAX};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `FIRST-ID HOST COUNT`: `count` nodes from `first` on, at consecutive addresses from `host` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first node's number.
    pub first: NodeId,
    /// Its address or host name.
    pub host: String,
    /// How many nodes, 1 to 255.
    pub count: u32,
}

/// A whole map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMap {
    /// The nodes.
    pub entries: Vec<Entry>,
    /// Further addresses of nodes, `ID ALT-ADDRESS ALIAS`.
    pub aliases: Vec<(NodeId, String)>,
}

/// Reads a map.
///
/// # Errors
/// What is wrong, with the number of the line.
pub fn parse(text: &str) -> Result<NodeMap, String> {
    let mut map = NodeMap::default();
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    let mut alias_lines = Vec::new();
    for (n, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        let wrong = |why: String| format!("line {n}: {why}");
        let words = line.split('#').next().unwrap_or_default().split_whitespace();
        let words: Vec<&str> = words.take(4).collect();
        let [id, host, last] = words[..] else {
            if words.is_empty() {
                continue;
            }
            return Err(wrong("not `FIRST-ID HOST COUNT` or `ID ADDRESS ALIAS`".into()));
        };
        let id = number(id, "node number").map_err(wrong)?;
        check_host(host).map_err(wrong)?;
        if map.entries.len() + map.aliases.len() == MAP_ENTRIES_MAX {
            return Err(wrong(format!("a map has at most {MAP_ENTRIES_MAX} entries")));
        }
        if last.eq_ignore_ascii_case("ALIAS") {
            map.aliases.push((id, host.to_owned()));
            alias_lines.push(n);
            continue;
        }
        let count = number(last, "number of nodes").map_err(wrong)?.get();
        let entry = Entry { first: id, host: host.to_owned(), count };
        check_range(&entry).map_err(wrong)?;
        for node in id.get()..id.get() + count {
            if let Some(before) = taken.insert(node, n) {
                return Err(wrong(format!("node {node} is in line {before} already")));
            }
        }
        map.entries.push(entry);
    }
    for ((id, _), n) in map.aliases.iter().zip(alias_lines) {
        if !taken.contains_key(&id.get()) {
            return Err(format!("line {n}: an alias of node {id}, which is not in the map"));
        }
    }
    Ok(map)
}

/// 1 to 255: so many nodes there are, and so are they numbered.
fn number(word: &str, what: &str) -> Result<NodeId, String> {
    let plain = word.bytes().all(|b| b.is_ascii_digit());
    let id = word.parse::<u32>().ok().filter(|_| plain).and_then(NodeId::new);
    id.ok_or(format!("`{word}` is no {what}: 1 to {NODE_ID_MAX} here"))
}

fn check_host(host: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if host.len() > ADDRESS_BYTES_MAX || !host.chars().all(plain) {
        return Err(format!("{host:.40?} is neither an address nor a host name"));
    }
    Ok(())
}

fn check_range(entry: &Entry) -> Result<(), String> {
    let (first, count) = (entry.first.get(), entry.count);
    let last = first + count - 1;
    if last > NODE_ID_MAX {
        return Err(format!(
            "{count} nodes from {first} on: the last is {last}, {NODE_ID_MAX} at most"
        ));
    }
    let past = match entry.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => u32::from(ip).checked_add(count - 1).is_none(),
        Ok(IpAddr::V6(ip)) => u128::from(ip).checked_add(u128::from(count - 1)).is_none(),
        Err(_) => false,
    };
    if past {
        Err(format!("there are no {count} addresses from {} on", entry.host))
    } else {
        Ok(())
    }
}

/// The map as a file says it.
pub fn render(entries: &[Entry]) -> String {
    entries.iter().map(|e| format!("{} {} {}\n", e.first, e.host, e.count)).collect()
}

/// The number that a map gives to an address or host name.
pub fn number_of(entries: &[Entry], host: &str) -> Option<NodeId> {
    let offset = |e: &Entry| match (e.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        (Ok(IpAddr::V4(from)), Ok(IpAddr::V4(to))) => {
            u32::from(to).checked_sub(u32::from(from)).map(u128::from)
        }
        (Ok(IpAddr::V6(from)), Ok(IpAddr::V6(to))) => u128::from(to).checked_sub(from.into()),
        _ => e.host.eq_ignore_ascii_case(host).then_some(0),
    };
    entries.iter().find_map(|e| {
        let offset = offset(e).filter(|o| *o < u128::from(e.count))?;
        NodeId::new(e.first.get() + u32::try_from(offset).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn the_old_files_are_read() {
        let text =
            "# MOSIX map\n1 10.0.0.1 99\n\n120 node01 1 # the old one\n120 10.1.0.1 ALIAS\n";
        let map = parse(text).unwrap();
        assert_eq!(map.entries.len(), 2);
        assert_eq!(map.aliases, [(id(120), "10.1.0.1".to_owned())]);
        assert_eq!(render(&map.entries), "1 10.0.0.1 99\n120 node01 1\n");
        assert_eq!(number_of(&map.entries, "10.0.0.32"), Some(id(32)));
        assert_eq!(number_of(&map.entries, "10.0.0.99"), Some(id(99)));
        assert_eq!(number_of(&map.entries, "10.0.0.100"), None);
        assert_eq!(number_of(&map.entries, "10.0.0.0"), None);
        assert_eq!(number_of(&map.entries, "NODE01"), Some(id(120)));
        assert_eq!(parse("").unwrap(), NodeMap::default());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, words) in [
            ("1 a 1\n300 b 1\n", "line 2: `300` is no node number: 1 to 255 here"),
            ("0 a 1", "line 1: `0` is no node number"),
            ("+1 a 1", "line 1: `+1`"),
            ("1 a 0", "line 1: `0` is no number of nodes"),
            ("1 a", "line 1: not `FIRST-ID"),
            ("1 a 1 x", "line 1: not `FIRST-ID"),
            ("200 a 57", "the last is 256"),
            ("1 10.0.0.1 9\n9 10.0.0.9 1", "line 2: node 9 is in line 1"),
            ("1 255.255.255.250 9", "no 9 addresses from 255.255.255.250"),
            ("1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2", "no 2 addresses"),
            ("1 a 1\n2 b ALIAS", "line 2: an alias of node 2"),
            ("1 a/b 1", "line 1: \"a/b\" is neither"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let many: String = (0..257).map(|n| format!("1 a{n} ALIAS\n")).collect();
        assert!(parse(&format!("1 a 1\n{many}")).unwrap_err().contains("line 257: a map has"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9a-zA-Z.:# \n]{0,80}") {
            if let Ok(map) = parse(&text) {
                let again = parse(&render(&map.entries)).unwrap();
                prop_assert_eq!(again.entries, map.entries);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
