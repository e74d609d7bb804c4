//! The processes that the tools are shown, and the facts of the nodes they are compared with.

use super::table::field;
use krg_tests::{Lab, Said, within};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The nodes of every lab here.
pub const NODES: Range<u32> = 1..4;
/// Long enough for anything on a busy machine that should be there at once.
pub const SOON: Duration = Duration::from_secs(20);
/// A cluster pid is its node's number above so many bits, and the pid there below.
const PID_BITS: u32 = 22;

/// Processes on node 3, one on every node, and when they were started.
#[derive(Debug)]
pub struct Cast {
    /// Burns a cpu of node 3; root's, and its name is its own.
    pub burner: Process,
    /// Four threads that wait, on node 3; the user daemon's.
    pub threads: Process,
    /// The user nobody's, on node 3.
    pub nobody: Process,
    /// A shell on node 3 with two children.
    pub parent: Process,
    /// Its children.
    pub children: Vec<Process>,
    /// One sleeper on each node: their clocks differ.
    pub sleepers: Vec<Process>,
    /// The time of day when the first and the last was started, in seconds.
    pub started: (f64, f64),
}

/// A process of a node.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its node.
    pub node: u32,
    /// Its pid there.
    pub local: u32,
    /// Its command line as ps prints it.
    pub args: String,
}

impl Process {
    /// Its cluster pid.
    pub fn gpid(&self) -> u32 {
        gpid(self.node, self.local)
    }
}

/// A cluster pid.
pub fn gpid(node: u32, local: u32) -> u32 {
    node << PID_BITS | local
}

const BURNER: &str = "cp /bin/dash /usr/local/bin/krgburn; \
    exec krgburn -c \"while :; do :; done\" burnt";
const THREADS: &str = "exec setpriv --reuid=1 --regid=1 --clear-groups /usr/bin/python3 -c \
    \"import threading as t; e = t.Event(); \
    [t.Thread(target=e.wait).start() for _ in range(3)]; e.wait()\" krg-threads";
const NOBODY: &str = "exec env KRG_MARK=mine \
    setpriv --reuid=65534 --regid=65534 --clear-groups sleep 77003";
const PARENT: &str = "sleep 77001 & sleep 77002 & wait";

impl Cast {
    /// Starts them; all run what they shall run when this returns.
    #[track_caller]
    pub fn start(lab: &Lab) -> Cast {
        let before = now();
        let start = |line: &str| lab.background(3, line);
        let burner = running(lab, 3, start(BURNER), "krgburn");
        let threads = running(lab, 3, start(THREADS), "/usr/bin/python3");
        let nobody = running(lab, 3, start(NOBODY), "sleep 77003");
        let parent = running(lab, 3, start(PARENT), "sh -c sleep");
        let children = children(lab, &parent);
        let sleeper = |node| {
            let args = format!("sleep 6600{node}");
            running(lab, node, lab.background(node, &format!("exec {args}")), &args)
        };
        let sleepers = NODES.map(sleeper).collect();
        Cast { burner, threads, nobody, parent, children, sleepers, started: (before, now()) }
    }

    /// Is this the time of day at which they were started, as well as a whole second tells it?
    #[track_caller]
    pub fn assert_started(&self, seconds: f64, who: &str) {
        let (first, last) = self.started;
        let right = (first - 2.0..last + 2.0).contains(&seconds);
        assert!(right, "{who} started at {seconds}, not from {first} to {last}");
    }
}

/// A lab whose node 1 shows all nodes: its view learns of them a moment after its krgd does.
#[track_caller]
pub fn lab() -> Lab {
    let lab = Lab::start(NODES.end - 1);
    within(SOON, || match cluster(&lab, "nodes/nrnodes") {
        all if all.starts_with("ONLINE:3\n") => Ok(()),
        some => Err(some),
    });
    lab
}

/// The time of day.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Waits until the process has become what it shall be: before its exec it is a shell's.
#[track_caller]
fn running(lab: &Lab, node: u32, local: u32, begins: &str) -> Process {
    let args = within(SOON, || {
        let line = format!("tr \"\\0\" \" \" </proc/{local}/cmdline");
        let args = lab.sh(node, &line).out.trim_end().to_owned();
        if args.starts_with(begins) { Ok(args) } else { Err(format!("{local}: {args}")) }
    });
    Process { node, local, args }
}

