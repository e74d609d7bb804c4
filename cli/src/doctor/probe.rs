//! How the doctor looks: files, the PATH, and commands that may not answer. Nothing here judges.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with 0 and wrote this to its standard output.
    Done(String),
    /// It ended otherwise and wrote this to its standard error.
    Failed(String),
    /// There is no such program.
    Absent,
    /// It did not end in time.
    Late,
}

/// The text of a file, or nothing if it cannot be read.
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Whether a program of this name can be started.
pub fn program(name: &str) -> bool {
    find(name, &std::env::var("PATH").unwrap_or_default()).is_some()
}

/// The first executable file of this name in `path`, then in the directories of root's tools,
/// which the PATH of an ordinary user lacks.
pub fn find(name: &str, path: &str) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
    let dirs = path.split(':').filter(|dir| !dir.is_empty()).chain(system);
    dirs.map(|dir| Path::new(dir).join(name)).find(executable)
}

/// Runs a command, but waits for it no longer than `deadline`.
///
/// A process that touches a mount whose server is stuck may not even end when it is killed:
/// it is then left behind, since waiting for it would be the same fault again.
pub fn command(argv: &[&str], deadline: Duration) -> Outcome {
    let Some(program) = find(argv[0], &std::env::var("PATH").unwrap_or_default()) else {
        return Outcome::Absent;
    };
    let child = Command::new(program)
        .args(&argv[1..])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let Some((out, err)) = within(deadline, move || (drain(out), drain(err))) else {
        // Whether it obeys or not, the answer is the same.
        let _ = child.kill();
        return Outcome::Late;
    };
    match child.wait() {
        Ok(status) if status.success() => Outcome::Done(out.trim().to_owned()),
        Ok(_) => Outcome::Failed(err.trim().to_owned()),
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

/// The result of `work` if it comes within `deadline`; else its thread is left to itself.
pub fn within<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    receive.recv_timeout(deadline).ok()
}

fn drain(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn outcomes_are_told_apart() {
        assert_eq!(command(&["echo", "hello"], 5 * SECOND), Outcome::Done("hello".into()));
        assert_eq!(
            command(&["sh", "-c", "echo no >&2; exit 3"], 5 * SECOND),
            Outcome::Failed("no".into())
        );
        assert_eq!(command(&["no-such-program-here"], SECOND), Outcome::Absent);
    }

    #[test]
    fn a_command_that_hangs_costs_only_the_deadline() {
        let start = Instant::now();
        assert_eq!(command(&["sleep", "60"], Duration::from_millis(50)), Outcome::Late);
        assert!(start.elapsed() < 10 * SECOND);
    }

    #[test]
    fn programs_are_found_by_name_and_must_be_executable() {
        assert!(find("sh", "/usr/bin:/bin").is_some());
        assert!(find("passwd", "/etc").is_none(), "a file that cannot be executed");
        assert!(find("sh", "").is_none());
    }
}
