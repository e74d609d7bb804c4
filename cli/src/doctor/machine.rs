//! Memory, pids, pressure and control groups.

use std::path::Path;

use super::check::Check;
use super::probe;

/// Less than this and a node with a busy view may run out: in KiB.
const LITTLE_MEMORY: u64 = 256 * 1024;
/// The kernel's own limit; pids of other nodes are shown above it.
const PID_LIMIT: u64 = 1 << 22;

/// The checks of this file, on this machine.
pub fn checks() -> Vec<Check> {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mounts = probe::text("/proc/self/mountinfo").unwrap_or_default();
    vec![
        pressure(probe::text("/proc/pressure/memory").as_deref()),
        cgroup(unified, mounts.contains(" - cgroup ")),
        memory(&probe::text("/proc/meminfo").unwrap_or_default()),
        pid_max(&probe::text("/proc/sys/kernel/pid_max").unwrap_or_default()),
    ]
}

/// Pressure (PSI) tells a busy node from a node in distress.
pub fn pressure(text: Option<&str>) -> Check {
    match text {
        Some(text) if text.starts_with("some ") => {
            Check::ok("pressure", "/proc/pressure is read")
        }
        _ => Check::info(
            "pressure",
            "no /proc/pressure; instead load averages are used",
            "add psi=1 to the kernel's command line",
        ),
    }
}

/// Both forms of control groups will do.
pub fn cgroup(unified: bool, v1: bool) -> Check {
    match (unified, v1) {
        (true, _) => Check::ok("cgroup", "v2"),
        (false, true) => Check::ok("cgroup", "v1"),
        (false, false) => Check::info(
            "cgroup",
            "none is mounted; instead jobs are not limited as groups",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

/// How much memory there is, and how much of it is free to use.
pub fn memory(meminfo: &str) -> Check {
    let field = |name: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (Some(total), Some(available)) = (field("MemTotal:"), field("MemAvailable:")) else {
        let mend = "mount -t proc proc /proc";
        return Check::warn("memory", "/proc/meminfo cannot be read", mend);
    };
    let what = format!("{} MiB, {} MiB of it available", total / 1024, available / 1024);
    if available < LITTLE_MEMORY {
        return Check::warn("memory", what, "end something, or add memory or swap");
    }
    Check::ok("memory", what)
}

/// The largest pid of this node.
pub fn pid_max(text: &str) -> Check {
    match text.trim().parse::<u64>() {
        Ok(max) if max <= PID_LIMIT => {
            Check::ok("pid_max", format!("{max}: cluster pids begin at {PID_LIMIT}"))
        }
        Ok(max) => Check::fail(
            "pid_max",
            format!("{max}: pids above {PID_LIMIT} would be taken for those of other nodes"),
            "sysctl -w kernel.pid_max=4194304",
        ),
        Err(_) => {
            let mend = "mount -t proc proc /proc";
            Check::warn("pid_max", "/proc/sys/kernel/pid_max cannot be read", mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn pressure_may_be_absent_or_switched_off() {
        assert_eq!(pressure(Some("some avg10=0.00 avg60=0.00\n")).level, Level::Ok);
        assert_eq!(pressure(Some("")).level, Level::Info);
        assert_eq!(pressure(None).level, Level::Info);
    }

    #[test]
    fn control_groups_of_both_kinds_or_none() {
        assert_eq!(cgroup(true, false).what, "v2");
        assert_eq!(cgroup(false, true).what, "v1");
        assert_eq!(cgroup(false, false).level, Level::Info);
    }

    #[test]
    fn memory_is_judged_by_what_is_available() {
        let text = |available| format!("MemTotal: 2097152 kB\nMemAvailable: {available} kB\n");
        let check = memory(&text(1_048_576));
        assert_eq!(
            (check.level, &*check.what),
            (Level::Ok, "2048 MiB, 1024 MiB of it available")
        );
        assert_eq!(memory(&text(1024)).level, Level::Warn);
        assert_eq!(memory("").level, Level::Warn);
    }

    #[test]
    fn pids_stay_below_those_of_other_nodes() {
        assert_eq!(pid_max("32768\n").level, Level::Ok);
        assert_eq!(pid_max("4194304").level, Level::Ok);
        assert_eq!(pid_max("4194305").level, Level::Fail);
        assert_eq!(pid_max("").level, Level::Warn);
    }
}
