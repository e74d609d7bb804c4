//! Tools that show the whole system: theirs are the sums over the nodes.

use super::cast::{Cast, NODES, SOON, cluster, cpus, cpus_of_node_3, memory, native, on_view};
use super::checks::Checks;
use super::exec::python;
use super::table::{Table, field, words};
use krg_tests::{Lab, within};

/// All of them.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("free", || free(lab));
    checks.check("uptime", || uptime(lab));
    checks.check("texts of one line", || {
        let last = (cpus(lab).iter().sum::<u32>() - 1).to_string();
        let said = python(lab, include_str!("brief.py"), &[&last]).ok();
        assert_eq!(said, "as it should be\n");
    });
    checks.check("w", || w(lab));
    checks.check("load averages", || loads(lab));
    checks.check("vmstat 1 2", || vmstat(lab));
    checks.check("mpstat", || mpstat(lab));
    checks.check("pidstat", || pidstat(lab, cast));
    checks.check("iostat", || iostat(lab));
    checks.check("lscpu", || lscpu(lab));
    checks.check("getconf", || getconf(lab));
    checks.check("findmnt", || findmnt(lab));
    checks.check("stat is the nodes' sum", || stat(lab));
    checks.check("meminfo is the nodes' sum", || meminfo(lab));
    checks.check("nrnodes", || {
        assert_eq!(cluster(lab, "nodes/nrnodes"), "ONLINE:3\nPRESENT:3\nPOSSIBLE:3\n");
    });
    checks.check("pid_max", || {
        let max = on_view(lab, "cat /proc/sys/kernel/pid_max").ok();
        let max: u32 = max.trim().parse().expect("a number");
        assert!(max > cast.burner.gpid(), "tools make room for {max}");
    });
}

fn free(lab: &Lab) {
    let said = on_view(lab, "free -k").ok();
    assert_eq!(field(&said, "Mem"), memory(lab, "MemTotal"));
    assert_eq!(field(&said, "Swap"), memory(lab, "SwapTotal"));
    let numbers = said.lines().find(|line| line.starts_with("Mem:")).expect("memory");
    let numbers: Vec<u64> = words(numbers).iter().skip(1).map(|w| w.parse().unwrap()).collect();
    let [total, used, free, _, cache, available] = numbers[..] else { panic!("{said}") };
    // What is used is what is not available (free(1)): of a machine that caches little that is less
    // than what is free.
    assert!(used > 0 && used <= total && free + cache <= total, "{said}");
    assert!(available > free / 2 && available <= total, "{said}");
}

/// The whole seconds since boot that a tool's `-s` tells as a time of day.
#[track_caller]
fn boot(text: &str, lab: &Lab) -> i64 {
    let said = lab.exec(1, &["date", "+%s", "-d", text.trim()]).ok();
    said.trim().parse().expect("seconds")
}

/// The time of the node that runs longest; here that is the last, by the clocks of the lab.
fn uptime(lab: &Lab) {
    let seconds = |text: &str| -> f64 { words(text)[0].parse().expect("seconds") };
    let before = native(lab, "uptime");
    let seen = seconds(&on_view(lab, "cat /proc/uptime").ok());
    let after = native(lab, "uptime");
    let longest = |all: &[String]| all.iter().map(|text| seconds(text)).fold(0.0, f64::max);
    let (from, to) = (longest(&before) - 0.5, longest(&after) + 0.5);
    assert!((from..to).contains(&seen), "{seen} is not from {from} to {to}");
    let all = on_view(lab, "uptime -s").ok();
    let own = lab.exec(3, &["uptime", "-s"]).ok();
    let near = boot(&all, lab).abs_diff(boot(&own, lab));
    assert!(near <= 2, "booted {all} by the cluster, {own} by the node that was first");
    let btime = field(&cluster(lab, "stat"), "btime");
    let earliest = native(lab, "stat").iter().map(|text| field(text, "btime")).min();
    assert!(btime.abs_diff(earliest.expect("three")) <= 1, "{btime}, {earliest:?}");
}

fn w(lab: &Lab) {
    let head = |text: &str| {
        let line = text.lines().next().expect("a line").to_owned();
        // The time of day and the loads move.
        line.split_once(" up ")
            .and_then(|(_, rest)| rest.split_once(",  "))
            .expect("up")
            .0
            .to_owned()
    };
    within(SOON, || {
        let (w, uptime) = (on_view(lab, "w").ok(), on_view(lab, "uptime").ok());
        let table = w.lines().nth(1).unwrap_or_default();
        assert!(table.starts_with("USER") && table.ends_with("WHAT"), "{w}");
        if head(&w) == head(&uptime) { Ok(()) } else { Err(format!("{w}{uptime}")) }
    });
}

