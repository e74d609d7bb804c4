//! CRIU, which does the saving and bringing back of processes: how it is called, and what it says.

use crate::hook::Hooks;
use krg_sys::cred;
use krg_sys::criu::find;
use krg_sys::process::{self, PidFd};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Of the end of a log, bytes: an error is among the last lines.
const LOG_TAIL_BYTES: u64 = 64 << 10;
/// A file that is deleted and still open goes along up to this size (`--ghost-limit`).
const DELETED_BYTES_MAX: &str = "1G";
const DUMP_LOG: &str = "dump.log";
const RESTORE_LOG: &str = "restore.log";
const PID_FILE: &str = "pid";

/// It, and a directory for its sockets and logs.
pub struct Criu {
    program: PathBuf,
    dir: PathBuf,
}

/// A run of it.
pub struct Run {
    child: Child,
    held: PidFd,
    log: PathBuf,
}

impl Criu {
    /// To be used in this directory, which is made.
    ///
    /// # Errors
    /// NotFound when there is none on this machine.
    pub fn new(dir: &Path) -> io::Result<Criu> {
        let missing = "there is no CRIU on this node (`krg doctor` tells how to get it)";
        let program = find().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing))?;
        fs::create_dir_all(dir)?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        Ok(Criu { program, dir: dir.to_owned() })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its version, as `4.2.1`.
    ///
    /// # Errors
    /// When it cannot be run, or does not say.
    pub fn version(&self) -> io::Result<String> {
        let said = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.lines().find_map(|line| line.strip_prefix("Version:"));
        let version = version.map(|version| version.trim().to_owned());
        version.ok_or_else(|| io::Error::other("CRIU does not say which version it is"))
    }

    fn command(&self, what: &str, log: &str) -> io::Result<Command> {
        // A log of an earlier run is not to be taken for this one's.
        let _ = fs::remove_file(self.dir.join(log));
        let mut command = Command::new(&self.program);
        command.arg(what).arg("--images-dir").arg(&self.dir).args(["-v2", "-o", log]);
        command.args(["--file-locks", "--shell-job", "--manage-cgroups=ignore"]);
        command.args(["--ghost-limit", DELETED_BYTES_MAX, "--network-lock", "skip"]);
        let null = || File::options().read(true).write(true).open("/dev/null");
        command.stdin(null()?).stdout(Stdio::null()).stderr(null()?);
        Ok(command)
    }

    /// Saves the job with this first process. What is outside of it has these names.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn dump(&self, init: u32, outside: &[String], hooks: &Hooks) -> io::Result<Run> {
        let mut command = self.command("dump", DUMP_LOG)?;
        command.args(["--stream", "--tree", &init.to_string()]);
        command.arg("--action-script").arg(hooks.script());
        for name in outside.iter().filter(|name| name.starts_with("tty[")) {
            command.args(["--external", name]);
        }
        let owner = fs::metadata(format!("/proc/{init}"))?;
        if owner.uid() != 0 && !cred::may_raise_limits() {
            command.arg("--unprivileged");
            cred::keep_powers_as(&mut command, owner.uid(), owner.gid());
        }
        self.run(command, DUMP_LOG)
    }

    /// Brings a job back; what is outside of it is now behind these descriptors.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restore(&self, outside: Vec<(OwnedFd, String)>, hooks: &Hooks) -> io::Result<Run> {
        self.bring_back(outside, hooks, false)
    }

    /// As [`Criu::restore`]; if `stopped`, none of its processes runs before it gets SIGCONT.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn bring_back(
        &self,
        outside: Vec<(OwnedFd, String)>,
        hooks: &Hooks,
        stopped: bool,
    ) -> io::Result<Run> {
        let mut command = self.command("restore", RESTORE_LOG)?;
        command.args(stopped.then_some("--leave-stopped"));
        command.args(["--stream", "--restore-detached", "--pidfile", PID_FILE]);
        command.arg("--action-script").arg(hooks.script());
        let mut fds = Vec::new();
        for (fd, name) in outside {
            command.args(["--inherit-fd", &format!("fd[{}]:{name}", fd.as_raw_fd())]);
            fds.push(fd);
        }
        process::keep_open(&mut command, fds);
        let _ = fs::remove_file(self.dir.join(PID_FILE));
        self.run(command, RESTORE_LOG)
    }

    fn run(&self, mut command: Command, log: &str) -> io::Result<Run> {
        let child = command.spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("cannot run {}: {e}", self.program.display()))
        })?;
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let held = PidFd::open(child.id())?.ok_or_else(gone)?;
        Ok(Run { child, held, log: self.dir.join(log) })
    }

    /// The first process of what was brought back, as this node numbers it.
    ///
    /// # Errors
    /// When there is none.
    pub fn restored(&self) -> io::Result<u32> {
        let text = fs::read_to_string(self.dir.join(PID_FILE))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

impl Run {
    /// Becomes readable when it has ended.
    pub fn held(&self) -> &PidFd {
        &self.held
    }

    /// Has it ended?
    pub fn is_over(&self) -> bool {
        process::wait_readable(self.held.as_fd(), Duration::ZERO).unwrap_or(true)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Its last words, if it failed.
    pub fn finish(mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(last_words(&self.log, &status.to_string()))),
        }
    }

    /// Ends it: what it was doing is undone by the kernel (a dump) or by itself.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first error in the log: those that follow are of its consequences.
fn last_words(log: &Path, status: &str) -> String {
    let tail = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    error_of(&text).unwrap_or_else(|| format!("CRIU failed: {status}"))
}

/// That nobody may raise limits is said in every log where root is not almighty, and harms nobody.
fn error_of(log: &str) -> Option<String> {
    let mut errors =
        log.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): "));
    let first = errors.find(|(_, words)| !words.contains("RLIMIT_NOFILE"));
    first.map(|(_, words)| format!("CRIU: {}", words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_told() {
        let log = "(00.1) Warn  (criu/x.c:1): no\n\
            (00.2) Error (criu/rlimit.c:3): Can't setup RLIMIT_NOFILE for self: denied\n\
            (00.3) Error (criu/sk-inet.c:89): inet: Connected TCP socket, consider using --tcp\n\
            (00.4) Error (criu/cr-dump.c:1559): Dump files (pid: 17) failed with -1\n";
        let words = "CRIU: inet: Connected TCP socket, consider using --tcp";
        assert_eq!(error_of(log).as_deref(), Some(words));
        assert_eq!(error_of("(00.1) all is well\n"), None);
    }
}
