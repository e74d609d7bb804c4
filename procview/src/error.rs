//! What can go wrong in a view, and the errno it is at the FUSE edge.

use krg_rpc::status::RpcError;
use krg_types::NodeId;

/// Why a name or a text cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// There is no such name.
    #[error("no such file or directory")]
    NoEntry,
    /// The process has ended since.
    #[error("the process has ended")]
    NoProcess,
    /// The owner's kernel refused with this errno.
    #[error("errno {0} on the owning node")]
    Kernel(i32),
    /// The node that owns it does not answer.
    #[error(transparent)]
    Unreachable(#[from] RpcError),
    /// A node sent something that is no text of this kind.
    #[error("node {0} sent a malformed text")]
    Malformed(NodeId),
    /// Too many files of this mount are open.
    #[error("too many open files in this mount")]
    TooMany,
    /// It is a directory, and a file was asked for; or the other way round.
    #[error("not that kind of file")]
    WrongKind,
    /// Nothing here can be written.
    #[error("read-only view")]
    ReadOnly,
}

impl ViewError {
    /// What the owner said its kernel said; numbers that are no errno (errno(3) ends at 4095)
    /// are EIO.
    pub fn from_owner(errno: i32) -> ViewError {
        ViewError::Kernel(if (1..4096).contains(&errno) { errno } else { libc::EIO })
    }

    /// The errno for it (errno(3)).
    pub fn errno(&self) -> i32 {
        match self {
            ViewError::NoEntry => libc::ENOENT,
            ViewError::NoProcess => libc::ESRCH,
            ViewError::Kernel(errno) => *errno,
            ViewError::Unreachable(_) => libc::EHOSTDOWN,
            ViewError::Malformed(_) => libc::EPROTO,
            ViewError::TooMany => libc::ENFILE,
            ViewError::WrongKind => libc::EINVAL,
            ViewError::ReadOnly => libc::EROFS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ViewError;

    #[test]
    fn what_is_no_errno_is_eio() {
        assert_eq!(ViewError::from_owner(libc::EACCES).errno(), libc::EACCES);
        for bad in [0, -7, 4096, i32::MIN, i32::MAX] {
            assert_eq!(ViewError::from_owner(bad).errno(), libc::EIO, "{bad}");
        }
    }
}