/// uptime's three numbers are the sums of the nodes'.
fn loads(lab: &Lab) {
    let three = |text: &str| -> Vec<f64> {
        words(text).iter().take(3).map(|w| w.trim_end_matches(',').parse().unwrap()).collect()
    };
    within(SOON, || {
        let nodes = native(lab, "loadavg");
        let said = on_view(lab, "uptime").ok();
        let seen = three(said.split_once("average: ").expect("loads").1);
        let sum = |n: usize| nodes.iter().map(|text| three(text)[n]).sum::<f64>();
        let right = (0..3).all(|n| (seen[n] - sum(n)).abs() < 0.035);
        // They are computed anew every five seconds, maybe between the two.
        if right { Ok(()) } else { Err(format!("{said}, {nodes:?}")) }
    });
}

fn vmstat(lab: &Lab) {
    let said = on_view(lab, "vmstat 1 2").ok();
    let lines: Vec<&str> = said.lines().skip(1).collect();
    let table = Table::parse(&lines.join("\n"));
    let [first, second] = lines[1..] else { panic!("two looks: {said}") };
    assert_ne!(first, second, "something burns, and nothing moves");
    let busy: f64 = ["us", "sy"].iter().map(|c| table.all(c)[1].parse::<f64>().unwrap()).sum();
    assert!(busy > 0.0, "something burns: {said}");
    let free: f64 = table.all("free")[0].parse().expect("kB");
    let nodes = memory(lab, "MemFree") as f64;
    // A third would be one node's, and it moves while others build.
    assert!((free / nodes - 1.0).abs() < 0.3, "{free} kB free, of {nodes} in sum");
}

