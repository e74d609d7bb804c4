//! Single processes: what they are, holding on to them, ending them, what one sets for itself.

use crate::cred::{Caller, become_entirely};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
pub use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// What `/proc/PID/stat` says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its number.
    pub pid: u32,
    /// Its short name.
    pub name: String,
    /// `R`, `S`, `D`, `T`, `t`, `Z`...
    pub state: char,
    /// Its parent's number, 0 if that is outside the namespace.
    pub parent: u32,
    /// When it started, in ticks since boot: with the pid, tells it from all others.
    pub start: u64,
}

impl Stat {
    /// Has it ended, and only waits for its parent to notice?
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Reads the text of a `stat` file.
pub fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold blanks and parentheses itself: the last one ends it.
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { pid: pid.parse().ok()?, name: name.to_owned(), state, parent, start })
}

/// What the kernel says of a process; `None` if there is none with this number.
pub fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse_stat(&String::from_utf8_lossy(&text))),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The device number of this process's terminal; 0: it has none.
pub fn own_tty() -> u32 {
    let text = fs::read("/proc/self/stat").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let fields = text.rsplit_once(") ").map(|(_, fields)| fields);
    fields.and_then(|fields| fields.split(' ').nth(4)?.parse().ok()).unwrap_or(0)
}

/// When a process started, in ticks since boot; `None` if there is none with this number.
pub fn start_time(pid: u32) -> io::Result<Option<u64>> {
    Ok(stat(pid)?.map(|s| s.start))
}

/// Reading the /proc of a process that ends meanwhile says ESRCH.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

/// Holds on to one process: never another that got its number.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process with this number; `None` if there is none.
    pub fn open(pid: u32) -> io::Result<Option<PidFd>> {
        // SAFETY: plain numbers go in; no memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let e = io::Error::last_os_error();
            // EINVAL: the number is a thread's now, so the process that had it is gone.
            let gone = is_gone(&e) || e.raw_os_error() == Some(libc::EINVAL);
            return if gone { Ok(None) } else { Err(e) };
        }
        // SAFETY: the kernel made this descriptor for us just now and nobody else owns it.
        Ok(Some(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) })))
    }

    /// The process with this number that started then; `None` if it is gone, whoever has its
    /// number now.
    pub fn open_started(pid: u32, start: u64) -> io::Result<Option<PidFd>> {
        let Some(fd) = PidFd::open(pid)? else { return Ok(None) };
        // Looked at only after the descriptor holds the process, so a reuse cannot slip between.
        Ok((start_time(pid)? == Some(start)).then_some(fd))
    }

    /// Sends a signal; `false` if the process has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match self.send(signal as i32) {
            Ok(()) => Ok(true),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal by its number; 0 only asks whether one could be sent.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn send(&self, signal: i32) -> io::Result<()> {
        let (fd, none) = (self.0.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open; a null siginfo is what kill(2) would send.
        let r = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) };
        if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The same as somebody else, whom the kernel lets send it or not. A child process does it,
    /// which is that user's entirely: kill(2) looks at the real user id too, and a thread with
    /// that of a user could itself be sent signals by him.
    ///
    /// # Errors
    /// Those of kill(2); EINVAL for an id that is none; EIO if the child is stopped or killed.
    pub fn send_as(&self, caller: &Caller, signal: i32) -> io::Result<()> {
        entirely_as(caller, || self.send(signal))
    }

    /// The open file behind one of its descriptors (pidfd_getfd(2)).
    ///
    /// # Errors
    /// EBADF for none; EPERM when it may not be looked at.
    pub fn file(&self, number: i32) -> io::Result<OwnedFd> {
        // SAFETY: plain numbers go in.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made it, closed on exec, and nobody else owns it.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The same process, held once more.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn again(&self) -> io::Result<PidFd> {
        Ok(PidFd(self.0.try_clone()?))
    }

    /// Waits for its end (a zombie has ended); `false` if it lives on after `timeout`.
    pub fn wait_end(&self, timeout: Duration) -> io::Result<bool> {
        wait_readable(self.0.as_fd(), timeout)
    }
}

