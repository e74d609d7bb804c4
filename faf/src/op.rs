//! What is asked of a file server, and what it answers: one enum each, in postcard's form. New
//! ones are added at the end, so that a neighbouring version still knows the others.

use crate::bytes::{Bounded, Name};
use krg_sys::cred;
use krg_types::limits::{
    DIR_BYTES_MAX, FILE_HANDLE_BYTES_MAX, GROUPS_MAX, LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

/// A file as its server names it to a client: sealed, so that nobody can make one up.
pub type Handle = Bounded<FILE_HANDLE_BYTES_MAX>;
/// Where a symbolic link leads.
pub type Target = Bounded<LINK_TARGET_BYTES_MAX>;
/// The name of an extended attribute; xattr(7) has the same limit as for files.
pub type XattrName = Bounded<NAME_BYTES_MAX>;
/// An open file or directory of a session.
pub type OpenId = u64;

/// Who asks: the serving node acts with these ids, and its kernel decides.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Caller {
    /// File system uid.
    pub uid: u32,
    /// File system gid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl From<Caller> for cred::Caller {
    fn from(caller: Caller) -> cred::Caller {
        let Caller { uid, gid, mut groups } = caller;
        groups.truncate(GROUPS_MAX);
        cred::Caller { uid, gid, groups }
    }
}

/// One question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// For whom.
    pub caller: Caller,
    /// What.
    pub op: Op,
    /// It may be asked again, by the same number, and is to be done once.
    pub once: bool,
}

/// The first thing that is said on a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Of the protocol.
    pub version: u32,
    /// The cluster's name.
    pub cluster: Bounded<64>,
    /// Of the client: a number it has drawn. Connections with the same one share open files.
    pub session: u128,
    /// Notices are to come on this connection.
    pub notices: bool,
}

/// A moment: seconds since 1970, possibly before, and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds.
    pub s: i64,
    /// And nanoseconds.
    pub ns: u32,
}

/// What a time is set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SetTime {
    /// The serving node's clock.
    Now,
    /// This.
    At(Moment),
}

/// What is changed of a file's attributes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<SetTime>,
    /// Last written.
    pub mtime: Option<SetTime>,
}

/// A file's attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attr {
    /// Its number, of one file of this node's tree only.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, if it is a device.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Of 512 bytes.
    pub blocks: u64,
    /// Preferred for reading and writing.
    pub blksize: u32,
    /// Last read.
    pub atime: Moment,
    /// Last written.
    pub mtime: Moment,
    /// Last changed.
    pub ctime: Moment,
}

impl Attr {
    /// As they go with the answer to something else; none if there is not enough room.
    pub fn written<'a>(&self, room: &'a mut [u8]) -> &'a [u8] {
        postcard::to_slice(self, room).map_or(&[], |written| written)
    }

    /// And are read there.
    pub fn read(bytes: &[u8]) -> Option<Attr> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What a server calls a file when it tells that it has changed.
pub type Key = u64;

/// A file that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// It.
    pub handle: Handle,
    /// What it is like.
    pub attr: Attr,
    /// What it is called when it has changed.
    pub key: Key,
    /// The client is told when something changes in its file system.
    pub watched: bool,
}

/// One line of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The name, as it is on the disk.
    pub name: Bounded<NAME_BYTES_MAX>,
    /// Where the next one is.
    pub next: i64,
    /// Its number and type (`DT_DIR` and so on), where no attributes are given.
    pub ino: u64,
    /// See there.
    pub kind: u8,
    /// Given if they could be read.
    pub entry: Option<Entry>,
}

/// fcntl(2)'s and flock(2)'s kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None any more.
    Unlock,
}

/// A part of a file that is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// Whose: a process's table of files, or one open file, as the client's kernel numbers them.
    pub owner: u64,
    /// What.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// The last one; `i64::MAX` is the end of the file, wherever it will be.
    pub end: u64,
}

