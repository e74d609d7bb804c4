//! The words every room uses: node ids, cluster pids, node lists, limits.
//! No I/O, no tokio, no unsafe.

pub mod capability;
pub mod file;
pub mod limits;
pub mod member;
pub mod mfs;
pub mod node;
pub mod nodeset;
pub mod pid;
pub mod version;
pub mod view;

pub use capability::Capability;
pub use file::{PidFile, SystemFile};
pub use member::MemberId;
pub use node::{NodeId, NodeState};
pub use nodeset::NodeSet;
pub use pid::GlobalPid;
