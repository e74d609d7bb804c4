//! The columns of ps: names, headings and widths as procps 4 has them, and two of the cluster's.

/// What a column shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum What {
    Nothing,
    Node,
    Age,
    Pid,
    Ppid,
    Pgrp,
    Session,
    Tpgid,
    Euid,
    Ruid,
    Egid,
    Rgid,
    Euser,
    Ruser,
    Egroup,
    Rgroup,
    Comm,
    Args,
    ShortComm,
    Stat,
    State,
    Flags,
    CpuPercent,
    CpuWhole,
    CpuMille,
    MemPercent,
    RssKib,
    VszKib,
    VszPages,
    Tty,
    Time,
    TimeSeconds,
    MinuteTime,
    Elapsed,
    ElapsedSeconds,
    StartClock,
    StartShort,
    StartBsd,
    StartLong,
    Nice,
    /// The kernel's priority times the first plus the second.
    Priority(i32, i32),
    RtPriority,
    Class,
    Policy,
    Processor,
    Running,
    Threads,
    MajorFaults,
    MinorFaults,
    Wchan,
}

/// How what is shorter than its column is placed in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Just {
    /// At its left.
    Left,
    /// At its right.
    Right,
    /// A name at the left, a number at the right.
    User,
    /// At the left, as wide as there is room in the last column.
    Unlimited,
}

/// A column that has been asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// What it shows.
    pub what: What,
    /// Its heading; may be empty.
    pub head: String,
    /// Its least width, cells.
    pub width: usize,
    /// It is as wide as the highest pid, at least.
    pub pids: bool,
    /// How it is placed.
    pub just: Just,
}

/// How wide a column is.
#[derive(Clone, Copy)]
enum Width {
    /// So many cells.
    Cells(usize),
    /// As wide as the highest pid.
    Pid,
}

use Just::{Left, Right, Unlimited, User};
use What as W;
use Width::{Cells, Pid};

type Spec = (&'static str, &'static str, What, Width, Just);