/// What can be asked. With the answer to what makes or removes one name comes what the directory is
/// like then, as the frame's data: an `Attr`, or nothing if that is not known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Op {
    /// Answered by `Welcome`.
    Hello(Hello),
    /// Is the root of the export readable? Answered by `Attr`.
    Ping,
    /// `Entry`.
    Lookup { dir: Handle, name: Name },
    /// `Attr`.
    GetAttr { file: Handle, open: Option<OpenId> },
    /// `Attr`.
    SetAttr { file: Handle, open: Option<OpenId>, set: SetAttr },
    /// `Data`.
    ReadLink { file: Handle },
    /// `Entry`; what is made is what `mode` says.
    MakeNode { dir: Handle, name: Name, mode: u32, umask: u32, rdev: u64 },
    /// `Entry`.
    MakeDir { dir: Handle, name: Name, mode: u32, umask: u32 },
    /// `Entry`.
    MakeLink { dir: Handle, name: Name, target: Target },
    /// `Entry`: another name for a file.
    Link { file: Handle, dir: Handle, name: Name },
    /// `Done`.
    Unlink { dir: Handle, name: Name },
    /// `Done`.
    RemoveDir { dir: Handle, name: Name },
    /// `Done`; flags of renameat2(2).
    Rename { dir: Handle, name: Name, to_dir: Handle, to_name: Name, flags: u32 },
    /// `Opened`, and up to `want` bytes of its beginning; flags of open(2).
    Open { file: Handle, flags: u32, want: u32 },
    /// As `Open`, of a file that this client had opened before: the proof says so.
    Reopen { file: Handle, flags: u32, proof: Bounded<32> },
    /// `Created`.
    Create { dir: Handle, name: Name, mode: u32, umask: u32, flags: u32 },
    /// `Data`.
    Read { open: OpenId, offset: u64, size: u32 },
    /// `Written`; the data are those of the frame.
    Write { open: OpenId, offset: u64 },
    /// `Done`; all locks of `owner` on the file are gone then, too.
    Close { open: OpenId, owner: Option<u64> },
    /// `Done`, when it is on the disk.
    Sync { open: OpenId, data_only: bool },
    /// `Listed`, up to about `bytes` of names, with attributes.
    OpenDir { dir: Handle, bytes: u32 },
    /// `Listed`, from `offset` (a line's `next`) on.
    ReadDir { open: OpenId, offset: i64, bytes: u32 },
    /// `Done`, when the directory is on the disk.
    SyncDir { dir: Handle },
    /// `StatFs`.
    StatFs { file: Handle },
    /// `Data`.
    GetXattr { file: Handle, name: XattrName },
    /// `Done`; the value is the frame's data, the flags are setxattr(2)'s.
    SetXattr { file: Handle, name: XattrName, flags: u32 },
    /// `Data`.
    ListXattr { file: Handle },
    /// `Done`.
    RemoveXattr { file: Handle, name: XattrName },
    /// `Done`; the mode is fallocate(2)'s.
    Allocate { open: OpenId, offset: u64, len: u64, mode: u32 },
    /// `Offset`; SEEK_DATA and SEEK_HOLE only.
    Seek { open: OpenId, offset: i64, whence: u32 },
    /// `Written`: copies within the server.
    Copy { from: OpenId, from_offset: u64, to: OpenId, to_offset: u64, len: u64 },
    /// `Blocker`.
    TestLock { open: OpenId, lock: Lock },
    /// `Done`, or EAGAIN: nothing here waits.
    SetLock { open: OpenId, lock: Lock },
    /// `Done`: all locks of this owner on the file are gone.
    Unlock { open: OpenId, owner: u64 },
    /// `Done`: the client need not be told any more when these change.
    Forget { keys: Vec<Key> },
    /// `Done`: the client has no write under way to this file, and will wait for each from now on.
    Returned { file: Key },
    /// `Written`: as `Write`, but to its place also in a file that was opened to append. So the
    /// client's kernel writes what was written to a mapping.
    WriteAt { open: OpenId, offset: u64 },
    /// `Done`: nobody waits any more for the answer to the client's question with this number. If
    /// it is not being worked on yet and does not let go of something, it fails with EINTR.
    Cancel { question: u64 },
}

