//! Reads one file, link or directory of one process now, with the caller's own rights.
//!
//! The kernel decides who may read what (ptrace(2), "Ptrace access mode checking"): the threads
//! here take on the caller's ids and ask it.

use krg_rpc::proto::proc as wire;
use krg_sys::cred::{ActingAs, Caller};
use krg_sys::procfs::{DirAt, Procfs, open_dir};
use krg_types::PidFile;
use krg_types::file::PidFileKind;
use krg_types::limits::{GROUPS_MAX, LIVE_BYTES_MAX, LIVE_ENTRIES_MAX, NAME_BYTES_MAX};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// Threads kept for acting as callers.
const THREADS: usize = 4;
/// Questions waiting for one of them; more wait on their connections.
const WAITING_MAX: usize = 1024;

type Job = (wire::LiveRequest, oneshot::Sender<wire::LiveReply>);

/// The threads that answer.
#[derive(Debug)]
pub struct Live {
    jobs: std::sync::mpsc::Sender<Job>,
    room: Semaphore,
}

impl Live {
    /// Starts the threads.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(procfs: Arc<Procfs>) -> io::Result<Arc<Live>> {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let queue = Arc::new(std::sync::Mutex::new(queue));
        for n in 0..THREADS {
            let (queue, procfs) = (queue.clone(), procfs.clone());
            std::thread::Builder::new().name(format!("live-{n}")).spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(|e| e.into_inner()).recv();
                    let Ok((ask, reply)) = job else { return };
                    // Nobody waits any more: the deadline has passed.
                    if !reply.is_closed() {
                        let _ = reply.send(answer(&procfs, &ask));
                    }
                }
            })?;
        }
        Ok(Arc::new(Live { jobs, room: Semaphore::new(WAITING_MAX) }))
    }

    /// Answers one question.
    pub async fn answer(&self, ask: wire::LiveRequest) -> wire::LiveReply {
        let _room = self.room.acquire().await;
        let (tx, rx) = oneshot::channel();
        let _ = self.jobs.send((ask, tx));
        rx.await.unwrap_or_else(|_| refused(libc::EIO))
    }
}

fn refused(errno: i32) -> wire::LiveReply {
    wire::LiveReply { errno, ..Default::default() }
}