/// Does something in a child process that is the caller entirely; root's is done here. `work` only
/// makes system calls, on memory that is there.
pub(crate) fn entirely_as(
    caller: &Caller,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if caller.uid == 0 {
        return work();
    }
    caller.check()?;
    // SAFETY: the child only makes system calls, on memory that is there, and ends.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let done = become_entirely(caller).and_then(|()| work());
            let errno = done.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            // SAFETY: ends the child at once; nothing of the parent's is run.
            unsafe { libc::_exit(errno) }
        }
        child => exit_code(child),
    }
}

/// What a child that ends at once says with its exit code: an errno. The user whose it is may have
/// stopped it: then it is killed.
pub(crate) fn exit_code(child: libc::pid_t) -> io::Result<()> {
    const MOMENT: Duration = Duration::from_secs(1);
    let held = PidFd::open(child.unsigned_abs());
    let ended = held.and_then(|held| held.map_or(Ok(true), |held| held.wait_end(MOMENT)));
    let child = Pid::from_raw(child);
    if !matches!(ended, Ok(true)) {
        // Nobody else has its number before it is waited for.
        kill(child, Signal::SIGKILL)?;
    }
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until a descriptor has something to read, or its other end closed.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        // Rounded up: rounding down would spin through the last millisecond.
        let left = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left) {
            Ok(n) => return Ok(n > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A write to a closed pipe ends this process, as it ends other tools (Rust ignores it).
pub fn default_sigpipe() {
    set_disposition(libc::SIGPIPE, libc::SIG_DFL);
}

/// A write to a socket or pipe that nobody reads is an error, and no more than that.
pub fn ignore_sigpipe() {
    set_disposition(libc::SIGPIPE, libc::SIG_IGN);
}

/// Signals of the terminal's keys are for the child in front, not for who waits for it.
pub fn ignore_terminal_signals() {
    set_disposition(libc::SIGINT, libc::SIG_IGN);
    set_disposition(libc::SIGQUIT, libc::SIG_IGN);
}

/// Before a command that `ignore_terminal_signals` must not be handed down to.
pub fn with_terminal_signals(command: &mut Command) -> &mut Command {
    // SAFETY: signal(2) is async-signal-safe, all that may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            set_disposition(libc::SIGINT, libc::SIG_DFL);
            set_disposition(libc::SIGQUIT, libc::SIG_DFL);
            Ok(())
        })
    }
}

/// Before a command: what this process has blocked to read it elsewhere is not blocked there.
pub fn with_signals_unblocked(command: &mut Command, signals: SigSet) -> &mut Command {
    // SAFETY: sigprocmask(2) is async-signal-safe, and nothing is allocated.
    unsafe { command.pre_exec(move || Ok(signals.thread_unblock()?)) }
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) {
    // SAFETY: SIG_DFL and SIG_IGN are no handlers; no code of ours runs in a signal's context.
    unsafe { libc::signal(signal, disposition) };
}

/// Makes this process the parent of all orphans below it.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Has this process killed when the thread that started it ends.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Sets the short name that `ps` and `top` show (15 bytes of it).
pub fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(nix::sys::prctl::set_name(&name)?)
}

/// Has the command's process killed when the thread that starts it ends.
///
/// It also makes the command start by fork: the child of a process with a time namespace still to
/// be entered may not share memory with it, as vfork does.
pub fn kill_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl(2) is async-signal-safe and the closure neither allocates nor locks.
    unsafe { command.pre_exec(die_with_parent) }
}

/// Has the command start with no signal blocked: it would inherit what this process blocks to
/// read from a descriptor.
pub fn unblock_signals(command: &mut Command) -> &mut Command {
    let unblock = || {
        let none = nix::sys::signal::SigSet::empty();
        Ok(none.thread_set_mask()?)
    };
    // SAFETY: sigprocmask(2) is async-signal-safe; nothing is allocated or locked.
    unsafe { command.pre_exec(unblock) }
}