impl Op {
    /// Would it change something on the disk, or let that be done?
    pub fn changes(&self) -> bool {
        match self {
            Op::SetAttr { .. }
            | Op::MakeNode { .. }
            | Op::MakeDir { .. }
            | Op::MakeLink { .. }
            | Op::Link { .. }
            | Op::Unlink { .. }
            | Op::RemoveDir { .. }
            | Op::Rename { .. }
            | Op::Create { .. }
            | Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::Write { .. }
            | Op::WriteAt { .. }
            | Op::Allocate { .. }
            | Op::Copy { .. } => true,
            Op::Open { flags, .. } | Op::Reopen { flags, .. } => {
                let flags = *flags as i32;
                flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
            }
            _ => false,
        }
    }
}

impl Op {
    /// Does it only let go of something?
    pub fn lets_go(&self) -> bool {
        matches!(
            self,
            Op::Close { .. }
                | Op::Unlock { .. }
                | Op::Returned { .. }
                | Op::Forget { .. }
                | Op::Cancel { .. }
                | Op::SetLock { lock: Lock { kind: LockKind::Unlock, .. }, .. }
        )
    }

    /// Is anything another way after it, on the disk or in what the client has open and locked?
    pub fn leaves_something(&self) -> bool {
        !matches!(
            self,
            Op::Hello(_)
                | Op::Ping
                | Op::Lookup { .. }
                | Op::GetAttr { .. }
                | Op::ReadLink { .. }
                | Op::Read { .. }
                | Op::Sync { .. }
                // It may stay open twice, for as long as the client is there.
                | Op::OpenDir { .. }
                | Op::ReadDir { .. }
                | Op::SyncDir { .. }
                | Op::StatFs { .. }
                | Op::GetXattr { .. }
                | Op::ListXattr { .. }
                | Op::Seek { .. }
                | Op::TestLock { .. }
                | Op::Cancel { .. }
        )
    }
}

/// What it leads to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Answer {
    /// An errno.
    Failed(i32),
    Done,
    Welcome(Welcome),
    Entry(Entry),
    /// There is no such name; if the directory is watched, the client is told when there is.
    Absent {
        watched: bool,
    },
    Attr(Attr),
    /// The frame's data.
    Data,
    Opened(Opened),
    Created {
        entry: Entry,
        opened: Opened,
    },
    /// `end` is where the file's next byte would go, if it was opened to append.
    Written {
        bytes: u32,
        end: Option<u64>,
    },
    Listed(Listed),
    StatFs(StatFs),
    Offset(u64),
    /// Who holds what keeps a lock from being had.
    Blocker(Option<Lock>),
}

/// To a client whose `Hello` was understood.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The root of the export.
    pub root: Entry,
    /// Of the session: another number for each that the server has begun. What was open in the one
    /// with this number is so still.
    pub born: u64,
}

/// A file that was opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// It.
    pub open: OpenId,
    /// What it is like.
    pub attr: Attr,
    /// Nobody else has it open: writes need not be waited for, until it is recalled.
    pub lease: bool,
    /// Lets it be opened again after the server was restarted.
    pub proof: Bounded<32>,
    /// For the client: in which life of the server.
    #[serde(skip)]
    pub life: u64,
}

/// A part of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// To read on; `None`: this is the end, and nothing is open.
    pub open: Option<OpenId>,
    /// What was read.
    pub lines: Vec<Line>,
    /// Nothing follows.
    pub end: bool,
    /// No other names are found in it than those it lists.
    pub exact: bool,
    /// For the client: in which life of the server it is open.
    #[serde(skip)]
    pub life: u64,
}

/// As statvfs(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StatFs {
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u32,
    pub fragment_size: u32,
    pub name_max: u32,
}

/// What a server tells without being asked, in frames numbered 0. After `Changed` nothing more is
/// said of a file until the client has asked about it again; of a directory it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Notice {
    /// A file's content or attributes have changed.
    Changed { file: Key },
    /// A name of a directory has come, gone, or means another file.
    Name { dir: Key, name: Name },
    /// More has changed than can be told.
    Everything,
    /// Another client opens a file: to be answered by `Returned`.
    Recall { file: Key },
    /// The rules are others, and so may the root be: it is called this when it changes; `watched`
    /// as in `Entry`.
    Root { key: Key, watched: bool },
}

/// The bytes of a directory that may be asked for at once.
pub fn dir_bytes(asked: u32) -> usize {
    asked.clamp(4096, DIR_BYTES_MAX) as usize
}
