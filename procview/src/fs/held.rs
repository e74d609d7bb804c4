//! The view as a mount has it whose files the kernel keeps: it opens them without asking, and
//! reads them from its page cache. What is held is of the true size, and its content never
//! changes under an inode number; what must be live is a link to a mount that is asked each time.

use super::{Attr, Fs, Kind, cpu, process};
use crate::error::ViewError;
use crate::gather::TEXTS_MAX_AGE;
use crate::inode::{Fixed, Item, Who, held_start, start_bits};
use crate::merge::mosix;
use crate::store::{NodeView, Process};
use krg_types::{GlobalPid, PidFile};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// To the root of the tree from wherever a view is mounted, or bound: `..` of the root is the root.
/// An absolute link would lead whoever looks in through /proc/PID/root into his own tree.
const UP: &[u8] = b"../../../../../../../../../../../../";

/// A held text found: of which process, its version, and what it says.
struct Found {
    process: Arc<Process>,
    version: u8,
    text: Vec<u8>,
}

impl Fs {
    /// Sees to it that a process's texts may be answered from memory.
    pub async fn fresh(&self, pid: GlobalPid) {
        self.gather.refresh(Some(pid.node()), true, 0, TEXTS_MAX_AGE).await;
    }

    /// What such a mount shows in the place of `attr`; with it the kernel is told what a text
    /// says now, and will be told when that changes.
    pub fn held(&self, attr: Attr) -> Attr {
        if matches!(attr.item, Item::Brief(..)) {
            return attr;
        }
        let asked = if attr.kind == Kind::File { attr.as_link() } else { attr };
        let Item::PidFile(Who::Process(pid, start), file) = attr.item else { return asked };
        let Some(place) = file.held_place() else { return asked };
        self.about_to_tell(pid, place);
        match self.find_held(pid, |s| start_bits(s) == start, place, None) {
            // Which users may read an environment of theirs no mode can say (its groups and its
            // capabilities count too): its kernel is asked each time. Of root's only root may.
            Some(found) if file == PidFile::Environ && found.process.uid != 0 => asked,
            Some(found) => {
                let item = Item::Held(pid, held_start(start), place, found.version);
                let size = found.text.len() as u64;
                let (uid, gid) = (found.process.uid, found.process.gid);
                Attr { item, size, uid, gid, ..attr }
            }
            None => asked,
        }
    }

    /// The kernel hears of a text. To be called before it is looked at: see `Told::tell`.
    fn about_to_tell(&self, pid: GlobalPid, place: u8) {
        if let Some(view) = self.gather.view(pid.node())
            && let Some(process) = view.procs.get(&pid.local())
        {
            process.told.tell(place, self.now_ms());
        }
    }

    /// What stat(2) says of a held text, and whether it is a former one of its process's.
    ///
    /// # Errors
    /// ESRCH for a process that has ended.
    pub fn held_attr(
        &self,
        (pid, start, place, version): (GlobalPid, u32, u8, u8),
    ) -> Result<(Attr, bool), ViewError> {
        let (found, former) = self.last_or_former((pid, start, place, version))?;
        let item = Item::Held(pid, start, place, version);
        let perm = PidFile::HELD.get(usize::from(place)).map_or(0, |file| file.mode());
        let (uid, gid, size) = (found.process.uid, found.process.gid, found.text.len() as u64);
        Ok((Attr { item, kind: Kind::File, perm, uid, gid, size }, former))
    }

    /// The content with this version, if it is the last or the one before; else the last, and
    /// then true is said with it.
    ///
    /// # Errors
    /// ESRCH for a process that has ended.
    pub fn held_text(
        &self,
        held: (GlobalPid, u32, u8, u8),
    ) -> Result<(Vec<u8>, bool), ViewError> {
        self.last_or_former(held).map(|(found, former)| (found.text, former))
    }

