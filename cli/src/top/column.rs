//! The columns of the processes' table: headings, widths, what stands in them, how they sort.

use super::table::Process;
use super::text;
use krg_types::limits::LOCAL_PID_BITS;
use std::cmp::Ordering;
use std::collections::HashMap;

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Column {
    /// Cluster pid.
    Pid,
    /// The node's number.
    Node,
    /// Effective user.
    User,
    /// Priority, as the kernel has it.
    Priority,
    /// Nice value.
    Nice,
    /// Address space.
    Virtual,
    /// Memory.
    Resident,
    /// Memory that others may have, too.
    Shared,
    /// State letter.
    State,
    /// Percent of one processor.
    Cpu,
    /// Percent of its node's memory.
    Memory,
    /// Processor time.
    Time,
    /// Threads.
    Threads,
    /// The cluster's processor it ran on last.
    Processor,
    /// Its parent.
    Parent,
    /// Its command line.
    Command,
}

use Column::*;

/// All of them, in their order.
pub const ALL: [Column; 16] = [
    Pid, Parent, Node, User, Priority, Nice, Threads, Virtual, Resident, Shared, State, Cpu,
    Memory, Time, Processor, Command,
];

/// Those of the table, and the width from which each is there.
const SHOWN: [(Column, u16); 15] = [
    (Pid, 0),
    (Node, 24),
    (User, 56),
    (Priority, 110),
    (Nice, 72),
    (Threads, 140),
    (Virtual, 110),
    (Resident, 64),
    (Shared, 110),
    (State, 30),
    (Cpu, 36),
    (Memory, 48),
    (Time, 78),
    (Processor, 140),
    (Command, 0),
];

/// The columns that a table of this width has.
pub fn shown(width: u16) -> Vec<Column> {
    SHOWN.iter().filter(|(_, from)| width >= *from).map(|(column, _)| *column).collect()
}

impl Column {
    /// What stands above it.
    pub fn heading(self) -> &'static str {
        match self {
            Pid => "PID",
            Node => "NODE",
            User => "USER",
            Priority => "PRI",
            Nice => "NI",
            Virtual => "VIRT",
            Resident => "RES",
            Shared => "SHR",
            State => "S",
            Cpu => "CPU%",
            Memory => "MEM%",
            Time => "TIME+",
            Threads => "THR",
            Processor => "CPU",
            Parent => "PPID",
            Command => "Command",
        }
    }

    /// What the menu says of it.
    pub fn about(self) -> &'static str {
        match self {
            Pid => "number",
            Node => "node",
            User => "user",
            Priority => "priority",
            Nice => "nice value",
            Virtual => "address space",
            Resident => "memory",
            Shared => "shared memory",
            State => "state",
            Cpu => "processor share",
            Memory => "share of memory",
            Time => "processor time",
            Threads => "threads",
            Processor => "processor",
            Parent => "parent",
            Command => "command line",
        }
    }

    /// By its heading, in any case and with or without its sign; ps(1)'s names count, too.
    pub fn by_name(name: &str) -> Option<Column> {
        let name = name.to_ascii_lowercase();
        let plain = name.trim_end_matches(['%', '+']).trim_start_matches('%');
        Some(match plain {
            "pid" => Pid,
            "node" => Node,
            "user" | "uid" => User,
            "pri" => Priority,
            "ni" | "nice" => Nice,
            "virt" | "vsz" => Virtual,
            "res" | "rss" => Resident,
            "shr" => Shared,
            "s" | "state" => State,
            "pcpu" => Cpu,
            "cpu" if name == "cpu" || name.contains('%') => Cpu,
            "mem" | "pmem" => Memory,
            "time" => Time,
            "thr" | "nlwp" => Threads,
            "processor" | "psr" => Processor,
            "ppid" => Parent,
            "command" | "cmd" | "comm" | "args" => Command,
            _ => return None,
        })
    }

    /// Columns that it takes; the command has the rest.
    pub fn width(self, pids: usize) -> usize {
        match self {
            Pid | Parent => pids,
            Node | Threads | Processor => 4,
            User => 8,
            Priority | Nice => 3,
            Virtual | Resident | Shared | Cpu | Memory => 5,
            State => 1,
            Time => 8,
            Command => 0,
        }
    }

    /// Does it stand at the right of its width?
    pub fn is_right(self) -> bool {
        !matches!(self, User | State | Command)
    }

    /// What stands in it, but for the command.
    pub fn cell(self, process: &Process, users: &mut Users) -> String {
        let view = &process.view;
        match self {
            Pid => view.pid.to_string(),
            Parent => view.ppid.to_string(),
            Node => view.node.to_string(),
            User => users.name(view.euid).to_owned(),
            Priority => match view.priority {
                ..-99 => "RT".into(),
                other => other.to_string(),
            },
            Nice => view.nice.to_string(),
            Virtual => text::size(view.vsize_bytes),
            Resident => text::size(process.resident),
            Shared => text::size(process.shared),
            State => process.state().to_string(),
            Cpu => text::percent(process.cpu),
            Memory => text::percent(process.mem),
            Time => text::time(process.ticks(), process.ticks_per_s),
            Threads => view.threads.to_string(),
            Processor => view.processor.to_string(),
            Command => String::new(),
        }
    }

    /// Which of two stands above the other, as the column has it; the number decides at last.
    pub fn order(self, a: &Process, b: &Process) -> Ordering {
        let (left, right) = (&a.view, &b.view);
        let order = match self {
            Pid => Ordering::Equal,
            Parent => left.ppid.cmp(&right.ppid),
            Node => left.node.cmp(&right.node),
            User => left.euid.cmp(&right.euid),
            Priority => left.priority.cmp(&right.priority),
            Nice => left.nice.cmp(&right.nice),
            Virtual => right.vsize_bytes.cmp(&left.vsize_bytes),
            Resident => b.resident.cmp(&a.resident),
            Shared => b.shared.cmp(&a.shared),
            State => rank(a).cmp(&rank(b)),
            Cpu => b.cpu.total_cmp(&a.cpu),
            Memory => b.mem.total_cmp(&a.mem),
            Time => seconds(b).total_cmp(&seconds(a)),
            Threads => right.threads.cmp(&left.threads),
            Processor => left.processor.cmp(&right.processor),
            Command => words(a).cmp(words(b)),
        };
        order.then(left.pid.cmp(&right.pid))
    }
}

