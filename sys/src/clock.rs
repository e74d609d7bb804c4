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

/// A second since 1970 as ctime(3) has it, in this machine's time zone: `Tue Mar 31 14:34:00 2009`.
pub fn ctime(s: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let s = libc::time_t::try_from(s).unwrap_or(0);
    // SAFETY: plain numbers and a pointer that nothing reads, for which zero is a value.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both outlive the call; it does not keep them.
    if unsafe { libc::localtime_r(&raw const s, &raw mut time) }.is_null() {
        return "?".into();
    }
    let name = |names: &[&'static str], at: libc::c_int| {
        usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or("?")
    };
    let (day, month) = (name(&DAYS, time.tm_wday), name(&MONTHS, time.tm_mon));
    let (hour, minute, second) = (time.tm_hour, time.tm_min, time.tm_sec);
    let year = i64::from(time.tm_year) + 1900;
    format!("{day} {month} {:2} {hour:02}:{minute:02}:{second:02} {year}", time.tm_mday)
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
