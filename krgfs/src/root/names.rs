//! Which names the directory has, what they stand for, and how they look.

use krg_types::NodeId;
use std::collections::BTreeMap;

/// The inode number of node N's entry is this plus N.
const NODES_FROM: u64 = 100;

/// What is known of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// It answers.
    pub up: bool,
    /// If not: when it last did, ns of the wall clock.
    pub heard_ns: Option<u64>,
}

/// The members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeList {
    /// This node.
    pub own: NodeId,
    /// All of them.
    pub nodes: BTreeMap<NodeId, Seen>,
}

/// The links, each to the entry of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// The node that the caller runs on.
    Here,
    /// The node that the caller comes from.
    Home,
    /// The node that new files are made on.
    Magic,
    /// The node of the last exec.
    LastExec,
    /// The node that the caller, or its nearest ancestor that did, has selected.
    Selected,
}

/// All links, in the order of their inode numbers.
const LINKS: [(&str, Link); 5] = [
    ("here", Link::Here),
    ("home", Link::Home),
    ("magic", Link::Magic),
    ("lastexec", Link::LastExec),
    ("selected", Link::Selected),
];
/// The name of the file that selects.
const SELECT: &str = ".selected";

/// One thing in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// The directory itself.
    Root,
    /// The file that a process writes a number to.
    Select,
    /// A link.
    Link(Link),
    /// The entry of a node, for its tree to be mounted on.
    Node(NodeId),
}

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File,
    /// A symbolic link.
    Link,
}

/// How it looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its inode number.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub perm: u16,
    /// Links to it.
    pub nlink: u32,
    /// When it last changed, ns of the wall clock; `None`: as old as the mount.
    pub time_ns: Option<u64>,
}

impl Item {
    /// The number of its inode: the same in every life of the mount.
    pub fn ino(self) -> u64 {
        match self {
            Item::Root => 1,
            Item::Select => 2,
            Item::Link(link) => 3 + link as u64,
            Item::Node(node) => NODES_FROM + u64::from(node.get()),
        }
    }

    /// What an inode number stands for.
    pub fn from_ino(ino: u64) -> Option<Item> {
        if let Some(n) = ino.checked_sub(NODES_FROM) {
            return u32::try_from(n).ok().and_then(NodeId::new).map(Item::Node);
        }
        match ino {
            1 => Some(Item::Root),
            2 => Some(Item::Select),
            n => {
                let link = usize::try_from(n.checked_sub(3)?).ok()?;
                LINKS.iter().map(|(_, l)| *l).find(|l| *l as usize == link).map(Item::Link)
            }
        }
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self {
            Item::Root | Item::Node(_) => Kind::Dir,
            Item::Select => Kind::File,
            Item::Link(_) => Kind::Link,
        }
    }
}

impl NodeList {
    /// What this name stands for. A node's is its number in digits, without zeros before it.
    pub fn lookup(&self, name: &str) -> Option<Item> {
        if name == SELECT {
            return Some(Item::Select);
        }
        let link = LINKS.iter().find(|(n, _)| *n == name);
        link.map(|(_, l)| Item::Link(*l)).or_else(|| self.member(name).map(Item::Node))
    }

    /// The member with this number.
    pub fn member(&self, digits: &str) -> Option<NodeId> {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let node = plain.then(|| digits.parse().ok().and_then(NodeId::new)).flatten()?;
        self.nodes.contains_key(&node).then_some(node)
    }

