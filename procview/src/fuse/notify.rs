//! Tells the kernel what of that which it keeps is no longer so. On a thread of its own: the kernel
//! may have to wait for a request of the same file to be answered first.

use crate::fs::Fs;
use crate::inode::{Item, NAMESPACES, Who, start_bits};
use crate::news::{Hearer, News};
use crate::store::{NodeView, Process};
use fuser::{INodeNo, Notifier};
use krg_types::{GlobalPid, NodeId, PidFile};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A content that is no longer the last is kept so long for who has it open: a reader that needs
/// several calls gets one text. Then whoever still has it open reads what is so now.
const FORMER_KEPT: Duration = Duration::from_secs(1);
/// An answer given so short a time before a change may reach the kernel's table of names after the
/// notice of the change.
const ON_ITS_WAY_MS: u32 = 200;
/// What waits to be said later; beyond it is said at once.
const LATER_MAX: usize = 1 << 18;
/// All held texts.
const ALL: u8 = (1 << PidFile::HELD.len()) - 1;
/// Those that show other processes' numbers and times.
const PLACED: u8 = 0b11;

/// Something to say later.
enum Later {
    /// These contents are no longer to be kept.
    Former(u64),
    /// A name in this directory may stand for a former content.
    Name(u64, &'static str),
}

struct Keeper {
    kernel: Notifier,
    fs: Arc<Fs>,
    later: VecDeque<(Instant, Later)>,
    gone: bool,
}

/// Starts the thread, which ends with the mount.
///
/// # Errors
/// When no thread can be had.
pub fn keep_in_step(kernel: Notifier, fs: Arc<Fs>, news: Hearer) -> io::Result<()> {
    let mut keeper = Keeper { kernel, fs, later: VecDeque::new(), gone: false };
    let run = move || {
        while !keeper.gone {
            if let Some(piece) = news.next(FORMER_KEPT / 2) {
                keeper.hear(piece);
                news.handled();
            }
            if news.has_lost() {
                keeper.forget_all();
            }
            keeper.say_later();
        }
    };
    std::thread::Builder::new().name("krg-notify".into()).spawn(run).map(drop)
}

impl Keeper {
    fn hear(&mut self, piece: News) {
        match piece {
            News::View { old, new } => self.compare(&old, &new),
            News::Place(node) => self.forget(node, PLACED),
            News::Idle(node) => self.forget(node, ALL),
            News::Former(ino) => self.put_off(Later::Former(ino)),
        }
    }

    fn forget_all(&mut self) {
        for node in self.fs.gather().nodes() {
            self.forget(node, ALL);
        }
    }

    /// Nothing of these texts is to be kept, whether it is still so or not.
    fn forget(&mut self, node: NodeId, places: u8) {
        let Some(view) = self.fs.gather().view(node) else { return };
        for (local, process) in view.procs.iter() {
            let Some(pid) = GlobalPid::new(node, *local) else { continue };
            let told = process.told.take(places);
            if told != 0 {
                self.changed(pid, process, told);
            }
        }
    }

    fn compare(&mut self, old: &NodeView, new: &NodeView) {
        for (local, before) in old.procs.iter() {
            let Some(pid) = GlobalPid::new(old.node, *local) else { continue };
            match new.procs.get(local) {
                Some(now) if Arc::ptr_eq(before, now) => {}
                Some(now) if now.start_ticks == before.start_ticks => {
                    let told = now.told.take(now.changed_since(before));
                    if told != 0 {
                        self.changed(pid, before, told);
                    }
                    if (now.uid, now.gid) != (before.uid, before.gid) {
                        self.given_away(pid, before);
                    }
                }
                _ => self.ended(pid, before),
            }
        }
    }

    /// Their next reader asks for them by name, and gets another inode.
    fn changed(&mut self, pid: GlobalPid, before: &Process, places: u8) {
        let dir = dir(pid, before);
        let since_ms = self.fs.now_ms().wrapping_sub(before.told.at_ms());
        for (place, item) in self.fs.held_items(pid, before, places) {
            let name = PidFile::HELD[usize::from(place)].name();
            self.say(dir, |k, ino| k.inval_entry(ino, OsStr::new(name)));
            self.put_off(Later::Former(item.ino()));
            if since_ms < ON_ITS_WAY_MS {
                self.put_off(Later::Name(dir, name));
            }
        }
    }

    /// It has another owner.
    fn given_away(&mut self, pid: GlobalPid, process: &Process) {
        self.say(dir(pid, process), |k, ino| k.inval_inode(ino, -1, 0));
        let who = Who::Process(pid, start_bits(process.start_ticks));
        for name in NAMESPACES {
            let links = Item::PidFile(who, PidFile::Ns).ino();
            self.say(links, |k, ino| k.inval_entry(ino, OsStr::new(name)));
        }
    }

    /// Whoever still has something of it open is told that it has ended.
    fn ended(&mut self, pid: GlobalPid, process: &Process) {
        self.say(dir(pid, process), |k, ino| k.inval_inode(ino, -1, 0));
        let told = process.told.take(ALL);
        for (_, item) in self.fs.held_items(pid, process, told) {
            self.say(item.ino(), |k, ino| k.inval_inode(ino, 0, -1));
        }
    }

    fn put_off(&mut self, what: Later) {
        if self.later.len() >= LATER_MAX {
            return self.say_now(&what);
        }
        self.later.push_back((Instant::now() + FORMER_KEPT, what));
    }

    fn say_later(&mut self) {
        while self.later.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let Some((_, what)) = self.later.pop_front() else { return };
            self.say_now(&what);
        }
    }

    fn say_now(&mut self, what: &Later) {
        match what {
            Later::Former(ino) => self.say(*ino, |k, ino| k.inval_inode(ino, 0, -1)),
            Later::Name(dir, name) => {
                self.say(*dir, |k, ino| k.inval_entry(ino, OsStr::new(name)));
            }
        }
    }

    /// What the kernel does not keep it need not forget: that error is none. One that says that
    /// there is no mount any more ends the thread.
    fn say(&mut self, ino: u64, what: impl FnOnce(&Notifier, INodeNo) -> io::Result<()>) {
        if let Err(e) = what(&self.kernel, INodeNo(ino)) {
            self.gone |= matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN));
        }
    }
}

fn dir(pid: GlobalPid, process: &Process) -> u64 {
    Item::Process(Who::Process(pid, start_bits(process.start_ticks))).ino()
}
