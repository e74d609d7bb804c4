//! `krg lab fill`: a disk without a free block, and its undoing.

use crate::disk::STATE_DIR;
use crate::name::LabName;
use crate::state::{Lab, Node};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, OFlag, OpenHow, ResolveFlag, fallocate, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What fills the disk.
const FILE: &str = ".krg-lab-fill";
/// The first piece that is asked for, bytes.
const PIECE_BYTES: i64 = 16 << 20;
/// The last: a block.
const BLOCK_BYTES: i64 = 4096;

/// Fills a node's disk, or empties it again.
pub fn run(name: &LabName, word: &str, undo: bool) -> Result<()> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    let dir = open_state(name, node)?;
    if undo {
        return remove(&dir).context("cannot empty the disk");
    }
    need_disk(node)?;
    fill(&dir).with_context(|| format!("cannot fill the disk of {}", node.hostname))
}

/// Empties the disk of a living node, if it was filled.
pub fn undo(name: &LabName, node: &Node) -> Result<()> {
    if is_full(node) {
        remove(&open_state(name, node)?).context("cannot empty the disk")
    } else {
        Ok(())
    }
}

/// Says what is missing for faults of a node's disk.
pub fn need_disk(node: &Node) -> Result<()> {
    match &node.no_disk {
        None => Ok(()),
        Some(why) => bail!("{} has no disk of its own, only a directory: {why}", node.hostname),
    }
}

/// Is a living node's disk filled?
pub fn is_full(node: &Node) -> bool {
    let file = |pid| format!("/proc/{pid}/root{STATE_DIR}/{FILE}");
    node.init.is_some_and(|i| fs::symlink_metadata(file(i.pid)).is_ok())
}

/// Empties a disk that was just mounted.
pub fn empty(dir: &Path) -> Result<()> {
    match fs::remove_file(dir.join(FILE)) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context("cannot empty the disk"),
        _ => Ok(()),
    }
}

/// The state directory of a living node, whatever links there are on the way: never the host's.
fn open_state(name: &LabName, node: &Node) -> Result<OwnedFd> {
    let (init, _held) = node.open_init(name)?;
    let open = |at: &dyn Fn(OpenHow) -> nix::Result<OwnedFd>, resolve| {
        at(OpenHow::new().flags(OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve))
    };
    let root = format!("/proc/{}/root", init.pid);
    let root = open(&|how| openat2(AT_FDCWD, root.as_str(), how), ResolveFlag::empty())?;
    let dir = open(&|how| openat2(&root, STATE_DIR, how), ResolveFlag::RESOLVE_IN_ROOT);
    dir.with_context(|| format!("{}: cannot open {STATE_DIR}", node.hostname))
}

fn fill(dir: &OwnedFd) -> Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(Mode::S_IRUSR | Mode::S_IWUSR)
        .resolve(ResolveFlag::RESOLVE_BENEATH);
    let file = openat2(dir, FILE, how)?;
    let (mut end, mut piece) =
        (fs::File::from(file.try_clone()?).metadata()?.len() as i64, PIECE_BYTES);
    while piece >= BLOCK_BYTES {
        match fallocate(&file, FallocateFlags::empty(), end, piece) {
            Ok(()) => end += piece,
            Err(Errno::EINTR) => {}
            // Some of it may have been taken all the same: what is left is less.
            Err(Errno::ENOSPC) => piece /= 2,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(nix::unistd::fsync(&file)?)
}

fn remove(dir: &OwnedFd) -> Result<()> {
    match unlinkat(dir, FILE, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    // Freed blocks are free for others once that is on the disk.
    Ok(nix::unistd::fsync(dir)?)
}
