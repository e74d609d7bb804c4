//! What every inode number of the view stands for. Pure, and without a table: the number says it
//! all, so there is nothing to forget, and nothing to lock.
//!
//! Two bits say the kind. Process inodes hold (node, pid, start time): a pid that is used again
//! is another inode.

use krg_types::limits::LOCAL_PID_BITS;
use krg_types::{GlobalPid, NodeId, PidFile, SystemFile};

/// The root of a FUSE mount.
pub const ROOT: u64 = 1;

/// A directory or link that is there whatever runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Fixed {
    Root = 0,
    SelfLink,
    ThreadSelf,
    Local,
    Net,
    Pressure,
    Nodes,
    NodesCluster,
    NodesSelf,
    Nrnodes,
    Mosix,
    MosixNodes,
    Sys,
    SysKernel,
    PidMax,
    DotSys,
    Cpu,
    Server,
    Settled,
    Live,
}

impl Fixed {
    const ALL: [Fixed; 20] = {
        use Fixed::*;
        [
            Root,
            SelfLink,
            ThreadSelf,
            Local,
            Net,
            Pressure,
            Nodes,
            NodesCluster,
            NodesSelf,
            Nrnodes,
            Mosix,
            MosixNodes,
            Sys,
            SysKernel,
            PidMax,
            DotSys,
            Cpu,
            Server,
            Settled,
            Live,
        ]
    };
}

/// A file about one node, or about the cluster as a whole, below `nodes/`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum NodeFile {
    Nodeid,
    Session,
    State,
    Age,
    Hostname,
    Passes,
    System(SystemFile),
}

impl NodeFile {
    const OWN: [NodeFile; 6] = [
        NodeFile::Nodeid,
        NodeFile::Session,
        NodeFile::State,
        NodeFile::Age,
        NodeFile::Hostname,
        NodeFile::Passes,
    ];

    /// Every file, in the order of its number.
    pub fn all() -> impl Iterator<Item = NodeFile> {
        let flat = SystemFile::ALL.into_iter().filter(|f| !f.path().contains('/'));
        NodeFile::OWN.into_iter().chain(flat.map(NodeFile::System))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            NodeFile::Nodeid => "nodeid",
            NodeFile::Session => "session",
            NodeFile::State => "state",
            NodeFile::Age => "age",
            NodeFile::Hostname => "hostname",
            NodeFile::Passes => "passes",
            NodeFile::System(file) => file.path(),
        }
    }

    fn code(self) -> u64 {
        match self {
            NodeFile::System(file) => 64 + u64::from(file.id()),
            own => NodeFile::OWN.iter().position(|f| *f == own).unwrap_or(0) as u64,
        }
    }

    fn from_code(code: u64) -> Option<NodeFile> {
        match code {
            64.. => SystemFile::from_id(u32::try_from(code - 64).ok()?).map(NodeFile::System),
            own => NodeFile::OWN.get(usize::try_from(own).ok()?).copied(),
        }
    }
}

/// A process: a cluster pid, or 1, the root of everybody's tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    /// The synthetic process 1.
    Root,
    /// A process of a node, with the last bits of its start time.
    Process(GlobalPid, u32),
}

/// What an inode stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Item {
    /// Always there.
    Fixed(Fixed),
    /// A merged file.
    System(SystemFile),
    /// `nodes/node<N>`.
    NodeDir(NodeId),
    /// A file in it.
    NodeFile(NodeId, NodeFile),
    /// A file in `nodes/cluster`.
    ClusterFile(NodeFile),
    /// `mosix/nodes/N`.
    MosixDir(NodeId),
    /// A file in it, by its place in `merge::mosix::FILES`.
    MosixFile(NodeId, u8),
    /// A link to `.local/<pid>`, a process of this node by its own pid.
    LocalPid(u32),
    /// A link to a name of the real /proc; the number is given out by `fs::names`.
    LocalName(u32),
    /// A text in `.sys/cpu`, by its place in `fs::cpu::LISTS`.
    CpuList(u8),
    /// `.sys/cpu/cpu<N>`.
    CpuDir(u16),
    /// `.sys/cpu/cpu<N>/topology`.
    CpuTopology(u16),
    /// A text in it, by its place in `fs::cpu::TOPOLOGY`.
    CpuFile(u16, u8),
    /// A process's directory.
    Process(Who),
    /// A name in it.
    PidFile(Who, PidFile),
    /// One of the texts that are held, by its place in `PidFile::HELD`: of a process, with the last
    /// bits of its start time, and which of its contents. Another content is another inode, so
    /// who has opened it reads one text, however slowly.
    Held(GlobalPid, u32, u8, u8),
    /// An entry of `fd`, `fdinfo` (a descriptor's number) or `ns` (a place in `NAMESPACES`).
    Entry(GlobalPid, PidFile, u32),
    /// A text of one line, by its place in `fs::brief::BRIEF`, and which of its contents.
    Brief(u8, u32),
    /// `task/<tid>`, both as the node's own numbers.
    Task(GlobalPid, u32),
    /// A name in it.
    TaskFile(GlobalPid, u32, PidFile),
}

