//! Between what a server answers and what the kernel is told.

use super::super::convert::nothing;
use super::super::core::{ABSENT_TTL, Result, unexpected};
use super::super::generation;
use super::super::inodes::is_apart;
use super::Tree;
use fuser::{Errno, INodeNo, LockOwner, ReplyEmpty, ReplyEntry, ReplyXattr};
use krg_faf::bytes::Name;
use krg_faf::op::{Answer, Lock, LockKind};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What the kernel asks for before each first write.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// A name as the server takes it.
pub(super) fn name(name: &OsStr) -> Result<Name> {
    Name::new(name.as_bytes()).map_err(|e| Errno::from_i32(e.errno()))
}

/// For what is answered by nothing but that it is done.
pub(super) fn empty(reply: ReplyEmpty) -> impl FnOnce(Result) + Send {
    |result| match result {
        Ok(_) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

/// There is no such name, and the kernel may remember that for so long: number 0 says so.
pub(super) fn absent(reply: ReplyEntry, ttl: Duration) {
    reply.entry(&ttl, &nothing(), fuser::Generation(0));
}

impl Tree {
    /// For what is answered by a file that was found or made.
    pub(super) fn entry(
        &self,
        dir: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) -> impl FnOnce(Result) + Send + use<> {
        let (core, asked) = (self.core.clone(), self.core.asked());
        let apart = is_apart(name.as_bytes());
        let (in_root, dir) = (dir == INodeNo::ROOT, core.inodes.key(dir));
        move |result| match result {
            Ok((Answer::Entry(entry), _)) => {
                let number = core.inodes.told(&entry, apart);
                let (name, ttl) = core.ttls(&entry, asked);
                let name = if core.is_news(asked, dir) { name } else { Duration::ZERO };
                let attr = core.attr_of(number, &entry.attr, asked);
                reply.entry_with_ttls(&ttl, &name, &attr, generation(&entry.handle));
            }
            Ok((Answer::Absent { watched }, _)) => {
                // Not in the root: that may be another directory a moment later.
                let keep = watched && !in_root;
                match keep && core.is_news(asked, dir) {
                    true => absent(reply, ABSENT_TTL),
                    false => reply.error(Errno::ENOENT),
                }
            }
            other => reply.error(unexpected(other)),
        }
    }

    /// The root of a node that does not answer has none: `ls -l` asks for them too.
    pub(super) fn of_root(ino: INodeNo, result: Result, none: Result) -> Result {
        match result {
            Err(e) if ino == INodeNo::ROOT && is_closed(e) => none,
            result => result,
        }
    }

    /// For what is answered by bytes, or by how many there are if there is no room for any.
    pub(super) fn xattr(size: u32, reply: ReplyXattr) -> impl FnOnce(Result) + Send {
        move |result| match result {
            Ok((Answer::Data, bytes)) if size == 0 => reply.size(bytes.len() as u32),
            Ok((Answer::Data, bytes)) if bytes.len() > size as usize => {
                reply.error(Errno::ERANGE);
            }
            Ok((Answer::Data, bytes)) => reply.data(&bytes),
            other => reply.error(unexpected(other)),
        }
    }
}

/// A lock as the server takes it.
pub(super) fn lock(owner: LockOwner, start: u64, end: u64, kind: i32) -> Lock {
    let kind = match kind {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        _ => LockKind::Unlock,
    };
    Lock { owner: owner.0, kind, start, end }
}

/// A kind of lock as fcntl(2) numbers it.
pub(super) fn lock_type(kind: LockKind) -> i32 {
    match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    }
}

/// Is this what a node says, or what is said of it, that shows none of its files?
pub(super) fn is_closed(errno: Errno) -> bool {
    errno == Errno::EHOSTDOWN || errno == Errno::EACCES
}
