//! The tools that are run on the cluster's /proc, by the package that brings them.

use super::check::Check;
use super::probe;

/// Without these something of krg itself does not work.
const NEEDED: [(&str, &[&str]); 2] = [
    ("procps", &["ps", "top", "free", "pgrep", "kill", "uptime", "vmstat"]),
    ("util-linux", &["mount", "umount", "unshare", "nsenter"]),
];

/// These merely become cluster-wide when they are there.
const WELCOME: [(&str, &[&str]); 4] = [
    ("psmisc", &["pstree", "killall", "fuser"]),
    ("htop", &["htop"]),
    ("lsof", &["lsof"]),
    ("sysstat", &["pidstat", "mpstat", "iostat"]),
];

/// The checks of this file, on this machine.
pub fn checks() -> Vec<Check> {
    judge(probe::program)
}

/// One line a package.
pub fn judge(has: impl Fn(&str) -> bool) -> Vec<Check> {
    let missing = |programs: &[&str]| {
        let absent: Vec<&str> = programs.iter().copied().filter(|name| !has(name)).collect();
        absent.join(" ")
    };
    let mut checks = Vec::new();
    for (package, programs) in NEEDED {
        let absent = missing(programs);
        checks.push(if absent.is_empty() {
            Check::ok(package, programs.join(" "))
        } else {
            Check::warn(package, format!("missing: {absent}"), &install(package))
        });
    }
    for (package, programs) in WELCOME {
        let absent = missing(programs);
        checks.push(if absent.is_empty() {
            Check::ok(package, programs.join(" "))
        } else {
            Check::info(package, format!("missing, and not needed: {absent}"), &install(package))
        });
    }
    checks
}

fn install(package: &str) -> String {
    format!("apt-get install {package}")
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn everything_there() {
        assert!(judge(|_| true).iter().all(|c| c.level == Level::Ok && c.mend.is_empty()));
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let checks = judge(|name| name != "top" && name != "free" && name != "htop");
        let procps = checks.iter().find(|c| c.check == "procps").expect("a line for procps");
        assert_eq!(procps.level, Level::Warn);
        assert_eq!(procps.what, "missing: top free");
        assert_eq!(procps.mend, "apt-get install procps");
        let htop = checks.iter().find(|c| c.check == "htop").expect("a line for htop");
        assert_eq!(htop.level, Level::Info);
    }
}