/// Has the command's process lead a session whose terminal is its standard input.
pub fn lead_terminal(command: &mut Command) -> &mut Command {
    let lead = || {
        nix::unistd::setsid()?;
        // SAFETY: plain numbers go in; descriptor 0 is the command's own.
        match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe; nothing is allocated or locked.
    unsafe { command.pre_exec(lead) }
}

/// Has the command be the leader of a session in a directory, with this mask; its terminal is its
/// standard input, if that is asked for. What fails is the command's own failure to start.
pub fn lead_session<'a>(
    command: &'a mut Command,
    cwd: &CStr,
    umask: u32,
    terminal: bool,
) -> &'a mut Command {
    let cwd = cwd.to_owned();
    let begin = move || {
        nix::unistd::setsid()?;
        // SAFETY: plain numbers go in; descriptor 0 is the command's own.
        if terminal && unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        nix::unistd::chdir(cwd.as_c_str())?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: system calls only, on memory that is there already; nothing is allocated or locked.
    unsafe { command.pre_exec(begin) }
}

/// Becomes a user, entirely and for good; he may look at this process, as at any of his.
///
/// # Errors
/// The kernel's; EINVAL for an id that is none.
pub fn become_user(caller: &Caller) -> io::Result<()> {
    caller.check()?;
    become_entirely(caller)?;
    Ok(nix::sys::prctl::set_dumpable(true)?)
}

/// Has the command be the first process in the PID namespace for children of this thread, with its
/// procfs at `proc`, a session and IPC objects of its own, and `root` as its root directory, in
/// which the program is looked for.
pub fn begin_in<'a>(command: &'a mut Command, root: &CStr, proc: &CStr) -> &'a mut Command {
    let (root, proc) = (root.to_owned(), proc.to_owned());
    let begin = move || {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        // SAFETY: the strings are live and end with NUL; no data goes with it.
        let mounted = unsafe {
            let name = c"proc".as_ptr();
            libc::mount(name, proc.as_ptr(), name, flags, std::ptr::null())
        };
        if mounted != 0 {
            return Err(io::Error::last_os_error());
        }
        nix::unistd::setsid()?;
        // SAFETY: plain numbers go in.
        if unsafe { libc::unshare(libc::CLONE_NEWIPC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        nix::unistd::chroot(root.as_c_str())?;
        Ok(nix::unistd::chdir(c"/")?)
    };
    // SAFETY: system calls only, on memory that is there already; nothing is allocated or locked.
    unsafe { command.pre_exec(begin) }
}

/// Leaves these descriptors open in the command, under the numbers they have here.
pub fn keep_open(command: &mut Command, fds: Vec<OwnedFd>) -> &mut Command {
    let keep = move || {
        for fd in &fds {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: system calls only, on memory that is there already; nothing is allocated or locked.
    unsafe { command.pre_exec(keep) }
}

/// What a process and those it has waited for have used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Processor time in user mode, us.
    pub user_us: u64,
    /// And in the kernel, us.
    pub system_us: u64,
    /// Most memory at once, KiB.
    pub max_rss_kib: u64,
}

/// Waits until this child ends, if it is one.
pub fn reap(pid: u32) {
    while let Err(nix::errno::Errno::EINTR) = waitpid(Pid::from_raw(pid as i32), None) {}
}

/// Waits until a child ends: its pid, its status (wait(2)) and what it has used; `None` when there
/// is no child.
///
/// # Errors
/// The kernel's.
pub fn reap_any() -> io::Result<Option<(u32, i32, Usage)>> {
    loop {
        let mut status = 0;
        // SAFETY: plain numbers all of it, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both outlive the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, 0, &raw mut usage) };
        if let Ok(pid) = u32::try_from(pid) {
            let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
            let (user_us, system_us) = (us(usage.ru_utime), us(usage.ru_stime));
            let max_rss_kib = usage.ru_maxrss as u64;
            return Ok(Some((pid, status, Usage { user_us, system_us, max_rss_kib })));
        }
        match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            e if e.kind() == io::ErrorKind::Interrupted => {}
            e => return Err(e),
        }
    }
}

/// A descriptor that whoever executed this program has left open for it; closed on exec from now
/// on.
///
/// # Errors
/// EBADF if it is not open, or one of the standard ones.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    // SAFETY: plain numbers go in.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(bad());
    }
    // SAFETY: it is open, and was left to this program, which asks for it once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The path of this program: of the newer one that is there when it was replaced since
