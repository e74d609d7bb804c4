//! Nodes that are paused, killed or cut off, daemons and mounts that die: every view answers.

use krg_tests::{LAB, Lab, Need, Said, can_run, within};
use std::time::Duration;

/// "Every read of every view on the others still answers": the tools get two seconds.
const TOOLS: [&str; 7] = [
    "ps aux",
    "top -b -n1",
    "cat /proc/nodes/node2/stat",
    "cat /proc/stat /proc/meminfo /proc/loadavg /proc/uptime",
    "ps -eLf",
    // Without the threads, who have the same files once more each.
    "lsof -n -K i",
    "pstree",
];
/// A healed node is fresh again within this.
const FRESH: Duration = Duration::from_secs(2);
/// How long a node's death may take to be seen.
const SEEN: Duration = Duration::from_secs(5);

fn state(lab: &Lab, of: u32) -> String {
    lab.sh(1, &format!("cat /cluster/proc/nodes/node{of}/state")).ok().trim().to_owned()
}

fn age_ms(lab: &Lab, of: u32) -> i64 {
    let text = lab.sh(1, &format!("cat /cluster/proc/nodes/node{of}/age")).ok();
    text.trim().parse().expect("age is a number")
}

#[track_caller]
fn becomes(lab: &Lab, node: u32, wanted: &str, limit: Duration) {
    within(limit, || match state(lab, node) {
        word if word == wanted => Ok(()),
        other => Err(format!("node{node} is {other}, not {wanted}")),
    });
}

/// One shell line with each tool under `timeout 5`; the exit codes, a line each. pstree asks live
/// for every thread of every process, one after the other: it takes the longest.
fn tools_line() -> String {
    TOOLS.map(|t| format!("timeout 5 {t} >/dev/null 2>/tmp/err; echo \"$? {t}\"")).join("; ")
}

#[track_caller]
fn no_tool_hangs(lab: &Lab, node: u32) {
    let said = lab.view(node, &tools_line()).ok();
    for line in said.lines() {
        assert!(!line.starts_with("124 "), "hung: {line}\nall: {said}");
        // lsof says 1 when it could not look at everything.
        assert!(line.starts_with("0 ") || line == "1 lsof -n -K i", "failed: {line}");
    }
    assert_eq!(said.lines().count(), TOOLS.len());
}

fn ps(lab: &Lab, node: u32) -> Said {
    lab.view(node, "timeout 2 ps -e -o pid= -o args=")
}

fn mounts(lab: &Lab, node: u32) -> usize {
    lab.sh(node, "grep -c ' - fuse.krgproc ' /proc/self/mountinfo")
        .out
        .trim()
        .parse()
        .unwrap_or(0)
}

