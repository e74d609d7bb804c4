//! The clocks. The only place that reads wall-clock time.

use std::time::Duration;

/// Nanoseconds of CLOCK_BOOTTIME as this process's time namespace shows it: what /proc/uptime
/// and the start times in /proc/PID/stat count from (time_namespaces(7)).
pub fn boot_ns() -> u64 {
    read_ns(nix::time::ClockId::CLOCK_BOOTTIME)
}

/// Nanoseconds since 1970 by the wall clock.
pub fn wall_ns() -> u64 {
    read_ns(nix::time::ClockId::CLOCK_REALTIME)
}

fn read_ns(clock: nix::time::ClockId) -> u64 {
    // Both clocks exist on every kernel this runs on; 0 keeps callers total.
    let t = nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

/// Clock ticks per second of the times in /proc/PID/stat (sysconf(3), `_SC_CLK_TCK`).
pub fn ticks_per_s() -> u32 {
    sysconf(nix::unistd::SysconfVar::CLK_TCK, 100)
}

/// Bytes of a page.
pub fn page_size() -> u32 {
    sysconf(nix::unistd::SysconfVar::PAGE_SIZE, 4096)
}

fn sysconf(var: nix::unistd::SysconfVar, otherwise: u32) -> u32 {
    let value = nix::unistd::sysconf(var).ok().flatten();
    value.and_then(|v| u32::try_from(v).ok()).unwrap_or(otherwise)
}