/// (proc_pid_exe(5)).
///
/// # Errors
/// When there is no /proc.
pub fn own_program() -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let link = fs::read_link("/proc/self/exe")?.into_os_string();
    let path = link.as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Ok(std::ffi::OsString::from_vec(path.to_vec()).into())
}

/// Reads nothing by standard input any more.
///
/// # Errors
/// When there is no /dev/null.
pub fn let_go_of_stdin() -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?)
}

/// Reads and writes nothing by the standard descriptors any more.
///
/// # Errors
/// When there is no /dev/null.
pub fn let_go_of_stdio() -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(nix::unistd::dup2_stderr(&null)?)
}

/// Marks every descriptor above standard error to be closed when a program is executed: also
/// those that whoever started this process left open.
pub fn close_on_exec_all() -> io::Result<()> {
    // SAFETY: plain numbers go in; descriptors stay open and owned by who owns them.
    let r = unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSize(libc::winsize);

impl WindowSize {
    /// Of so many characters.
    pub fn new(rows: u16, columns: u16) -> WindowSize {
        WindowSize(libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
    }

    /// Rows and columns.
    pub fn parts(self) -> (u16, u16) {
        (self.0.ws_row, self.0.ws_col)
    }

    /// The size of the terminal behind a descriptor.
    pub fn of(terminal: impl AsFd) -> io::Result<WindowSize> {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        let fd = terminal.as_fd().as_raw_fd();
        // SAFETY: the kernel writes one winsize into `size`, which lives through the call.
        match unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) } {
            0 => Ok(WindowSize(size)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives the terminal behind a descriptor this size.
    pub fn apply(self, terminal: impl AsFd) -> io::Result<()> {
        let fd = terminal.as_fd().as_raw_fd();
        // SAFETY: the kernel reads one winsize from `self`, which lives through the call.
        match unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "77 (a) b (c)) T 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state), (77, "a) b (c)", 'T'));
        assert_eq!((stat.parent, stat.start), (5, 123_456));
        for bad in ["", "1", "1 (", "1 (a) S", "1 (a) S 1 2 3", "x (a) S 1"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_child_is_held_signalled_and_awaited() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_time(child.id()).unwrap().unwrap();
        assert!(PidFd::open_started(child.id(), start + 1).unwrap().is_none());
        let fd = PidFd::open_started(child.id(), start).unwrap().unwrap();
        assert!(!fd.wait_end(Duration::from_millis(1)).unwrap());
        assert!(fd.signal(Signal::SIGKILL).unwrap());
        assert!(fd.wait_end(Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        assert!(!fd.signal(Signal::SIGKILL).unwrap());
    }

    #[test]
    fn a_signal_is_sent_as_a_user() {
        if !crate::testing::is_root("a_signal_is_sent_as_a_user") {
            return;
        }
        let as_user = |uid: u32| Caller { uid, gid: uid, groups: vec![uid] };
        let errno = |sent: io::Result<()>| sent.unwrap_err().raw_os_error();
        for (owner, sender, wanted) in [
            (7, 7, None),
            (7, 0, None),
            (7, 8, Some(libc::EPERM)),
            // This process is root's itself: that is nobody else's right.
            (0, 7, Some(libc::EPERM)),
            (7, u32::MAX, Some(libc::EINVAL)),
        ] {
            let mut child = Command::new("sleep").arg("60").uid(owner).spawn().unwrap();
            let fd = PidFd::open(child.id()).unwrap().unwrap();
            let sent = fd.send_as(&as_user(sender), libc::SIGKILL);
            match wanted {
                None => sent.unwrap(),
                Some(_) => {
                    assert_eq!(errno(sent), wanted, "{sender} to {owner}");
                    assert!(!fd.wait_end(Duration::from_millis(1)).unwrap());
                    fd.send(libc::SIGKILL).unwrap();
                }
            }
            child.wait().unwrap();
            assert_eq!(errno(fd.send_as(&as_user(9), 0)), Some(libc::ESRCH));
        }
        // The thread that asked is root's as before.
        assert!(nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root());
    }

    #[test]
    fn nobody_has_pid_zero() {
        assert!(PidFd::open(4_194_304).unwrap().is_none());
        assert_eq!(start_time(4_194_304).unwrap(), None);
    }
}
