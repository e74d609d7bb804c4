//! Who asks: the ids the kernel gives with a FUSE request, and the rest from its /proc.

use crate::cred::Caller;
use crate::process::{Stat, parse_stat};
use crate::procfs::{DirAt, Procfs};
use krg_types::limits::GROUPS_MAX;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use std::io::IoSliceMut;
use std::os::fd::AsFd;

/// The process (thread) behind a request, as this mount's pid namespace numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Its file system uid.
    pub uid: u32,
    /// Its file system gid.
    pub gid: u32,
    /// Its thread id; 0 if it is in another pid namespace.
    pub tid: u32,
}

impl Asker {
    /// The thread group it belongs to.
    pub fn tgid(&self, procfs: &Procfs) -> Option<u32> {
        status_field(&self.status(procfs)?, "Tgid:")?.parse().ok()
    }

    /// The ids to act with on the owning node.
    pub fn caller(&self, procfs: &Procfs) -> Caller {
        let status = self.status(procfs).unwrap_or_default();
        let groups = status_field(&status, "Groups:").unwrap_or_default();
        let groups = groups.split_whitespace().filter_map(|g| g.parse().ok());
        Caller { uid: self.uid, gid: self.gid, groups: groups.take(GROUPS_MAX).collect() }
    }

    /// Does a signal wait for it that will end it?
    pub fn is_interrupted(&self, procfs: &Procfs) -> bool {
        self.status(procfs).is_some_and(|status| has_signal(&status, true))
    }

    /// Does a signal wait for it that will end it or be handled? For who waits for something that
    /// may never come: the kernel makes the call anew after a handler that wants that.
    pub fn is_signalled(&self, procfs: &Procfs) -> bool {
        self.status(procfs).is_some_and(|status| has_signal(&status, false))
    }

    /// Does it wait in a system call that is to make a new name, other than open(2)? The look-up
    /// before it is like any other among FUSE's requests.
    pub fn makes_a_name(&self, procfs: &Procfs) -> bool {
        self.making(procfs).is_some_and(|making| !making.opens)
    }

    /// Does it wait in a system call that is to make this very name, or fail if there is one? What
    /// that finds out by itself, its look-up before need not know for sure.
    pub fn makes(&self, procfs: &Procfs, name: &[u8]) -> bool {
        self.making(procfs).is_some_and(|making| self.ends_with(making.path, name))
    }

    /// The system call that it waits in, if that is to make a name.
    fn making(&self, procfs: &Procfs) -> Option<Making> {
        for _ in 0..SLEEPY_MAX {
            let told = self.file(procfs, "syscall")?;
            // While it is on a processor the kernel does not tell.
            if told.trim() != "running" {
                return making(&told);
            }
            std::thread::yield_now();
        }
        None
    }

    /// Is this the last name of the path at an address of its memory?
    fn ends_with(&self, path: usize, name: &[u8]) -> bool {
        let mut text = [0; libc::PATH_MAX as usize];
        let from = [RemoteIoVec { base: path, len: text.len() }];
        let pid = nix::unistd::Pid::from_raw(self.tid as i32);
        let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut text)], &from).unwrap_or(0);
        let end = text[..read].iter().position(|byte| *byte == 0);
        let path = end.map(|end| &text[..end]).unwrap_or_default();
        let mut names = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty());
        // A directory on the way that has the same name is looked for, too.
        names.next() == Some(name) && names.all(|other| other != name)
    }

    fn status(&self, procfs: &Procfs) -> Option<String> {
        self.file(procfs, "status")
    }

    fn file(&self, procfs: &Procfs, name: &str) -> Option<String> {
        if self.tid == 0 {
            return None;
        }
        read(procfs, self.tid, name)
    }
}

/// What `/proc/PID/stat` says of a process, read through this procfs.
pub fn stat(procfs: &Procfs, pid: u32) -> Option<Stat> {
    parse_stat(&read(procfs, pid, "stat")?)
}

fn read(procfs: &Procfs, pid: u32, name: &str) -> Option<String> {
    let dir = procfs.dir(&pid.to_string()).ok()?;
    let mut text = Vec::new();
    // A caller in all of NGROUPS_MAX groups has a status of some 700 KiB.
    DirAt(dir.as_fd()).read(name, &mut text, 1 << 20).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// A thread that has just sent a request goes to sleep within so many looks.
const SLEEPY_MAX: u32 = 100;

/// A system call that makes a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Making {
    /// Where in its memory the path is of which it makes the last name.
    path: usize,
    /// It opens what it makes.
    opens: bool,
}

