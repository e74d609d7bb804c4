//! Whether krgd runs, and whether the view it mounts answers.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use krg_rpc::local::SOCKET;

use super::check::{Check, Level};
use super::probe::{self, Outcome};

const VIEW: &str = "/cluster/proc";
const START: &str = "systemctl start krgd";
const DEADLINE: Duration = Duration::from_secs(1);

/// The checks of this file, on this machine.
pub fn checks() -> Vec<Check> {
    let connect = || UnixStream::connect(SOCKET).map(drop).map_err(|e| e.kind());
    let daemon = krgd(probe::within(DEADLINE, connect));
    let mounts = probe::text("/proc/self/mountinfo").unwrap_or_default();
    // A statfs of a dead or stuck mount may never come back, so another process asks.
    let answer = mounted(&mounts, VIEW)
        .then(|| probe::command(&["stat", "--file-system", "--format=%T", VIEW], DEADLINE));
    let view = view(answer.as_ref(), daemon.level == Level::Ok);
    vec![daemon, view]
}

/// The daemon, from what connecting to its socket gave; `None` is no answer in time.
pub fn krgd(connected: Option<Result<(), ErrorKind>>) -> Check {
    const RESTART: &str = "systemctl restart krgd";
    match connected {
        Some(Ok(())) => Check::ok("krgd", format!("answers on {SOCKET}")),
        Some(Err(ErrorKind::NotFound)) => Check::warn("krgd", "does not run", START),
        Some(Err(ErrorKind::ConnectionRefused)) => {
            Check::warn("krgd", "ended and left its socket behind", START)
        }
        Some(Err(ErrorKind::PermissionDenied)) => {
            Check::warn("krgd", "its socket is not for this user", "sudo krg doctor")
        }
        Some(Err(kind)) => Check::warn("krgd", format!("does not answer: {kind}"), RESTART),
        None => Check::warn("krgd", "did not answer within 1 s", RESTART),
    }
}

/// Whether something is mounted at `path`, from the text of `/proc/self/mountinfo`.
pub fn mounted(mountinfo: &str, path: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

/// The view, from what a statfs of it gave; `None` is nothing mounted.
pub fn view(answer: Option<&Outcome>, daemon: bool) -> Check {
    const UNMOUNT: &str = "umount -l /cluster/proc";
    match answer {
        Some(Outcome::Done(_)) => Check::ok("view", "/cluster/proc answers"),
        Some(Outcome::Failed(why)) => {
            let why = why.rsplit(": ").next().unwrap_or(why);
            Check::fail("view", format!("/cluster/proc is dead: {why}"), UNMOUNT)
        }
        Some(Outcome::Late) => {
            Check::fail("view", "/cluster/proc did not answer within 1 s", UNMOUNT)
        }
        Some(Outcome::Absent) => {
            Check::info("view", "not asked: no stat command", "apt-get install coreutils")
        }
        None if daemon => Check::warn(
            "view",
            "krgd runs but nothing is mounted at /cluster/proc",
            "systemctl restart krgd (see also [view] in /etc/krg/krg.toml)",
        ),
        None => Check::info("view", "krgd mounts /cluster/proc when it starts", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_differs_from_one_that_is_stuck() {
        assert_eq!(krgd(Some(Ok(()))).level, Level::Ok);
        assert_eq!(krgd(Some(Err(ErrorKind::NotFound))).mend, START);
        assert_eq!(krgd(Some(Err(ErrorKind::ConnectionRefused))).mend, START);
        assert_eq!(krgd(Some(Err(ErrorKind::PermissionDenied))).mend, "sudo krg doctor");
        assert!(krgd(None).mend.contains("restart"));
    }

    #[test]
    fn only_the_very_mount_point_counts() {
        let text = "9 1 0:5 / /cluster/proc/nodes rw - fuse krg rw\n";
        assert!(!mounted(text, VIEW));
        let text = format!("{text}10 1 0:6 / /cluster/proc rw - fuse krg rw\n");
        assert!(mounted(&text, VIEW));
    }

    #[test]
    fn a_dead_view_fails_and_is_to_be_unmounted() {
        let dead = Outcome::Failed(
            "stat: cannot read file system information for '/cluster/proc': Transport endpoint \
             is not connected"
                .into(),
        );
        let check = view(Some(&dead), false);
        assert_eq!((check.level, &*check.mend), (Level::Fail, "umount -l /cluster/proc"));
        assert!(check.what.ends_with("dead: Transport endpoint is not connected"));
        assert_eq!(view(Some(&Outcome::Late), true).level, Level::Fail);
        assert_eq!(view(Some(&Outcome::Done("fuseblk".into())), true).level, Level::Ok);
        assert_eq!(view(None, true).level, Level::Warn);
        assert_eq!(view(None, false).level, Level::Info);
    }
}
