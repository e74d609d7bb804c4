//! One text of the cluster from the same text of every node. Pure functions: hostile bytes in,
//! well-formed bytes out; no I/O, no clock, no panic. The rules are in docs/SEMANTICS.md.

mod cpuinfo;
mod diskstats;
mod interrupts;
pub(crate) mod loadavg;
mod meminfo;
pub mod mosix;
mod name;
mod netdev;
mod nrnodes;
mod pressure;
mod stat;
mod sums;
mod swaps;
pub(crate) mod text;
mod uptime;
mod version;
mod vmstat;

pub use cpuinfo::cpuinfo;
pub use diskstats::diskstats;
pub use interrupts::{interrupts, softirqs};
pub use loadavg::loadavg;
pub use meminfo::meminfo;
pub use netdev::netdev;
pub use nrnodes::nrnodes;
pub use pressure::pressure;
pub use stat::{cpu_room, stat};
pub use swaps::swaps;
pub use uptime::uptime;
pub use version::version;
pub use vmstat::vmstat;

use krg_types::limits::CPUS_PER_NODE_MAX;
use krg_types::{NodeId, SystemFile};

/// One node's text of the file that is being merged.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The node it is from.
    pub node: NodeId,
    /// The text, as that node's kernel wrote it, or as the peer pretends it did.
    pub text: &'a [u8],
    /// The cluster's number of that node's cpu 0.
    pub cpu_base: u32,
}

/// What the caller knows of the cluster, and no text tells.
#[derive(Clone, Copy, Default, Debug)]
pub struct Facts {
    /// When the cluster booted, seconds since 1970: the earliest node's `btime`.
    pub btime: u64,
    /// How long it is up: the longest uptime of a node.
    pub uptime_ns: u64,
}

/// The cluster's text of a whole-system file. Parts are in the order of their nodes; a node that
/// lacks the file is not among them.
pub fn system_file(file: SystemFile, parts: &[Part<'_>], facts: &Facts) -> Vec<u8> {
    match file {
        SystemFile::Stat => stat(parts, facts.btime),
        SystemFile::Meminfo => meminfo(parts),
        SystemFile::Cpuinfo => cpuinfo(parts),
        SystemFile::Loadavg => loadavg(parts),
        SystemFile::Uptime => uptime(facts.uptime_ns, parts),
        SystemFile::Vmstat => vmstat(parts),
        SystemFile::Diskstats => diskstats(parts),
        SystemFile::Interrupts => interrupts(parts),
        SystemFile::Softirqs => softirqs(parts),
        SystemFile::NetDev => netdev(parts),
        SystemFile::Swaps => swaps(parts),
        SystemFile::PressureCpu
        | SystemFile::PressureIo
        | SystemFile::PressureMemory
        | SystemFile::PressureIrq => pressure(parts),
        SystemFile::Version => version(parts),
    }
}

/// Each part with the count of cpu numbers that are its own: it must not run into the next
/// node's, whatever its text says.
fn with_room<'p, 'a>(parts: &'p [Part<'a>]) -> impl Iterator<Item = (&'p Part<'a>, u32)> {
    parts.iter().enumerate().map(|(i, part)| {
        let next = parts.get(i + 1).and_then(|next| next.cpu_base.checked_sub(part.cpu_base));
        (part, next.unwrap_or(CPUS_PER_NODE_MAX).min(CPUS_PER_NODE_MAX))
    })
}
