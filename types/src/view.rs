//! What the daemon and the commands of a machine both call a mounted view.

/// The type of such a mount in mountinfo.
pub const FS_TYPE: &str = "fuse.krgproc";
/// Where krgd mounts it if nothing else is said.
pub const USUAL: &str = "/cluster/proc";
/// The name of the process that serves one.
pub const SERVER: &str = "krg-mount";
/// The socket for the commands of its machine, in the daemon's directory.
pub const DOOR: &str = "view.sock";
