//! What joins the nodes of a lab: `ip`, bridges and pairs of virtual interfaces. They are tried
//! in a network namespace of their own that ends with the command, so nothing stays behind.

use std::time::Duration;

use super::check::Check;
use super::probe::{self, Outcome};
use super::rights::User;

/// The checks of this file, on this machine.
pub fn checks(user: User) -> Vec<Check> {
    let bridge = attempt(user, &["type", "bridge"]);
    let veth = attempt(user, &["type", "veth", "peer", "name", "krg-doctor1"]);
    vec![ip(probe::program("ip")), link("bridge", &bridge), link("veth", &veth)]
}

/// Adds a link in a fresh network namespace; a user gets it through a user namespace.
fn attempt(user: User, kind: &[&str]) -> Outcome {
    if !probe::program("ip") {
        return Outcome::Absent;
    }
    let mut argv = vec!["unshare", "--net"];
    if !user.admin {
        argv.push("--map-root-user");
    }
    argv.extend(["ip", "link", "add", "name", "krg-doctor0"]);
    argv.extend(kind);
    probe::command(&argv, Duration::from_secs(2))
}

/// The command `ip`.
pub fn ip(present: bool) -> Check {
    if present {
        Check::ok("ip", "found")
    } else {
        Check::warn("ip", "no ip command: krg lab cannot start", "apt-get install iproute2")
    }
}

/// One kind of link.
pub fn link(kind: &str, outcome: &Outcome) -> Check {
    let warn = |why: &str| {
        let what = format!("krg lab cannot start: {why}");
        Check::warn(kind, what, &format!("modprobe {kind}"))
    };
    match outcome {
        Outcome::Done(_) => Check::ok(kind, "made in a namespace and gone again"),
        Outcome::Absent => Check::info(kind, "not tried: ip or unshare is missing", ""),
        Outcome::Late => warn("the kernel did not answer within 2 s"),
        Outcome::Failed(why) if why.contains("unshare") => {
            Check::info(kind, "not tried: no network namespace without root", "sudo krg doctor")
        }
        Outcome::Failed(why) => warn(why.lines().next().unwrap_or("no reason given")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn a_kernel_without_bridges_is_told_from_a_machine_without_tools() {
        assert_eq!(link("bridge", &Outcome::Done(String::new())).level, Level::Ok);
        let unknown = Outcome::Failed("Error: Unknown device type.\nmore".into());
        let check = link("bridge", &unknown);
        assert_eq!((check.level, &*check.mend), (Level::Warn, "modprobe bridge"));
        assert!(check.what.ends_with("Unknown device type."));
        assert_eq!(link("veth", &Outcome::Absent).level, Level::Info);
        assert_eq!(link("veth", &Outcome::Late).level, Level::Warn);
        let denied = Outcome::Failed("unshare: unshare failed: Operation not permitted".into());
        assert_eq!(link("veth", &denied).level, Level::Info);
    }

    #[test]
    fn ip_comes_from_iproute2() {
        assert_eq!(ip(true).level, Level::Ok);
        assert_eq!(ip(false).mend, "apt-get install iproute2");
    }

    #[test]
    fn nothing_stays_behind() {
        attempt(User { root: true, admin: true }, &["type", "bridge"]);
        let devices = probe::text("/proc/net/dev").unwrap_or_default();
        assert!(!devices.contains("krg-doctor"), "{devices}");
    }
}