/// Which one, as proc_pid_syscall(5) tells it: the number, and the arguments in hexadecimal.
fn making(told: &str) -> Option<Making> {
    let mut words = told.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let args: Vec<usize> = words
        .map_while(|word| usize::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    let both = (libc::O_CREAT | libc::O_EXCL) as usize;
    let creates = |flags: usize| flags & both == both;
    let (path, opens) = match number {
        libc::SYS_openat if creates(*args.get(2)?) => (1, true),
        libc::SYS_mkdirat | libc::SYS_mknodat => (1, false),
        libc::SYS_symlinkat => (2, false),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open if creates(*args.get(1)?) => (0, true),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir | libc::SYS_mknod => (0, false),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => (1, false),
        _ => return None,
    };
    Some(Making { path: *args.get(path)?, opens })
}

/// Signals that stop a process or let it go on (signal(7)): it comes back, and wants its answer.
const STOPS: [u32; 5] = [18, 19, 20, 21, 22];

/// The signal masks of proc_pid_status(5): pending for the thread or the process, and of those
/// the ones that are blocked, ignored, or have a handler: after a handler the call goes on, as it
/// would on a /proc that does not wait.
fn has_signal(status: &str, goes_on: bool) -> bool {
    let mask = |key: &str| {
        let field = status_field(status, key).unwrap_or_default();
        u64::from_str_radix(field, 16).unwrap_or(0)
    };
    let stops = STOPS.iter().fold(0, |bits, n| bits | 1u64 << (n - 1));
    let handled = if goes_on { mask("SigCgt:") } else { 0 };
    let kept = mask("SigBlk:") | mask("SigIgn:") | handled | stops;
    (mask("SigPnd:") | mask("ShdPnd:")) & !kept != 0
}

/// The uid that a process acts as, from the text of its `status` file (proc_pid_status(5)).
pub fn effective_uid(status: &str) -> Option<u32> {
    status_field(status, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::HidePid;

    #[test]
    fn the_own_thread_is_known() {
        let procfs = Procfs::open(HidePid::default()).unwrap();
        let pid = std::process::id();
        let tid = nix::unistd::gettid().as_raw().unsigned_abs();
        let me = Asker { uid: 0, gid: 0, tid };
        assert_eq!(me.tgid(&procfs), Some(pid));
        assert_eq!(stat(&procfs, pid).map(|s| s.pid), Some(pid));
        assert!(!me.is_interrupted(&procfs));
        let nobody = Asker { tid: 0, ..me };
        assert_eq!((nobody.tgid(&procfs), nobody.making(&procfs)), (None, None));
    }

    #[test]
    fn a_system_call_that_makes_a_name_is_known() {
        let call = |number: i64, args: &str| making(&format!("{number} {args} 0x7 0x8"));
        let made = |path: usize, opens: bool| Some(Making { path, opens });
        let flags = libc::O_CREAT | libc::O_EXCL | 1;
        let create = format!("0xffffff9c 0x1000 {flags:#x} 0x1b6 0x0 0x0");
        assert_eq!(call(libc::SYS_openat, &create), made(0x1000, true));
        assert_eq!(call(libc::SYS_openat, "0xffffff9c 0x1000 0x1 0x0 0x0 0x0"), None);
        assert_eq!(call(libc::SYS_mkdirat, "0x3 0x2000 0x1ff 0x0 0x0 0x0"), made(0x2000, false));
        assert_eq!(call(libc::SYS_renameat2, &create), None);
        assert_eq!((making("running"), making(""), making("257")), (None, None, None));
    }

    #[test]
    fn the_last_name_of_a_path_is_read_where_it_is() {
        let tid = nix::unistd::gettid().as_raw().unsigned_abs();
        let me = Asker { uid: 0, gid: 0, tid };
        let path = c"/some/where/else//";
        let at = path.as_ptr() as usize;
        let twice = c"else/else".as_ptr() as usize;
        assert!(!me.ends_with(twice, b"else"));
        assert!(me.ends_with(at, b"else") && !me.ends_with(at, b"where"));
        assert!(!me.ends_with(8, b"else") && !Asker { tid: 0, ..me }.ends_with(at, b"else"));
    }

    #[test]
    fn a_signal_counts_if_it_will_end_the_process() {
        let status = |pending: &str, shared: &str, blocked: &str, ignored: &str| {
            let masks = format!(
                "SigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n"
            );
            has_signal(&masks, true)
        };
        assert!(!status("0000000000000000", "0000000000000000", "0", "0"));
        assert!(status("0000000000000100", "0", "0", "0"), "SIGKILL");
        assert!(status("0", "0000000000000002", "0", "0"), "SIGINT");
        assert!(!status("0", "2", "2", "0") && !status("0", "2", "0", "2"));
        assert!(!status("0", "0000000000080000", "0", "0"), "SIGTSTP");
        let handled = "ShdPnd:\t2\nSigCgt:\t2\n";
        assert!(!has_signal(handled, true) && has_signal(handled, false), "it has a handler");
        assert!(!has_signal("", true));
    }
}