    /// Does this member answer?
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|seen| seen.up)
    }

    /// All names, by their inode numbers.
    pub fn names(&self) -> Vec<(String, Item)> {
        let links = LINKS.iter().map(|(name, link)| ((*name).to_owned(), Item::Link(*link)));
        let nodes = self.nodes.keys().map(|n| (n.to_string(), Item::Node(*n)));
        let select = (SELECT.to_owned(), Item::Select);
        let mut all: Vec<_> = nodes.chain([select]).chain(links).collect();
        all.sort_unstable_by_key(|(_, item)| item.ino());
        all
    }

    /// How something looks now; `None` if it is not there any more. The entry of a node that does
    /// not answer has no permissions at all, which `ls -l` shows.
    pub fn attr(&self, item: Item, now_ns: u64) -> Option<Attr> {
        let (mut perm, mut time_ns) = match item.kind() {
            Kind::Dir => (0o555, None),
            Kind::File => (0o666, None),
            Kind::Link => (0o777, None),
        };
        let mut nlink = 1;
        match item {
            Item::Root => nlink = 2 + u32::try_from(self.nodes.len()).unwrap_or(u32::MAX),
            Item::Node(node) => {
                let seen = self.nodes.get(&node)?;
                nlink = 2;
                perm = if seen.up { perm } else { 0 };
                time_ns = if seen.up { Some(now_ns) } else { seen.heard_ns };
            }
            Item::Select | Item::Link(_) => {}
        }
        Some(Attr { ino: item.ino(), kind: item.kind(), perm, nlink, time_ns })
    }

    /// The node that a link leads to, for a caller that has selected this one.
    pub fn target(&self, link: Link, selected: Option<NodeId>) -> NodeId {
        match link {
            // Processes do not move yet: each is where it began.
            Link::Here | Link::Home | Link::Magic | Link::LastExec => self.own,
            Link::Selected => selected.filter(|n| self.nodes.contains_key(n)).unwrap_or(self.own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn list() -> NodeList {
        let seen = |up, heard_ns| Seen { up, heard_ns };
        let nodes = [
            (node(1), seen(true, None)),
            (node(2), seen(false, Some(5))),
            (node(255), seen(false, None)),
        ];
        NodeList { own: node(1), nodes: nodes.into() }
    }

    #[test]
    fn inode_numbers_lead_back() {
        let list = list();
        let names = list.names();
        assert_eq!(names.len(), 3 + 1 + 5);
        let mut inos = vec![Item::Root.ino()];
        for (name, item) in names {
            assert_eq!(list.lookup(&name), Some(item), "{name}");
            assert_eq!(Item::from_ino(item.ino()), Some(item), "{name}");
            inos.push(item.ino());
        }
        inos.sort_unstable();
        inos.dedup();
        assert_eq!(inos.len(), 10);
        for bad in [0, 8, 99, 100, 356, u64::MAX] {
            assert_eq!(Item::from_ino(bad), None, "{bad}");
        }
        assert_eq!(Item::Node(node(7)).ino(), 107);
    }

    #[test]
    fn only_members_have_an_entry_and_only_by_their_number() {
        for bad in ["3", "0", "02", "+2", "node2", "256", "99999999999", "", ".", "selectd"] {
            assert_eq!(list().lookup(bad), None, "{bad}");
        }
        assert_eq!(list().lookup("2"), Some(Item::Node(node(2))));
    }

    #[test]
    fn a_node_that_is_down_looks_so() {
        let attr = |n| list().attr(Item::Node(node(n)), 9).unwrap();
        assert_eq!((attr(1).perm, attr(1).time_ns, attr(1).nlink), (0o555, Some(9), 2));
        assert_eq!((attr(2).perm, attr(2).time_ns), (0, Some(5)));
        assert_eq!((attr(255).perm, attr(255).time_ns), (0, None));
        assert_eq!(list().attr(Item::Node(node(3)), 9), None, "no member");
        assert_eq!(list().attr(Item::Root, 9).unwrap().nlink, 5);
        assert_eq!(list().attr(Item::Select, 9).unwrap().perm, 0o666);
    }

    #[test]
    fn links_lead_here_but_for_the_selected_one() {
        for link in [Link::Here, Link::Home, Link::Magic, Link::LastExec] {
            assert_eq!(list().target(link, Some(node(2))), node(1));
        }
        assert_eq!(list().target(Link::Selected, None), node(1));
        assert_eq!(list().target(Link::Selected, Some(node(2))), node(2));
        assert_eq!(list().target(Link::Selected, Some(node(9))), node(1), "gone since");
    }
}