/// The names in ns/ (namespaces(7)).
pub const NAMESPACES: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

const START_BITS: u32 = 24;
const PID_BITS: u32 = 30;
const FILE_BITS: u32 = 6;
const FD_BITS: u32 = 24;
const HELD_START_BITS: u32 = 19;
const VERSION_BITS: u32 = 8;
const HELD: u64 = 1 << 61;
/// In the place of a file's number: the directory itself.
const DIR: u64 = (1 << FILE_BITS) - 1;

/// The last bits of a start time.
pub fn start_bits(start_ticks: u64) -> u32 {
    (start_ticks & ((1 << START_BITS) - 1)) as u32
}

/// Of those, as many as a held text's number has room for.
pub fn held_start(start: u32) -> u32 {
    start & ((1 << HELD_START_BITS) - 1)
}

fn fixed(class: u64, a: u64, b: u64) -> u64 {
    class << 48 | a << 16 | b
}

fn process(who: Who, file: u64) -> u64 {
    let (pid, start) = match who {
        Who::Root => (1, 0),
        Who::Process(pid, start) => (u64::from(pid.raw()), u64::from(start)),
    };
    1 << 62 | file << (PID_BITS + START_BITS) | pid << START_BITS | start
}

fn task(pid: GlobalPid, tid: u32, file: u64) -> u64 {
    let high = u64::from(pid.raw()) << LOCAL_PID_BITS | u64::from(tid);
    3 << 62 | high << FILE_BITS | file
}

impl Item {
    /// Its inode number.
    pub fn ino(self) -> u64 {
        match self {
            Item::Fixed(Fixed::Root) => ROOT,
            Item::Fixed(f) => fixed(1, 0, f as u64),
            Item::System(f) => fixed(2, 0, f.id().into()),
            Item::NodeDir(n) => fixed(3, n.get().into(), 0),
            Item::NodeFile(n, f) => fixed(4, n.get().into(), f.code()),
            Item::ClusterFile(f) => fixed(5, 0, f.code()),
            Item::MosixDir(n) => fixed(6, n.get().into(), 0),
            Item::MosixFile(n, f) => fixed(7, n.get().into(), f.into()),
            Item::LocalPid(pid) => fixed(8, pid.into(), 0),
            Item::LocalName(n) => fixed(9, n.into(), 0),
            Item::CpuList(f) => fixed(10, 0, f.into()),
            Item::CpuDir(n) => fixed(11, n.into(), 0),
            Item::CpuTopology(n) => fixed(12, n.into(), 0),
            Item::CpuFile(n, f) => fixed(13, n.into(), f.into()),
            Item::Brief(place, version) => fixed(14, version.into(), place.into()),
            Item::Process(who) => process(who, DIR),
            Item::PidFile(who, file) => process(who, file.id().into()),
            Item::Held(pid, start, place, version) => {
                let who = u64::from(pid.raw()) << HELD_START_BITS | u64::from(start);
                let place = u64::from(place) << (PID_BITS + HELD_START_BITS);
                HELD | (place | who) << VERSION_BITS | u64::from(version)
            }
            Item::Entry(pid, file, n) => {
                let high = u64::from(pid.raw()) << FD_BITS | u64::from(n);
                2 << 62 | high << FILE_BITS | u64::from(file.id())
            }
            Item::Task(pid, tid) => task(pid, tid, DIR),
            Item::TaskFile(pid, tid, file) => task(pid, tid, file.id().into()),
        }
    }

    /// What a number stands for, if anything.
    pub fn from_ino(ino: u64) -> Option<Item> {
        match ino >> 62 {
            0 if ino == ROOT => Some(Item::Fixed(Fixed::Root)),
            0 if ino & HELD != 0 => Item::from_held(ino),
            0 => Item::from_fixed(ino),
            1 => {
                let who = match low(ino >> START_BITS, PID_BITS) {
                    1 => Who::Root,
                    raw => Who::Process(GlobalPid::from_raw(raw)?, low(ino, START_BITS)),
                };
                match u64::from(low(ino >> (PID_BITS + START_BITS), FILE_BITS)) {
                    DIR => Some(Item::Process(who)),
                    file => Some(Item::PidFile(who, PidFile::from_id(file as u32)?)),
                }
            }
            2 => {
                let file = PidFile::from_id(low(ino, FILE_BITS))?;
                let pid = GlobalPid::from_raw(low(ino >> (FILE_BITS + FD_BITS), PID_BITS))?;
                Some(Item::Entry(pid, file, low(ino >> FILE_BITS, FD_BITS)))
            }
            _ => {
                let tid = low(ino >> FILE_BITS, LOCAL_PID_BITS);
                let raw = low(ino >> (FILE_BITS + LOCAL_PID_BITS), PID_BITS);
                let pid = GlobalPid::from_raw(raw)?;
                match u64::from(low(ino, FILE_BITS)) {
                    DIR => Some(Item::Task(pid, tid)),
                    file => Some(Item::TaskFile(pid, tid, PidFile::from_id(file as u32)?)),
                }
            }
        }
    }