/// The ticks of two nodes need not be as long.
fn seconds(process: &Process) -> f64 {
    process.ticks() as f64 / f64::from(process.ticks_per_s.max(1))
}

/// Those who run stand first.
fn rank(process: &Process) -> usize {
    "RDtTZSI".find(process.state()).unwrap_or(usize::MAX)
}

fn words(process: &Process) -> &[u8] {
    if process.view.cmdline.is_empty() { &process.view.comm } else { &process.view.cmdline }
}

/// Columns for the pids that there can be on nodes up to this one.
pub fn pid_width(highest_node: u32) -> usize {
    let highest = u64::from(highest_node.saturating_add(1)) << LOCAL_PID_BITS;
    (highest - 1).to_string().len().max(5)
}

/// Names of users, each asked for once: that may be a question to a server.
#[derive(Default, Debug)]
pub struct Users(HashMap<u32, String>);

impl Users {
    /// His name on this machine, or his number.
    pub fn name(&mut self, uid: u32) -> &str {
        self.0.entry(uid).or_insert_with(|| {
            let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
            user.map_or_else(|| uid.to_string(), |user| text::clean(user.name.as_bytes()))
        })
    }

    /// A user by his name or number.
    pub fn number(word: &str) -> Option<u32> {
        let named = nix::unistd::User::from_name(word).ok().flatten();
        named.map(|user| user.uid.as_raw()).or_else(|| word.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::process;
    use super::*;

    #[test]
    fn columns_have_names() {
        for column in ALL {
            let found = Column::by_name(column.heading());
            let wanted = if column == Processor { Cpu } else { column };
            assert_eq!(found, Some(wanted), "{column:?}");
        }
        for (word, column) in
            [("%cpu", Cpu), ("rss", Resident), ("psr", Processor), ("time", Time)]
        {
            assert_eq!(Column::by_name(word), Some(column), "{word}");
        }
        assert_eq!((Column::by_name("x"), Column::by_name("")), (None, None));
    }

    #[test]
    fn the_command_keeps_a_place_in_every_width() {
        for width in 0..240u16 {
            let columns = shown(width);
            assert!(columns.contains(&Pid) && columns.contains(&Command));
            let taken: usize = columns.iter().map(|c| c.width(8) + 1).sum();
            assert!(width < 20 || taken + 9 <= usize::from(width), "{width}: {taken}");
        }
        assert!(shown(80).contains(&Time) && shown(200).len() == SHOWN.len());
    }

    #[test]
    fn the_most_stands_first_and_the_number_decides() {
        let row =
            |pid, cpu, mem| Process { cpu, mem, view: process(1, pid, 0), ..Process::default() };
        let (a, b) = (row(1, 5.0, 1.0), row(2, 50.0, 1.0));
        assert_eq!(Cpu.order(&a, &b), Ordering::Greater);
        assert_eq!(Memory.order(&a, &b), Ordering::Less);
        assert_eq!(Pid.order(&a, &b), Ordering::Less);
        assert_eq!((pid_width(3), pid_width(255), pid_width(0)), (8, 10, 7));
    }
}
