//! Every bound on what a peer, a file or a user may ask for, in one place.

/// Highest node number (8 node bits of a 30-bit cluster pid; 0 means "unqualified").
pub const NODE_ID_MAX: u32 = 255;
/// Bits of a cluster pid that hold the node's own pid: Linux's PID_MAX_LIMIT is 2^22.
pub const LOCAL_PID_BITS: u32 = 22;
/// The version of the words on the wire; a peer with another one is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest message taken from a peer, bytes (one frame or one live file).
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// A frame is sent once it holds this many bytes; the rest follows in another.
pub const FRAME_BYTES_TARGET: usize = 512 << 10;
/// Processes taken from one node.
pub const PROCS_PER_NODE_MAX: usize = 1 << 20;
/// Longest text of one process kept in a sample, bytes; a longer one is read live.
pub const SAMPLED_TEXT_BYTES_MAX: usize = 8 << 10;
/// Longest whole-system file taken from a node, bytes.
pub const SYSTEM_FILE_BYTES_MAX: usize = 1 << 20;
/// Longest live file or directory of one process, bytes.
pub const LIVE_BYTES_MAX: usize = 4 << 20;
/// Entries of one live directory (fd/, task/).
pub const LIVE_ENTRIES_MAX: usize = 65_536;
/// Supplementary groups that travel with a caller (Linux's NGROUPS_MAX).
pub const GROUPS_MAX: usize = 65_536;
/// Longest name of one directory entry, bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest cluster name, bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// CPUs taken from one node (Linux's largest NR_CPUS).
pub const CPUS_PER_NODE_MAX: u32 = 8192;
/// Nodes of one lab.
pub const LAB_NODES_MAX: u32 = 64;
/// Wants waiting on one subscription before the viewer is cut off.
pub const WANTS_WAITING_MAX: usize = 64;
/// Handles (open files and directories) of one mount.
pub const HANDLES_MAX: usize = 1 << 20;
/// Mounts one daemon serves.
pub const MOUNTS_MAX: usize = 64;