fn answer(procfs: &Procfs, ask: &wire::LiveRequest) -> wire::LiveReply {
    let read = || -> io::Result<wire::LiveReply> {
        let file =
            PidFile::from_id(ask.file).ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
        let named = ask.entry.len() > NAME_BYTES_MAX || ask.entry.contains('/');
        if named || ask.groups.len() > GROUPS_MAX || ask.entry.starts_with('.') {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // As root, so that the identity can be checked; everything after that as the caller.
        let dir = process_dir(procfs, ask)?;
        let caller = Caller { uid: ask.uid, gid: ask.gid, groups: ask.groups.clone() };
        if caller.uid != 0 && is_ours(procfs, ask.pid) && !open_to_all(file) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let _acting = ActingAs::enter(&caller)?;
        one(DirAt(dir.as_fd()), file, &ask.entry)
    };
    read().unwrap_or_else(|e| refused(e.raw_os_error().unwrap_or(libc::EIO)))
}

/// Is it this very process, or one of its threads? The kernel lets a process look at itself
/// whatever its threads' ids are (ptrace(2): "the same thread group"), so of this one it does
/// not say what it says of others.
fn is_ours(procfs: &Procfs, pid: u32) -> bool {
    procfs.root().lstat(format!("self/task/{pid}")).is_ok()
}

/// Files that everybody may read of every process: no ptrace check guards them in the kernel's
/// fs/proc/base.c.
fn open_to_all(file: PidFile) -> bool {
    use PidFile::*;
    let open = [
        Comm,
        Limits,
        Schedstat,
        OomScore,
        OomScoreAdj,
        OomAdj,
        Loginuid,
        Sessionid,
        Cgroup,
        Cpuset,
        Statm,
        Cmdline,
        Task,
    ];
    open.contains(&file)
}

/// The directory of the process (or of its thread), if it is still the one meant.
fn process_dir(procfs: &Procfs, ask: &wire::LiveRequest) -> io::Result<OwnedFd> {
    let gone = |_| io::Error::from_raw_os_error(libc::ESRCH);
    let dir = procfs.dir(&ask.pid.to_string()).map_err(gone)?;
    let mut stat = Vec::new();
    DirAt(dir.as_fd()).read("stat", &mut stat, LIVE_BYTES_MAX)?;
    let start = crate::render::stat::parse(&stat).map(|s| s.starttime);
    if ask.start_ticks != 0 && start != Some(ask.start_ticks) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    match ask.tid {
        0 => Ok(dir),
        tid => open_dir(dir.as_fd(), &format!("task/{tid}")),
    }
}

fn one(dir: DirAt<'_>, file: PidFile, entry: &str) -> io::Result<wire::LiveReply> {
    let mut reply = wire::LiveReply::default();
    match (file.kind(), entry) {
        (PidFileKind::Text, "") => dir.read(file.name(), &mut reply.text, LIVE_BYTES_MAX)?,
        (PidFileKind::Link, "") => reply.text = dir.link(file.name())?,
        (PidFileKind::LinkDir, "") => reply.entries = links(dir, file.name())?,
        (PidFileKind::TextDir, "") => reply.entries = texts(dir, file.name())?,
        (PidFileKind::TaskDir, "") => reply.entries = threads(dir, file.name())?,
        (PidFileKind::LinkDir, name) => {
            let path = format!("{}/{name}", file.name());
            reply.entries = vec![link_entry(dir, &path, name)?];
        }
        (PidFileKind::TextDir, name) => {
            let path = format!("{}/{name}", file.name());
            dir.read(path, &mut reply.text, LIVE_BYTES_MAX)?;
        }
        _ => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
    Ok(reply)
}

fn names(dir: DirAt<'_>, below: &str) -> io::Result<Vec<wire::Entry>> {
    let names = dir.names(below, LIVE_ENTRIES_MAX)?;
    Ok(names.into_iter().map(|name| wire::Entry { name, ..Default::default() }).collect())
}

fn link_entry(dir: DirAt<'_>, path: &str, name: &str) -> io::Result<wire::Entry> {
    let mode = dir.lstat(path)?.st_mode;
    Ok(wire::Entry { name: name.to_owned(), link: dir.link(path)?, mode, ..Default::default() })
}

/// A directory of links with what each says: one question instead of one per link.
fn links(dir: DirAt<'_>, below: &str) -> io::Result<Vec<wire::Entry>> {
    let mut entries = names(dir, below)?;
    for entry in &mut entries {
        let path = format!("{below}/{}", entry.name);
        // One that was closed meanwhile, or may not be read, stays a name.
        if let Ok(full) = link_entry(dir, &path, &entry.name) {
            *entry = full;
        }
    }
    Ok(entries)
}

/// A directory of small texts with each of them.
fn texts(dir: DirAt<'_>, below: &str) -> io::Result<Vec<wire::Entry>> {
    let mut entries = names(dir, below)?;
    let mut bytes = 0;
    for entry in &mut entries {
        let path = format!("{below}/{}", entry.name);
        if bytes > LIVE_BYTES_MAX || dir.read(path, &mut entry.link, LIVE_BYTES_MAX).is_err() {
            entry.link.clear();
        }
        bytes += entry.link.len();
    }
    Ok(entries)
}

/// All threads with the texts that ps and htop read of each.
fn threads(dir: DirAt<'_>, below: &str) -> io::Result<Vec<wire::Entry>> {
    let mut entries = names(dir, below)?;
    let mut bytes = 0;
    entries.retain_mut(|entry| {
        let read = |file: &str, text: &mut Vec<u8>| {
            dir.read(format!("{below}/{}/{file}", entry.name), text, LIVE_BYTES_MAX).is_ok()
        };
        let alive = read("stat", &mut entry.stat) && read("status", &mut entry.status);
        read("comm", &mut entry.comm);
        bytes += entry.stat.len() + entry.status.len() + entry.comm.len();
        alive && bytes < LIVE_BYTES_MAX
    });
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_is_no_exception() {
        let procfs = Procfs::shared().unwrap();
        let ask = |file: PidFile, uid: u32| {
            let pid = std::process::id();
            let (file, gid) = (file.id(), uid);
            answer(&procfs, &wire::LiveRequest { pid, file, uid, gid, ..Default::default() })
        };
        for file in [PidFile::Maps, PidFile::Environ, PidFile::Fd, PidFile::Exe, PidFile::Io] {
            assert_eq!(ask(file, 65_534).errno, libc::EACCES, "{file:?}");
        }
        if nix::unistd::geteuid().is_root() {
            assert_eq!(ask(PidFile::Maps, 0).errno, 0);
            assert_eq!(ask(PidFile::Limits, 65_534).errno, 0);
        }
    }
}