#[track_caller]
fn children(lab: &Lab, parent: &Process) -> Vec<Process> {
    let lines = within(SOON, || {
        let said =
            lab.sh(parent.node, &format!("pgrep -f -P {} \"^sleep 7700\" -a", parent.local));
        if said.out.lines().count() == 2 { Ok(said.out) } else { Err(said.out) }
    });
    let child = |line: &str| {
        let (local, args) = line.split_once(' ').expect("a pid and a command");
        let local = local.parse().expect("a pid");
        Process { node: parent.node, local, args: args.to_owned() }
    };
    lines.lines().map(child).collect()
}

/// The pids of a node by its own /proc, without those of the looking.
#[track_caller]
fn natives(lab: &Lab, node: u32) -> BTreeSet<u32> {
    let (own, text) = owned(&lab.sh(node, "echo $$; exec ls /proc").ok());
    let pids = text.lines().filter_map(|name| name.parse().ok());
    pids.filter(|pid| *pid != own).map(|pid| gpid(node, pid)).collect()
}

/// The first line is a shell's `$$`, which it had replaced itself with a tool for.
#[track_caller]
pub fn owned(text: &str) -> (u32, String) {
    let (own, rest) = text.split_once('\n').expect("a line with $$");
    (own.parse().expect("a pid"), rest.to_owned())
}

/// Every process of the cluster as the nodes' own /proc have it.
#[track_caller]
pub fn everybody(lab: &Lab) -> BTreeSet<u32> {
    NODES.flat_map(|node| natives(lab, node)).collect()
}

/// Runs a tool on the cluster's /proc of node 1 at a time when nothing starts or ends: what it
/// listed is everybody, process 1, itself and `krg exec` around it. `extract` finds the pids.
#[track_caller]
pub fn assert_everybody(lab: &Lab, tool: &str, extract: impl Fn(&str) -> BTreeSet<u32>) {
    within(SOON, || {
        let before = everybody(lab);
        let (own, text) = owned(&lab.view(1, &format!("echo $$; exec {tool}")).ok());
        if everybody(lab) != before {
            return Err("processes come and go".to_owned());
        }
        let seen = extract(&text);
        let missing: Vec<_> = before.difference(&seen).collect();
        let extra: Vec<_> = seen.difference(&before).copied().collect();
        // krg exec is the parent of what it runs, and the kernel gave it a pid before.
        let own = gpid(1, own);
        let is_extra = |pid: &u32| *pid == 1 || *pid == own || (own - 3..own).contains(pid);
        let right = missing.is_empty()
            && extra.len() <= 3
            && extra.contains(&1)
            && extra.contains(&own)
            && extra.iter().all(is_extra);
        let said =
            || format!("{tool}: missing {missing:?}, too many {extra:?}, own {own}\n{text}");
        if right { Ok(()) } else { Err(said()) }
    });
}

/// A command line on the cluster's /proc of node 1, without a shell between.
#[track_caller]
pub fn on_view(lab: &Lab, line: &str) -> Said {
    let words: Vec<&str> = ["krg", "exec", "--"].into_iter().chain(line.split(' ')).collect();
    lab.exec(1, &words)
}

/// A file of every node's own /proc.
#[track_caller]
pub fn native(lab: &Lab, file: &str) -> Vec<String> {
    NODES.map(|node| lab.exec(node, &["cat", &format!("/proc/{file}")]).ok()).collect()
}

/// A file of the cluster's /proc.
#[track_caller]
pub fn cluster(lab: &Lab, file: &str) -> String {
    lab.exec(1, &["cat", &format!("/cluster/proc/{file}")]).ok()
}

/// What meminfo's field is in sum, in kB, by the nodes' own /proc.
#[track_caller]
pub fn memory(lab: &Lab, name: &str) -> u64 {
    native(lab, "meminfo").iter().map(|text| field(text, name)).sum()
}

/// How many cpus each node has.
#[track_caller]
pub fn cpus(lab: &Lab) -> Vec<u32> {
    let count = |text: &String| text.lines().filter(|l| l.starts_with("processor")).count();
    native(lab, "cpuinfo").iter().map(|text| count(text) as u32).collect()
}

/// The numbers of node 3's cpus in the cluster.
#[track_caller]
pub fn cpus_of_node_3(lab: &Lab) -> Range<u32> {
    let cpus = cpus(lab);
    cpus[0] + cpus[1]..cpus.iter().sum()
}
