//! The files of the cluster's /proc that nodes send each other, by number.

/// A whole-system file of a node. The number is its place on the wire: append, never reorder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SystemFile {
    Stat = 0,
    Meminfo,
    Cpuinfo,
    Loadavg,
    Uptime,
    Vmstat,
    Diskstats,
    Interrupts,
    Softirqs,
    NetDev,
    Swaps,
    PressureCpu,
    PressureIo,
    PressureMemory,
    PressureIrq,
    Version,
}

impl SystemFile {
    /// Every file, in the order of its number.
    pub const ALL: [SystemFile; 16] = {
        use SystemFile::*;
        [
            Stat,
            Meminfo,
            Cpuinfo,
            Loadavg,
            Uptime,
            Vmstat,
            Diskstats,
            Interrupts,
            Softirqs,
            NetDev,
            Swaps,
            PressureCpu,
            PressureIo,
            PressureMemory,
            PressureIrq,
            Version,
        ]
    };

    /// The file with this number on the wire.
    pub fn from_id(id: u32) -> Option<SystemFile> {
        SystemFile::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Its number on the wire.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Its bit in a set of files.
    pub fn bit(self) -> u64 {
        1 << self.id()
    }

    /// Its path below /proc.
    pub fn path(self) -> &'static str {
        match self {
            SystemFile::Stat => "stat",
            SystemFile::Meminfo => "meminfo",
            SystemFile::Cpuinfo => "cpuinfo",
            SystemFile::Loadavg => "loadavg",
            SystemFile::Uptime => "uptime",
            SystemFile::Vmstat => "vmstat",
            SystemFile::Diskstats => "diskstats",
            SystemFile::Interrupts => "interrupts",
            SystemFile::Softirqs => "softirqs",
            SystemFile::NetDev => "net/dev",
            SystemFile::Swaps => "swaps",
            SystemFile::PressureCpu => "pressure/cpu",
            SystemFile::PressureIo => "pressure/io",
            SystemFile::PressureMemory => "pressure/memory",
            SystemFile::PressureIrq => "pressure/irq",
            SystemFile::Version => "version",
        }
    }
}

/// What a process's directory holds besides plain files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PidFileKind {
    /// A text.
    Text,
    /// A symbolic link.
    Link,
    /// A directory of links (fd/, ns/).
    LinkDir,
    /// A directory of texts (fdinfo/).
    TextDir,
    /// The directory of threads.
    TaskDir,
}

macro_rules! pid_files {
    ($(
        $variant:ident = $id:literal, $name:literal, $kind:ident, $mode:literal, $thread:literal;
    )*) => {
        /// A name in a process's directory. The number is its place on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum PidFile { $($variant = $id),* }

        impl PidFile {
            /// Every name, in the order of its number.
            pub const ALL: &'static [PidFile] = &[$(PidFile::$variant),*];

            /// The name with this number on the wire.
            pub fn from_id(id: u32) -> Option<PidFile> {
                match id { $($id => Some(PidFile::$variant),)* _ => None }
            }

            /// The entry with this name.
            pub fn from_name(name: &str) -> Option<PidFile> {
                match name { $($name => Some(PidFile::$variant),)* _ => None }
            }

            /// Its name in the directory.
            pub fn name(self) -> &'static str {
                match self { $(PidFile::$variant => $name),* }
            }

            /// What it is.
            pub fn kind(self) -> PidFileKind {
                match self { $(PidFile::$variant => PidFileKind::$kind),* }
            }

            /// Its permission bits, as the kernel's fs/proc/base.c has them, less the write bits:
            /// the view is read only.
            pub fn mode(self) -> u16 {
                match self { $(PidFile::$variant => $mode),* }
            }

            /// Do threads (task/TID/) have it too?
            pub fn in_task(self) -> bool {
                match self { $(PidFile::$variant => $thread),* }
            }
        }
    };
}