/// Name, heading, content, width.
const SPECS: [Spec; 94] = [
    ("%cpu", "%CPU", W::CpuPercent, Cells(4), Right),
    ("%mem", "%MEM", W::MemPercent, Cells(4), Right),
    ("addr", "ADDR", W::Nothing, Cells(4), Right),
    ("age", "AGE", W::Age, Cells(5), Right),
    ("args", "COMMAND", W::Args, Cells(27), Unlimited),
    ("atime", "TIME", W::Time, Cells(8), Right),
    ("bsdstart", "START", W::StartBsd, Cells(6), Right),
    ("bsdtime", "TIME", W::MinuteTime, Cells(6), Right),
    ("c", "C", W::CpuWhole, Cells(2), Right),
    ("class", "CLS", W::Class, Cells(3), Left),
    ("cls", "CLS", W::Class, Cells(3), Right),
    ("cmd", "CMD", W::Args, Cells(27), Unlimited),
    ("comm", "COMMAND", W::Comm, Cells(15), Unlimited),
    ("command", "COMMAND", W::Args, Cells(27), Unlimited),
    ("cp", "CP", W::CpuMille, Cells(3), Right),
    ("cpuid", "CPUID", W::Processor, Cells(5), Right),
    ("cputime", "TIME", W::Time, Cells(8), Right),
    ("cputimes", "TIME", W::TimeSeconds, Cells(8), Right),
    ("egid", "EGID", W::Egid, Cells(5), Right),
    ("egroup", "EGROUP", W::Egroup, Cells(8), User),
    ("etime", "ELAPSED", W::Elapsed, Cells(11), Right),
    ("etimes", "ELAPSED", W::ElapsedSeconds, Cells(7), Right),
    ("euid", "EUID", W::Euid, Cells(5), Right),
    ("euser", "EUSER", W::Euser, Cells(8), User),
    ("f", "F", W::Flags, Cells(1), Right),
    ("flag", "F", W::Flags, Cells(1), Right),
    ("flags", "F", W::Flags, Cells(1), Right),
    ("fname", "COMMAND", W::ShortComm, Cells(8), Left),
    ("gid", "GID", W::Egid, Cells(5), Right),
    ("group", "GROUP", W::Egroup, Cells(8), User),
    ("intpri", "PRI", W::Priority(1, 60), Cells(3), Right),
    ("lstart", "STARTED", W::StartLong, Cells(24), Right),
    ("lwp", "LWP", W::Pid, Pid, Right),
    ("maj_flt", "MAJFL", W::MajorFaults, Cells(6), Right),
    ("majflt", "MAJFLT", W::MajorFaults, Cells(6), Right),
    ("min_flt", "MINFL", W::MinorFaults, Cells(6), Right),
    ("minflt", "MINFLT", W::MinorFaults, Cells(6), Right),
    ("ni", "NI", W::Nice, Cells(3), Right),
    ("nice", "NI", W::Nice, Cells(3), Right),
    ("nlwp", "NLWP", W::Threads, Cells(4), Right),
    ("node", "NODE", W::Node, Cells(4), Right),
    ("opri", "PRI", W::Priority(1, 60), Cells(3), Right),
    ("pcpu", "%CPU", W::CpuPercent, Cells(4), Right),
    ("pgid", "PGID", W::Pgrp, Pid, Right),
    ("pgrp", "PGRP", W::Pgrp, Pid, Right),
    ("pid", "PID", W::Pid, Pid, Right),
    ("pmem", "%MEM", W::MemPercent, Cells(4), Right),
    ("policy", "POL", W::Class, Cells(3), Left),
    ("ppid", "PPID", W::Ppid, Pid, Right),
    ("pri", "PRI", W::Priority(-1, 39), Cells(3), Right),
    ("pri_api", "API", W::Priority(-1, -1), Cells(3), Right),
    ("pri_bar", "BAR", W::Priority(1, 1), Cells(3), Right),
    ("pri_baz", "BAZ", W::Priority(1, 100), Cells(3), Right),
    ("pri_foo", "FOO", W::Priority(1, -20), Cells(3), Right),
    ("priority", "PRI", W::Priority(1, 0), Cells(3), Right),
    ("psr", "PSR", W::Processor, Cells(3), Right),
    ("rgid", "RGID", W::Rgid, Cells(5), Right),
    ("rgroup", "RGROUP", W::Rgroup, Cells(8), User),
    ("rss", "RSS", W::RssKib, Cells(5), Right),
    ("rssize", "RSS", W::RssKib, Cells(5), Right),
    ("rsz", "RSZ", W::RssKib, Cells(5), Right),
    ("rtprio", "RTPRIO", W::RtPriority, Cells(6), Right),
    ("ruid", "RUID", W::Ruid, Cells(5), Right),
    ("ruser", "RUSER", W::Ruser, Cells(8), User),
    ("s", "S", W::State, Cells(1), Left),
    ("sched", "SCH", W::Policy, Cells(3), Right),
    ("sess", "SESS", W::Session, Pid, Right),
    ("session", "SESS", W::Session, Pid, Right),
    ("sgi_p", "P", W::Running, Cells(1), Right),
    ("sid", "SID", W::Session, Pid, Right),
    ("spid", "SPID", W::Pid, Pid, Right),
    ("start", "STARTED", W::StartClock, Cells(8), Right),
    ("start_time", "START", W::StartShort, Cells(5), Right),
    ("stat", "STAT", W::Stat, Cells(4), Left),
    ("state", "S", W::State, Cells(1), Left),
    ("stime", "STIME", W::StartShort, Cells(5), Right),
    ("sz", "SZ", W::VszPages, Cells(5), Right),
    ("tgid", "TGID", W::Pid, Pid, Right),
    ("thcount", "THCNT", W::Threads, Cells(5), Right),
    ("tid", "TID", W::Pid, Pid, Right),
    ("time", "TIME", W::Time, Cells(8), Right),
    ("times", "TIME", W::TimeSeconds, Cells(8), Right),
    ("tname", "TTY", W::Tty, Cells(8), Left),
    ("tpgid", "TPGID", W::Tpgid, Pid, Right),
    ("tt", "TT", W::Tty, Cells(8), Left),
    ("tty", "TT", W::Tty, Cells(8), Left),
    ("ucmd", "CMD", W::Comm, Cells(15), Unlimited),
    ("ucomm", "COMMAND", W::Comm, Cells(15), Unlimited),
    ("uid", "UID", W::Euid, Cells(5), Right),
    ("uid_hack", "UID", W::Euser, Cells(8), User),
    ("uname", "USER", W::Euser, Cells(8), User),
    ("user", "USER", W::Euser, Cells(8), User),
    ("vsz", "VSZ", W::VszKib, Cells(6), Right),
    ("wchan", "WCHAN", W::Wchan, Cells(6), Left),
];

/// The one beside the addresses of -l, which has no room of its own; and `vsize`.
const OTHERS: [Spec; 3] = [
    ("addr_1", "ADDR", W::Nothing, Cells(1), Left),
    ("vsize", "VSZ", W::VszKib, Cells(6), Right),
    ("wname", "WCHAN", W::Wchan, Cells(6), Left),
];

fn spec(name: &str) -> Option<&'static Spec> {
    SPECS.iter().chain(&OTHERS).find(|spec| spec.0 == name)
}

/// What a column of that name shows.
pub fn what(name: &str) -> Option<What> {
    spec(name).map(|spec| spec.2)
}

/// Is it a column that ps(1) does not have?
pub fn is_of_cluster(what: What) -> bool {
    matches!(what, What::Node | What::Age)
}

/// A column that has been named, with its own heading or another.
pub fn named(name: &str, head: Option<&str>) -> Option<Column> {
    let (_, own_head, what, width, just) = spec(name)?;
    let (cells, pids) = match width {
        Cells(cells) => (*cells, false),
        Pid => (own_head.len(), true),
    };
    let width = cells.max(head.map_or(0, str::len));
    Some(Column { what: *what, head: head.unwrap_or(own_head).into(), width, pids, just: *just })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_unique() {
        assert!(SPECS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(OTHERS.iter().all(|other| SPECS.iter().all(|spec| spec.0 != other.0)));
        assert_eq!(what("pcpu"), what("%cpu"));
        assert_eq!(what("nothing"), None);
    }
}
