//! What the daemon and the commands of a machine both call the file trees of the nodes.

/// The type, in mountinfo, of the directory with an entry for each node.
pub const ROOT_TYPE: &str = "fuse.krgmfs";
/// The type, in mountinfo, of one node's file tree.
pub const NODE_TYPE: &str = "fuse.krgfs";
/// What is said to be mounted there: with the same word in fstab(5), `mount -a` sees it.
pub const ROOT_SOURCE: &str = "none";
/// Where krgd mounts the directory if nothing else is said.
pub const USUAL: &str = "/mfs";
/// The name of the processes that serve one of these mounts.
pub const SERVER: &str = "krg-mfs";
/// The name of the process that serves this node's files to the others.
pub const FILES_SERVER: &str = "krg-files";