pid_files! {
    Stat = 0, "stat", Text, 0o444, true;
    Status = 1, "status", Text, 0o444, true;
    Statm = 2, "statm", Text, 0o444, true;
    Cmdline = 3, "cmdline", Text, 0o444, true;
    Environ = 4, "environ", Text, 0o400, true;
    Cgroup = 5, "cgroup", Text, 0o444, true;
    Comm = 6, "comm", Text, 0o444, true;
    Io = 7, "io", Text, 0o400, true;
    Limits = 8, "limits", Text, 0o444, true;
    Maps = 9, "maps", Text, 0o444, true;
    Smaps = 10, "smaps", Text, 0o444, true;
    SmapsRollup = 11, "smaps_rollup", Text, 0o444, false;
    Wchan = 12, "wchan", Text, 0o444, true;
    Schedstat = 13, "schedstat", Text, 0o444, true;
    OomScore = 14, "oom_score", Text, 0o444, true;
    OomScoreAdj = 15, "oom_score_adj", Text, 0o444, true;
    OomAdj = 16, "oom_adj", Text, 0o444, true;
    Mounts = 17, "mounts", Text, 0o444, true;
    Mountinfo = 18, "mountinfo", Text, 0o444, true;
    Mountstats = 19, "mountstats", Text, 0o400, false;
    Auxv = 20, "auxv", Text, 0o400, true;
    Personality = 21, "personality", Text, 0o400, true;
    Syscall = 22, "syscall", Text, 0o400, true;
    Stack = 23, "stack", Text, 0o400, true;
    Loginuid = 24, "loginuid", Text, 0o444, true;
    Sessionid = 25, "sessionid", Text, 0o444, true;
    NumaMaps = 26, "numa_maps", Text, 0o444, true;
    Sched = 27, "sched", Text, 0o444, true;
    Cpuset = 28, "cpuset", Text, 0o444, true;
    Autogroup = 29, "autogroup", Text, 0o444, false;
    UidMap = 30, "uid_map", Text, 0o444, true;
    GidMap = 31, "gid_map", Text, 0o444, true;
    Timerslack = 32, "timerslack_ns", Text, 0o444, false;
    Cwd = 40, "cwd", Link, 0o777, true;
    Exe = 41, "exe", Link, 0o777, true;
    Root = 42, "root", Link, 0o777, true;
    Fd = 43, "fd", LinkDir, 0o500, true;
    Ns = 44, "ns", LinkDir, 0o511, true;
    Fdinfo = 45, "fdinfo", TextDir, 0o555, true;
    Task = 46, "task", TaskDir, 0o555, false;
    Goto = 56, "goto", Text, 0o200, false;
    Where = 57, "where", Text, 0o444, false;
    Nmigs = 58, "nmigs", Text, 0o444, false;
    Cantmove = 59, "cantmove", Text, 0o444, false;
}

impl PidFile {
    /// The texts that travel in every sample, in the order of their number.
    pub const SAMPLED: [PidFile; 6] = [
        PidFile::Stat,
        PidFile::Status,
        PidFile::Statm,
        PidFile::Cmdline,
        PidFile::Environ,
        PidFile::Cgroup,
    ];

    /// The texts that a view may answer from memory: those, and one that is made of the first.
    pub const HELD: [PidFile; 7] = {
        let [stat, status, statm, cmdline, environ, cgroup] = PidFile::SAMPLED;
        [stat, status, statm, cmdline, environ, cgroup, PidFile::Comm]
    };

    /// Its place in `HELD`.
    pub fn held_place(self) -> Option<u8> {
        let place = PidFile::HELD.iter().position(|file| *file == self)?;
        u8::try_from(place).ok()
    }

    /// Is it one that no kernel has, as MOSIX had it: where a process is, and where it is to go?
    pub fn is_of_moves(self) -> bool {
        matches!(self, PidFile::Goto | PidFile::Where | PidFile::Nmigs | PidFile::Cantmove)
    }

    /// Its number on the wire.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Its bit in a set of files (numbers stay below 64).
    pub fn bit(self) -> u64 {
        1 << self.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (i, f) in SystemFile::ALL.iter().enumerate() {
            assert_eq!((f.id() as usize, SystemFile::from_id(f.id())), (i, Some(*f)));
        }
        for f in PidFile::ALL {
            assert_eq!(PidFile::from_id(f.id()), Some(*f));
            assert_eq!(PidFile::from_name(f.name()), Some(*f));
            assert!(f.id() < 64);
        }
        assert_eq!(PidFile::from_id(63), None);
        assert_eq!(SystemFile::from_id(u32::MAX), None);
    }
}