    fn last_or_former(
        &self,
        (pid, start, place, version): (GlobalPid, u32, u8, u8),
    ) -> Result<(Found, bool), ViewError> {
        let is = |ticks: u64| held_start(start_bits(ticks)) == start;
        self.about_to_tell(pid, place);
        let last = self.find_held(pid, is, place, None).ok_or(ViewError::NoProcess)?;
        if last.version == version {
            return Ok((last, false));
        }
        let before = self.gather.view_before(pid.node());
        let before = before.and_then(|view| self.find_held(pid, is, place, Some(&view)));
        Ok((before.filter(|found| found.version == version).unwrap_or(last), true))
    }

    fn find_held(
        &self,
        pid: GlobalPid,
        is: impl Fn(u64) -> bool,
        place: u8,
        in_view: Option<&NodeView>,
    ) -> Option<Found> {
        let cluster = self.cluster();
        let (how, view, moved) = cluster.place(pid.node())?;
        let process = in_view.unwrap_or(view).procs.get(&pid.local())?;
        if !is(process.start_ticks) {
            return None;
        }
        let file = *PidFile::HELD.get(usize::from(place))?;
        let text = process::held(process, file, &how)?.ok()?;
        let version = process.versions[usize::from(place)].wrapping_add(moved);
        Some(Found { process: process.clone(), version, text })
    }

    /// The numbers by which the kernel knows the held texts of a process, for these places.
    pub fn held_items(&self, pid: GlobalPid, process: &Process, places: u8) -> Vec<(u8, Item)> {
        let cluster = self.cluster();
        let moved = cluster.place(pid.node()).map_or(0, |(_, _, moved)| moved);
        let start = held_start(start_bits(process.start_ticks));
        let bits = (0..PidFile::HELD.len() as u8).filter(|place| places >> place & 1 != 0);
        let item = |place: u8| {
            let version = process.versions[usize::from(place)].wrapping_add(moved);
            (place, Item::Held(pid, start, place, version))
        };
        bits.map(item).collect()
    }

    /// Where the link leads that such a mount shows in the place of an item, if it does.
    pub fn live_path(&self, item: Item) -> Option<Vec<u8>> {
        let is_file = super::shape(item).0 == Kind::File && !matches!(item, Item::Held(..));
        Some(self.up_to(&self.live.as_ref().filter(|_| is_file)?.join(self.path(item)?)))
    }

    /// A link to an absolute path.
    pub(super) fn up_to(&self, path: &Path) -> Vec<u8> {
        let below = path.strip_prefix("/").unwrap_or(path);
        [UP, below.as_os_str().as_bytes()].concat()
    }

    /// Where an item is, below the root of a view.
    pub fn path(&self, item: Item) -> Option<String> {
        let in_mosix = |f: u8| mosix::FILES.get(usize::from(f));
        Some(match item {
            Item::System(file) => file.path().to_owned(),
            Item::NodeFile(node, file) => format!("nodes/node{node}/{}", file.name()),
            Item::ClusterFile(file) => format!("nodes/cluster/{}", file.name()),
            Item::MosixFile(node, f) => format!("mosix/nodes/{node}/{}", in_mosix(f)?),
            Item::CpuList(f) => format!(".sys/cpu/{}", cpu::LISTS.get(usize::from(f))?),
            Item::CpuFile(n, f) => {
                format!(".sys/cpu/cpu{n}/topology/{}", cpu::TOPOLOGY.get(usize::from(f))?)
            }
            Item::Fixed(Fixed::Nrnodes) => "nodes/nrnodes".to_owned(),
            Item::Fixed(Fixed::PidMax) => "sys/kernel/pid_max".to_owned(),
            Item::Fixed(Fixed::Server) => ".sys/server".to_owned(),
            Item::Fixed(Fixed::Settled) => ".sys/settled".to_owned(),
            Item::PidFile(Who::Root, file) => format!("1/{}", file.name()),
            Item::PidFile(Who::Process(pid, _), file) => format!("{pid}/{}", file.name()),
            Item::Entry(pid, dir, n) => format!("{pid}/{}/{n}", dir.name()),
            Item::TaskFile(pid, tid, file) => {
                let tid = GlobalPid::new(pid.node(), tid)?;
                format!("{pid}/task/{tid}/{}", file.name())
            }
            _ => return None,
        })
    }
}