fn mpstat(lab: &Lab) {
    let total: u32 = cpus(lab).iter().sum();
    let said = on_view(lab, "mpstat -P ALL 1 1").ok();
    let head = said.lines().next().unwrap_or_default();
    assert!(head.contains(&format!("({total} CPU)")), "{head}");
    let table = Table::below(&said, "Average:");
    let all = table.only("CPU", "all");
    assert!(all.number("%idle") < 100.0, "something burns: {said}");
    let listed: Vec<String> = table.all("CPU").iter().skip(1).map(|c| (*c).to_owned()).collect();
    assert_eq!(listed, (0..total).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn pidstat(lab: &Lab, cast: &Cast) {
    let said = on_view(lab, "pidstat -p ALL 1 1").ok();
    let table = Table::below(&said, "Average:");
    table.unique("PID");
    let burner = table.only("PID", cast.burner.gpid());
    assert!(burner.number("%usr") > 0.0, "it burns: {burner:?}");
    assert_eq!((burner.get("UID"), burner.get("Command")), ("0", "krgburn"));
    assert_eq!(table.only("PID", cast.threads.gpid()).get("UID"), "1");
    let live: Vec<&str> = said.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    let burning = live.iter().find(|line| line.ends_with(" krgburn")).expect("its line");
    let words = words(burning);
    let cpu: u32 = words[words.len() - 2].parse().expect("a cpu");
    assert!(cpus_of_node_3(lab).contains(&cpu), "cpu {cpu} is not node 3's");
}

fn iostat(lab: &Lab) {
    let total: u32 = cpus(lab).iter().sum();
    let said = on_view(lab, "iostat").ok();
    assert!(said.lines().next().unwrap_or_default().contains(&format!("({total} CPU)")));
    let shares = said.lines().skip_while(|line| !line.starts_with("avg-cpu")).nth(1);
    let shares = words(shares.expect("shares"));
    let sum: f64 = shares.iter().map(|w| w.parse::<f64>().expect("a share")).sum();
    assert!(shares.len() == 6 && (sum - 100.0).abs() < 0.5, "{said}");
    let disks = on_view(lab, "iostat -d -p ALL").ok();
    let listed: Vec<&str> =
        disks.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for (node, text) in NODES.zip(native(lab, "diskstats")) {
        for line in text.lines() {
            let name = format!("n{node}-{}", words(line)[2]);
            assert_eq!(listed.iter().filter(|l| **l == name).count(), 1, "{name}: {disks}");
        }
    }
}

fn lscpu(lab: &Lab) {
    let total: u32 = cpus(lab).iter().sum();
    let said = on_view(lab, "lscpu").ok();
    assert_eq!(field(&said, "CPU(s)"), u64::from(total));
    let number = |name: &str| field(&said, name);
    let product =
        number("Thread(s) per core") * number("Core(s) per socket") * number("Socket(s)");
    assert_eq!(product, u64::from(total), "{said}");
    assert_eq!(number("Socket(s)"), 3, "a node is a package: {said}");
    assert!(said.contains(&format!("0-{}", total - 1)), "{said}");
    let each = on_view(lab, "lscpu -p=CPU").ok();
    let cpus: Vec<u32> =
        each.lines().filter(|l| !l.starts_with('#')).map(|l| l.parse().unwrap()).collect();
    assert_eq!(cpus, (0..total).collect::<Vec<_>>());
}

fn getconf(lab: &Lab) {
    let total: u32 = cpus(lab).iter().sum();
    for name in ["_NPROCESSORS_ONLN", "_NPROCESSORS_CONF"] {
        assert_eq!(on_view(lab, &format!("getconf {name}")).ok(), format!("{total}\n"), "{name}");
    }
    assert_eq!(on_view(lab, "nproc --all").ok(), format!("{total}\n"));
}

fn findmnt(lab: &Lab) {
    // Of mounts on top of each other the last line is the one that is seen.
    let seen = |line: &str| {
        let said = on_view(lab, line).ok();
        words(said.lines().last().unwrap_or_else(|| panic!("{line} says nothing")))
    };
    let own = seen("findmnt -n -o SOURCE,FSTYPE /cluster/proc");
    assert!(own[0] == "krgproc" && own[1].starts_with("fuse"), "{own:?}");
    assert_eq!(seen("findmnt -n -o SOURCE,FSTYPE /proc"), own, "the view covers /proc");
    assert_eq!(seen("findmnt -n -o FSTYPE /proc/.local"), ["proc"]);
    assert_eq!(seen("findmnt -n -o FSTYPE /"), ["overlay"]);
    let all = on_view(lab, "findmnt -n -l -o TARGET").ok();
    assert!(["/", "/proc", "/sys", "/dev"].iter().all(|t| all.lines().any(|l| l.trim() == *t)));
    // In the node itself, outside of krg exec, /proc is the kernel's.
    assert_eq!(lab.sh(1, "findmnt -n -o FSTYPE /proc").ok(), "proc\n");
}

/// Counters only grow, so the sum lies between the nodes' sums before and after it.
fn stat(lab: &Lab) {
    let first = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| words(line)[0] == name);
        words(line.unwrap_or_else(|| panic!("no {name}")))[1].parse().expect("a number")
    };
    let of_nodes = || NODES.map(|n| cluster(lab, &format!("nodes/node{n}/stat"))).collect();
    let before: Vec<String> = of_nodes();
    let merged = cluster(lab, "stat");
    let after: Vec<String> = of_nodes();
    for name in ["cpu", "ctxt", "processes", "intr", "softirq"] {
        let sum = |texts: &[String]| texts.iter().map(|t| first(t, name)).sum::<u64>();
        let (from, to, seen) = (sum(&before), sum(&after), first(&merged, name));
        assert!((from..=to).contains(&seen), "{name} {seen} is not from {from} to {to}");
    }
    let lines = |text: &str| -> Vec<String> {
        let names = text.lines().map(|line| words(line).remove(0));
        names.filter(|n| n.len() > 3 && n.starts_with("cpu")).collect()
    };
    let count: usize = before.iter().map(|text| lines(text).len()).sum();
    assert_eq!(lines(&merged), (0..count).map(|n| format!("cpu{n}")).collect::<Vec<_>>());
    assert_eq!(count as u32, cpus(lab).iter().sum::<u32>());
    // The nodes' own /proc agrees: what the view has is no older than a moment ago.
    let native_sum = || native(lab, "stat").iter().map(|t| first(t, "processes")).sum::<u64>();
    let (old, start) = (native_sum(), cluster(lab, "stat"));
    assert!(first(&start, "processes") <= native_sum(), "more than there were");
    within(SOON, || {
        let seen = first(&cluster(lab, "stat"), "processes");
        if seen >= old { Ok(()) } else { Err(format!("{seen} of {old}")) }
    });
}

fn meminfo(lab: &Lab) {
    let nodes: Vec<String> =
        NODES.map(|n| cluster(lab, &format!("nodes/node{n}/meminfo"))).collect();
    let merged = cluster(lab, "meminfo");
    for name in ["MemTotal:", "SwapTotal:", "CommitLimit:"] {
        let sum: u64 = nodes.iter().map(|text| field(text, name)).sum();
        assert_eq!(field(&merged, name), sum, "{name}");
    }
    let names = |text: &str| text.lines().map(|l| words(l).remove(0)).collect::<Vec<_>>();
    assert_eq!(names(&merged), names(&nodes[0]), "the kernel's fields in its order");
    assert_eq!(field(&merged, "MemTotal:"), memory(lab, "MemTotal"));
    assert_eq!(field(&merged, "Hugepagesize:"), field(&nodes[0], "Hugepagesize:"));
}