#[test]
fn a_paused_node_is_stale_and_fresh_again() {
    if !can_run("a_paused_node", &[&LAB[..], &[Need::Tool("lsof")]].concat()) {
        return;
    }
    let lab = Lab::start(3);
    lab.background(2, "exec sleep 86002");
    within(FRESH, || match ps(&lab, 1).ok().contains("sleep 86002") {
        true => Ok(()),
        false => Err("not listed".into()),
    });
    lab.sh(2, "pkill -STOP -x krgd").ok();
    no_tool_hangs(&lab, 1);
    assert_eq!(state(&lab, 2), "stale");
    let first = age_ms(&lab, 2);
    assert!(ps(&lab, 1).ok().contains("sleep 86002"), "last known processes stay listed");
    let second = age_ms(&lab, 2);
    assert!(second > first && first > 0, "its age grows: {first} then {second}");
    // The node's own view is its own process, and says the same.
    no_tool_hangs(&lab, 2);
    lab.sh(2, "pkill -CONT -x krgd").ok();
    within(FRESH, || match (state(&lab, 2).as_str(), age_ms(&lab, 2)) {
        ("online", age) if age < 1_000 => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // The same with everything on the node stopped, its mount too.
    lab.fault("pause", 2);
    no_tool_hangs(&lab, 1);
    assert_eq!(state(&lab, 2), "stale");
    lab.fault("resume", 2);
    becomes(&lab, 2, "online", FRESH);
}

#[test]
fn a_killed_daemon_leaves_no_dead_mount() {
    if !can_run("a_killed_daemon", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    let before = lab.sh(2, "pgrep -x krg-mount").ok();
    lab.sh(2, "pkill -KILL -x krgd").ok();
    no_tool_hangs(&lab, 1);
    no_tool_hangs(&lab, 2);
    becomes(&lab, 2, "online", SEEN);
    assert_eq!(lab.sh(2, "pgrep -x krg-mount").ok(), before, "the mount goes on serving");
    for node in 1..=3 {
        assert_eq!(mounts(&lab, node), 1);
    }
    // Daemon and mount at once: the next daemon clears up what is left.
    lab.sh(2, "pkill -KILL krgd\\|krg-mount").ok();
    within(SEEN, || {
        let said = lab.sh(2, "cat /cluster/proc/nodes/node2/state");
        if said.code == 0 && said.out == "online\n" { Ok(()) } else { Err(said.err) }
    });
    assert_eq!(mounts(&lab, 2), 1);
    no_tool_hangs(&lab, 2);
}

#[test]
fn a_restart_of_krgd_does_not_disturb_a_running_top() {
    if !can_run("a_running_top", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    let line = "top -b -d 0.3 -n 14 > /tmp/top.out 2> /tmp/top.err; echo $? > /tmp/top.code; \
                cat /proc/self/comm > /tmp/top.self";
    lab.sh(1, &format!("setsid krg exec -- sh -c '{line}' </dev/null >/dev/null 2>&1 &")).ok();
    let frames = |at_least: usize| {
        within(Duration::from_secs(20), || {
            let text = lab.sh(1, "cat /tmp/top.out").out;
            let n = text.matches("load average").count();
            if n >= at_least { Ok(text) } else { Err(format!("{n} frames")) }
        })
    };
    frames(2);
    lab.sh(1, "pkill -KILL -x krgd").ok();
    frames(5);
    // A clean stop takes the mount out of the tree; who looks at it already goes on looking.
    lab.stop_krgd(1);
    assert_eq!(mounts(&lab, 1), 0);
    assert_eq!(lab.sh(1, "ls -A /run/krg/proc").ok(), "");
    frames(8);
    lab.fault("heal", 1);
    let text = frames(14);
    let code = within(SEEN, || {
        let said = lab.sh(1, "cat /tmp/top.code");
        if said.out.is_empty() { Err("top runs on".into()) } else { Ok(said.out) }
    });
    assert_eq!(code, "0\n");
    assert_eq!(lab.sh(1, "cat /tmp/top.err").ok(), "");
    within(SEEN, || match lab.sh(1, "cat /tmp/top.self").out.as_str() {
        "cat\n" => Ok(()),
        other => Err(format!("the session's own processes: {other:?}")),
    });
    for frame in text.split("top - ").skip(1) {
        assert!(frame.contains(" krg-in"), "a frame without processes:\n{frame}");
    }
}

#[test]
fn where_a_view_died_the_real_proc_shows_through() {
    if !can_run("a_view_died", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    let line = "echo > /tmp/in; while [ ! -e /tmp/go ]; do read x < /proc/uptime; done; \
                until ps -e > /tmp/try; do :; done; mv /tmp/try /tmp/real";
    lab.sh(1, &format!("setsid krg exec -- sh -c '{line}' </dev/null >/dev/null 2>&1 &")).ok();
    let exists = |file: &str| {
        within(SEEN, || match lab.sh(1, &format!("test -s {file}")).code {
            0 => Ok(()),
            _ => Err(format!("no {file}")),
        });
    };
    exists("/tmp/in");
    lab.sh(1, "pkill -KILL -x krg-mount; touch /tmp/go").ok();
    exists("/tmp/real");
    let real = lab.sh(1, "cat /tmp/real").ok();
    assert!(!real.contains("12582913"), "the view, not the real /proc:\n{real}");
    assert!(real.contains("krg-init"), "{real}");
    // In the tree itself a new view takes the dead one's place.
    within(FRESH, || {
        let said = lab.sh(1, "cat /cluster/proc/nodes/nrnodes");
        if said.out.starts_with("ONLINE:3") { Ok(()) } else { Err(said.err) }
    });
    assert_eq!(mounts(&lab, 1), 1);
}

#[test]
fn a_view_on_proc_itself_that_died_is_taken_away() {
    if !can_run("a_view_on_proc_itself", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    lab.sh(1, "mount -t krgproc none /proc && ps -e | grep -q 8388609").ok();
    // On this /proc pkill finds cluster pids; the kernel's own are below `.local`.
    let kill = |name: &str| {
        let line = "kill -KILL $(grep -lx NAME /run/krg/proc/[0-9]*/comm | cut -d/ -f5)";
        lab.sh(1, &line.replace("NAME", name)).ok();
    };
    kill("krgd");
    within(SEEN, || match lab.sh(1, "krgadm cluster && ps -e | grep -q 8388609").code {
        0 => Ok(()),
        _ => Err("the daemon does not come back under its view".into()),
    });
    kill("krg-mount");
    within(SEEN, || {
        let said = lab.sh(1, "ps -e && cat /cluster/proc/nodes/nrnodes");
        if said.code == 0 && said.out.contains("krg-init") { Ok(()) } else { Err(said.err) }
    });
    lab.sh(1, "umount /proc && ps -e | grep -q krg-init").ok();
    assert_eq!(lab.sh(1, "krgadm cluster").ok(), "status: up on 2 nodes\n");
    // A clean stop takes the view away once, and not what it covered as well, also while somebody
    // looks at it and its process goes on.
    lab.sh(1, "mount -t krgproc none /proc && ps -e | grep -q 8388609").ok();
    lab.background(1, "cd /proc; exec sleep 86003");
    let line = "p=$(grep -lx krgd /run/krg/proc/[0-9]*/comm | cut -d/ -f5); kill $p; \
                timeout 5 tail --pid=$p -f /dev/null";
    lab.sh(1, line).ok();
    assert_eq!(lab.sh(1, "cat /proc/1/comm").ok(), "krg-init\n");
    assert_eq!(lab.sh(1, "stat -f -c %T /proc").ok(), "proc\n");
}

#[test]
fn a_dead_node_leaves_after_the_configured_time_and_comes_back() {
    if !can_run("a_dead_node_leaves", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    // Another configuration needs another mount process: the next krgd replaces it.
    let before = lab.sh(1, "pgrep -x krg-mount").ok();
    lab.sh(
        1,
        "printf '[view]\\nforget_after_s = 2\\n' >> /etc/krg/krg.toml; pkill -KILL -x krgd",
    )
    .ok();
    // It has asked every node for everything once, though nobody has looked.
    within(SEEN, || {
        let now = lab.sh(1, "pgrep -x krg-mount").out;
        match (
            now.lines().count() == 1 && now != before,
            lab.sh(1, "cat /cluster/proc/.sys/settled"),
        ) {
            (true, said) if said.out == "3\n" => Ok(()),
            (_, said) => Err(format!("{before:?} {now:?} {said:?}")),
        }
    });
    lab.fault("kill", 3);
    assert!(ps(&lab, 1).ok().contains("12582913"), "still listed as last known");
    becomes(&lab, 3, "down", SEEN);
    assert!(!ps(&lab, 1).ok().contains("12582913"), "its processes have left");
    assert_eq!(lab.sh(1, "cat /cluster/proc/mosix/nodes/3/load").ok(), "-101\n");
    no_tool_hangs(&lab, 1);
    lab.fault("heal", 3);
    becomes(&lab, 3, "online", FRESH);
    within(FRESH, || match ps(&lab, 1).ok().contains("12582913") {
        true => Ok(()),
        false => Err("its processes are not back".into()),
    });
}

#[test]
fn a_cut_node_and_the_others_see_each_other_stale() {
    if !can_run("a_cut_node", &LAB) {
        return;
    }
    let lab = Lab::start_with(3, &["--link", "2"]);
    lab.fault("cut", 2);
    no_tool_hangs(&lab, 1);
    no_tool_hangs(&lab, 2);
    becomes(&lab, 2, "stale", SEEN);
    let said = lab.sh(2, "cat /cluster/proc/nodes/node1/state /cluster/proc/nodes/node2/state");
    assert_eq!(said.ok(), "stale\nonline\n");
    lab.fault("heal", 2);
    becomes(&lab, 2, "online", FRESH);
}

#[test]
fn a_node_that_leaves_and_joins_hangs_nobody() {
    if !can_run("a_node_that_leaves", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    let first = lab.sh(2, "pgrep -x krg-mount").ok();
    let line = "until [ -e /tmp/go ]; do timeout 2 ps -e > /tmp/try || echo $? >> /tmp/bad; \
                mv /tmp/try /tmp/seen; done; echo > /tmp/end";
    lab.sh(2, &format!("setsid krg exec -- sh -c '{line}' </dev/null >/dev/null 2>&1 &")).ok();
    let sees = |node: u32, nodes: u32| {
        within(SEEN, || {
            let said =
                lab.view(node, "timeout 2 ps -e -o pid=; echo $?; cat /proc/nodes/nrnodes");
            assert!(!said.out.contains("\n124\n"), "hung on node {node}: {}", said.out);
            let online = said.out.contains(&format!("ONLINE:{nodes}\n"));
            if online { Ok(()) } else { Err(format!("node {node}: {said:?}")) }
        });
        // The view of the life before goes when its life does, and then the next one comes.
        within(SEEN, || match mounts(&lab, node) {
            1 => Ok(()),
            n => Err(format!("{n} mounts on node {node}")),
        });
    };
    sees(2, 2);
    for _ in 0..3 {
        lab.sh(2, "timeout 10 krg leave").ok();
        sees(1, 1);
        sees(2, 1);
        let token = lab.sh(1, "krg cluster token create").ok();
        let join = format!("timeout 20 krg join 10.91.1.1 --token {}", token.trim());
        lab.sh(2, &join).ok();
        sees(1, 2);
        sees(2, 2);
    }
    // The session that was there before goes on looking, and what served it ends with it.
    lab.sh(2, "rm -f /tmp/seen").ok();
    within(SEEN, || match lab.sh(2, "test -s /tmp/seen").code {
        0 => Ok(()),
        _ => Err("the session does not go on".into()),
    });
    assert_eq!(lab.sh(2, "cat /tmp/bad").out, "", "no look of the session hung or failed");
    assert!(lab.sh(2, "pgrep -x krg-mount").ok().contains(&first));
    lab.sh(2, "touch /tmp/go").ok();
    within(SEEN, || match lab.sh(2, "pgrep -x krg-mount").out {
        now if now.lines().count() == 1 && now != first => Ok(()),
        now => Err(format!("mount processes: {now:?}, the first was {first:?}")),
    });
}

#[test]
fn sigterm_ends_krgd_and_its_mounts_in_time() {
    if !can_run("sigterm", &LAB) {
        return;
    }
    let lab = Lab::start(2);
    lab.sh(1, "mkdir -p /mnt/second && mount -t krgproc none /mnt/second").ok();
    assert_eq!(mounts(&lab, 1), 2);
    let line = "p=$(pgrep -x krgd); kill $p; timeout 2 tail --pid=$p -f /dev/null; echo $?; \
                grep -c krgproc /proc/self/mountinfo; pgrep -x krg-mount; \
                ls /run/krg | grep -v notify.sock; ls /run/krg/proc";
    let said = lab.sh(1, line);
    assert_eq!(
        said.out, "0\n0\nproc\n",
        "ended in time, no mount, no process, no file: {said:?}"
    );
}

#[test]
fn two_hundred_processes_a_second_on_each_node() {
    if !can_run("churn", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    for node in 1..=3 {
        // Ten at a time, twenty times a second.
        let ten = "/bin/true & ".repeat(10);
        lab.background(node, &format!("while :; do {ten} wait; sleep 0.04; done"));
    }
    let line = "for i in $(seq 40); do ps aux || echo FAILED; done 2>&1";
    let said = lab.view(1, line).ok();
    let mut rows = 0;
    for line in said.lines().filter(|l| !l.starts_with("USER ")) {
        rows += 1;
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert!(fields.len() >= 11 && fields[1].parse::<u32>().is_ok(), "half a line: {line}");
    }
    assert!(rows > 40 * 10, "{rows} rows");
    for node in 1..=3 {
        let log = lab.sh(node, "cat /var/log/krgd.log").out;
        assert!(!log.contains("panicked"), "node {node}: {log}");
    }
}

/// Descriptors and threads of krgd and its mount.
fn held(lab: &Lab, node: u32) -> Vec<(String, u32, u32)> {
    let line = "for p in $(pgrep -x 'krgd|krg-mount'); do echo $(cat /proc/$p/comm) \
                $(ls /proc/$p/fd | wc -l) $(ls /proc/$p/task | wc -l); done";
    let text = lab.sh(node, line).ok();
    let row = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let mut number = || words.next().and_then(|w| w.parse().ok()).expect("a count");
        (name, number(), number())
    };
    text.lines().map(row).collect()
}

#[test]
fn twenty_rounds_of_faults_leave_nothing_in_the_survivors() {
    if !can_run("twenty_rounds", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    let round = || {
        ps(&lab, 1).ok();
        lab.fault("cut", 2);
        ps(&lab, 1).ok();
        lab.fault("kill", 3);
        ps(&lab, 1).ok();
        lab.fault("heal", 2);
        lab.fault("heal", 3);
        becomes(&lab, 2, "online", SEEN);
        becomes(&lab, 3, "online", SEEN);
    };
    // The first round makes what is made once: threads of pools, connections.
    (0..2).for_each(|_| round());
    let before = held(&lab, 1);
    (0..20).for_each(|_| round());
    within(Duration::from_secs(20), || {
        let after = held(&lab, 1);
        let grown = before.iter().zip(&after).any(|(b, a)| a.1 > b.1 + 4 || a.2 > b.2 + 2);
        if grown { Err(format!("before {before:?}, after {after:?}")) } else { Ok(()) }
    });
}
