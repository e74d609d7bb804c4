//! What the daemon and the commands of a machine both call the file trees of the nodes.

/// The type, in mountinfo, of the directory with an entry for each node.
pub const ROOT_TYPE: &str = "fuse.krgmfs";
/// The type, in mountinfo, of one node's file tree.
pub const NODE_TYPE: &str = "fuse.krgfs";
/// What is said to be mounted there: with the same word in fstab(5), `mount -a` sees it.
pub const ROOT_SOURCE: &str = "none";
/// Where krgd mounts the directory if nothing else is said.
pub const USUAL: &str = "/mfs";
/// The option of a mount whose users wait for a node that does not answer.
pub const HARD: &str = "hard";

/// What becomes of who uses the files of a node that does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Patience {
    /// He gets an error after a few seconds, and then at once: for people.
    #[default]
    Soft,
    /// He waits until it answers, is no member any more, or he is told to end: for jobs.
    Hard,
}

impl Patience {
    /// Hard, if it is said so.
    pub fn hard(hard: bool) -> Patience {
        if hard { Patience::Hard } else { Patience::Soft }
    }

    /// Does he wait?
    pub fn is_hard(self) -> bool {
        self == Patience::Hard
    }
}

/// The name of the processes that serve one of these mounts.
pub const SERVER: &str = "krg-mfs";
/// The name of the process that serves this node's files to the others.
pub const FILES_SERVER: &str = "krg-files";
/// An extended attribute of the root of a node's tree, for root: how many have locked files by this
/// mount, and not closed them. The kernel does not list such locks (proc_locks(5)).
pub const LOCKS: &std::ffi::CStr = c"trusted.krg.locks";
