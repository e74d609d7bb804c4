//! Starting a job: namespaces, its first process, and the word that it runs.

use crate::inside::{End, Inside};
use crate::report::{REPORT_BYTES, Report};
use crate::root::ROOT;
use crate::spec::Spec;
use krg_sys::ns::{self, Namespaces};
use krg_sys::open_file::open_file;
use krg_sys::process::{self, wait_readable};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

/// The first process, and the program, are there within this.
const START_MAX: Duration = Duration::from_secs(10);
/// The subcommand of krgd that is the first process of a job.
pub const INIT_COMMAND: &str = "job-init";

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The program cannot be executed: an errno.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Program(i32),
    /// Something else.
    #[error("{0}")]
    Other(#[from] io::Error),
}

/// Starts it. `stdio` is what its program has; `ends` is where that leads, if not to files. The
/// program's number within the job is told too.
///
/// # Errors
/// When it does not run.
pub fn start(
    spec: &Spec,
    stdio: [OwnedFd; 3],
    ends: Vec<End>,
    terminal: bool,
) -> Result<(Inside, u32), NotStarted> {
    let mut asked =
        File::from(memfd_create("job", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
    asked.write_all(&spec.written())?;
    asked.rewind()?;
    let (reports, told) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)?;
    let report_name = format!("pipe:[{}]", open_file(&told)?.ino);
    let program = crate::helper::program()?;
    let mut command = Command::new(program);
    command.arg0("krg-job-init").arg(INIT_COMMAND);
    command.args([asked.as_raw_fd(), told.as_raw_fd()].map(|fd| fd.to_string()));
    command.args(terminal.then_some("--terminal"));
    let [input, output, error] = stdio;
    command.stdin(input).stdout(output).stderr(error);
    process::keep_open(&mut command, vec![asked.into(), told]);
    let path = |path: String| CString::new(path.into_bytes()).map_err(io::Error::from);
    process::begin_in(&mut command, &path(ROOT.to_owned())?, &path(format!("{ROOT}/proc"))?);
    let mut init = spawn_apart(command)?;
    let mut reports = File::from(reports);
    match first_report(&mut reports) {
        Ok(Report::Started(number)) => {
            Ok((Inside::new(init.id(), reports, report_name, ends)?, number))
        }
        other => {
            let _ = init.kill();
            let _ = init.wait();
            Err(match other {
                Ok(Report::Failed(errno)) => NotStarted::Program(errno),
                Ok(_) => io::Error::from(io::ErrorKind::InvalidData).into(),
                Err(e) => e.into(),
            })
        }
    }
}

/// The first process of a namespace, which is that of a thread's children: later children of this
/// process are to be where it is.
fn spawn_apart(mut command: Command) -> io::Result<Child> {
    let thread = std::thread::spawn(move || {
        ns::unshare(Namespaces::PID)?;
        // What it was to keep goes with the command: the pipe ends when the job's side does.
        command.spawn()
    });
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}

fn first_report(reports: &mut File) -> io::Result<Report> {
    if !wait_readable(reports.as_fd(), START_MAX)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut bytes = [0; REPORT_BYTES];
    reports.read_exact(&mut bytes)?;
    Report::read(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A file that the job can have as its own: the same one, opened in its own tree. `None` for what
/// is not there: what is deleted, in other mounts, or no file.
pub fn opened_inside(fd: &OwnedFd) -> Option<File> {
    use krg_sys::open_file::SFlag;
    use std::os::unix::fs::OpenOptionsExt;
    let theirs = open_file(fd).ok()?;
    let terminal = theirs.kind == SFlag::S_IFCHR && nix::unistd::isatty(fd).unwrap_or(true);
    if terminal || ![SFlag::S_IFREG, SFlag::S_IFDIR, SFlag::S_IFCHR].contains(&theirs.kind) {
        return None;
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).ok()?;
    let kept = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_SYNC;
    let access = flags & libc::O_ACCMODE;
    let inside = [ROOT.as_bytes(), &path.into_os_string().into_vec()].concat();
    let mut open = File::options();
    open.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY);
    open.custom_flags((flags & kept) | libc::O_NOCTTY);
    // First as a place only: what somebody may have put there meanwhile is not to be opened.
    let mut find = File::options();
    find.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
    let place = find.open(std::ffi::OsString::from_vec(inside)).ok()?;
    (open_file(&place).ok()? == theirs).then_some(())?;
    let file = open.open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()?;
    if theirs.kind == SFlag::S_IFREG {
        let at = nix::unistd::lseek(fd, 0, nix::unistd::Whence::SeekCur).ok()?;
        nix::unistd::lseek(&file, at, nix::unistd::Whence::SeekSet).ok()?;
    }
    Some(file)
}