    fn from_held(ino: u64) -> Option<Item> {
        let (version, rest) = (low(ino, VERSION_BITS), (ino & !HELD) >> VERSION_BITS);
        let pid = GlobalPid::from_raw(low(rest >> HELD_START_BITS, PID_BITS))?;
        let place = u8::try_from(rest >> (PID_BITS + HELD_START_BITS)).ok()?;
        PidFile::HELD.get(usize::from(place))?;
        let version = u8::try_from(version).ok()?;
        Some(Item::Held(pid, low(rest, HELD_START_BITS), place, version))
    }

    fn from_fixed(ino: u64) -> Option<Item> {
        let (a, b) = (low(ino >> 16, 32), ino & 0xffff);
        let node = || NodeId::new(a);
        Some(match ino >> 48 {
            1 => Item::Fixed(*Fixed::ALL.get(b as usize)?),
            2 => Item::System(SystemFile::from_id(b as u32)?),
            3 => Item::NodeDir(node()?),
            4 => Item::NodeFile(node()?, NodeFile::from_code(b)?),
            5 => Item::ClusterFile(NodeFile::from_code(b)?),
            6 => Item::MosixDir(node()?),
            7 => Item::MosixFile(node()?, u8::try_from(b).ok()?),
            8 => Item::LocalPid(a),
            9 => Item::LocalName(a),
            10 => Item::CpuList(u8::try_from(b).ok()?),
            11 => Item::CpuDir(u16::try_from(a).ok()?),
            12 => Item::CpuTopology(u16::try_from(a).ok()?),
            13 => Item::CpuFile(u16::try_from(a).ok()?, u8::try_from(b).ok()?),
            14 => Item::Brief(u8::try_from(b).ok()?, a),
            _ => return None,
        })
    }
}

/// The lowest bits of a number.
fn low(number: u64, bits: u32) -> u32 {
    (number & ((1 << bits) - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(item: Item) {
        assert_eq!(Item::from_ino(item.ino()), Some(item), "{item:?}");
    }

    #[test]
    fn every_fixed_item_has_its_own_number() {
        let node = NodeId::new(255).unwrap();
        let mut items: Vec<Item> = Fixed::ALL.into_iter().map(Item::Fixed).collect();
        items.extend(SystemFile::ALL.map(Item::System));
        items.extend(NodeFile::all().map(|f| Item::NodeFile(node, f)));
        items.extend(NodeFile::all().map(Item::ClusterFile));
        items.extend([Item::NodeDir(node), Item::MosixDir(node), Item::MosixFile(node, 7)]);
        items.extend([Item::LocalPid(4_194_303), Item::LocalName(9), Item::CpuList(2)]);
        items.extend([Item::CpuDir(65_535), Item::CpuTopology(3), Item::CpuFile(3, 4)]);
        items.extend([Item::Brief(0, 0), Item::Brief(8, u32::MAX)]);
        let numbers: std::collections::BTreeSet<u64> = items.iter().map(|i| i.ino()).collect();
        assert_eq!(numbers.len(), items.len());
        items.into_iter().for_each(there_and_back);
    }

    proptest! {
        #[test]
        fn process_items_go_there_and_back(
            raw in (1u32 << 22)..(1 << 30), start in any::<u64>(), tid in 1u32..(1 << 22),
            n in 0u32..(1 << 24), file in 0..PidFile::ALL.len(), place in 0u8..7,
            version in any::<u8>(),
        ) {
            let Some(pid) = GlobalPid::from_raw(raw) else { return Ok(()) };
            let who = Who::Process(pid, start_bits(start));
            let file = PidFile::ALL[file];
            there_and_back(Item::Process(who));
            there_and_back(Item::PidFile(who, file));
            there_and_back(Item::PidFile(Who::Root, file));
            there_and_back(Item::Entry(pid, file, n));
            there_and_back(Item::Held(pid, held_start(start_bits(start)), place, version));
            there_and_back(Item::Task(pid, tid));
            there_and_back(Item::TaskFile(pid, tid, file));
        }

        #[test]
        fn any_number_is_read_without_panic(ino in any::<u64>()) {
            if let Some(item) = Item::from_ino(ino) {
                prop_assert_eq!(Item::from_ino(item.ino()), Some(item));
            }
        }

        #[test]
        fn another_start_is_another_inode(raw in (1u32 << 22)..(1 << 30), start in any::<u64>()) {
            let Some(pid) = GlobalPid::from_raw(raw) else { return Ok(()) };
            let one = Item::Process(Who::Process(pid, start_bits(start)));
            let two = Item::Process(Who::Process(pid, start_bits(start.wrapping_add(1))));
            prop_assert_ne!(one.ino(), two.ino());
        }
    }
}
