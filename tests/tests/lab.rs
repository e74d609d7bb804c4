//! The lab: isolated nodes, faults, and nothing left behind.

use krg_tests::{LAB, Lab, bin_dir, can_run, krg, run, within};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// What a lab of this name has left on the host.
fn residue(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mark = format!("krg-lab/{name}");
    left.extend(mounts.lines().filter(|l| l.contains(&mark)).map(str::to_owned));
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = cmdline.split(|b| *b == 0).collect();
        if words.contains(&name.as_bytes()) {
            left.push(String::from_utf8_lossy(&cmdline).replace('\0', " "));
        }
    }
    if std::path::Path::new("/run/krg-lab").join(name).exists() {
        left.push(format!("/run/krg-lab/{name}"));
    }
    left
}

/// Network interfaces, network namespaces with names, and control groups of the host.
fn host_things() -> Vec<String> {
    let list = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.path().display().to_string()).collect::<Vec<_>>()
    };
    let mut all = list("/sys/class/net");
    all.extend(list("/run/netns"));
    all.extend(list("/sys/fs/cgroup").into_iter().filter(|p| p.contains("krg")));
    all.sort();
    all
}

#[track_caller]
fn nothing_left(name: &str) {
    within(SOON, || {
        let left = residue(name);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

/// A name of this test's own.
fn name(what: &str) -> String {
    format!("{what}{}", std::process::id())
}

#[test]
fn nodes_are_apart() {
    if !can_run("nodes_are_apart", &LAB) {
        return;
    }
    let before = host_things();
    let lab = Lab::start(3);
    let name = lab.name.clone();
    for node in 1..=3 {
        assert_eq!(lab.sh(node, "hostname").ok(), format!("node{node}\n"));
        lab.sh(node, &format!("echo {node} > /etc/mine; echo x > /only-on-{node}")).ok();
    }
    for node in 1..=3 {
        assert_eq!(lab.sh(node, "cat /etc/mine").ok(), format!("{node}\n"));
        assert_eq!(lab.sh(node, "ls -d /only-on-*").ok(), format!("/only-on-{node}\n"));
        assert_eq!(lab.sh(node, "cat /proc/1/comm").ok(), "krg-init\n");
    }
    assert!(!std::path::Path::new("/only-on-1").exists(), "the host sees no write of a node");
    let spaces = "for n in pid net mnt uts ipc; do readlink /proc/self/ns/$n; done";
    let own: Vec<String> = (1..=3).map(|n| lab.sh(n, spaces).ok()).collect();
    let host = run(Command::new("sh").args(["-c", spaces])).ok();
    for (i, line) in host.lines().enumerate() {
        let mut all: Vec<&str> = own.iter().filter_map(|o| o.lines().nth(i)).collect();
        all.push(line);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4, "a namespace is shared: {all:?}");
    }
    let masked = std::env::var("KRG_MASK").is_ok_and(|m| m == "all");
    let mut clocks: Vec<String> =
        (1..=3).map(|n| lab.sh(n, "cut -d. -f1 /proc/uptime").ok()).collect();
    clocks.dedup();
    assert!(clocks.len() == 3 || masked, "clocks differ: {clocks:?}");
    // Orphans are reaped by the node's init.
    lab.sh(2, "for i in 1 2 3 4 5; do setsid sh -c 'sleep 0.01 &' & done; wait").ok();
    within(SOON, || {
        let zombies = lab.sh(2, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null").out;
        if zombies.is_empty() { Ok(()) } else { Err(zombies) }
    });
    drop(lab);
    nothing_left(&name);
    assert_eq!(host_things(), before);
}

#[test]
fn a_commands_end_is_passed_on() {
    if !can_run("a_commands_end", &LAB) {
        return;
    }
    let lab = Lab::start(1);
    assert_eq!(lab.sh(1, "exit 0").code, 0);
    assert_eq!(lab.sh(1, "exit 42").code, 42);
    assert_eq!(lab.sh(1, "kill -TERM $$").code, 128 + 15);
    assert_eq!(lab.exec(1, &["no-such-command"]).code, 127);
    assert_eq!(lab.exec(1, &["/etc/passwd"]).code, 126);
    for name in ["krg", "krgd", "krgadm", "ssi-start", "mount.krgproc"] {
        lab.exec(1, &["sh", "-c", &format!("command -v {name}")]).ok();
    }
    let said = run(krg().args(["lab", "exec", "--name", &lab.name, "7", "--", "true"]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains('7') && said.err.contains("node"), "{}", said.err);
    // The old name starts a lab too, and a name that is taken is refused.
    let said = run(krg().args(["lab", "start", "2", "--name", &lab.name]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains(&lab.name), "{}", said.err);
    assert_eq!(lab.sh(1, "true").code, 0, "the lab that has the name is unharmed");
    let said = run(krg().args(["lab", "start", "65"]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("64"), "{}", said.err);
}

#[test]
fn two_labs_do_not_disturb_each_other() {
    if !can_run("two_labs", &LAB) {
        return;
    }
    let (one, two) = (Lab::start(2), Lab::start(3));
    let nodes = |lab: &Lab| lab.sh(1, "cat /cluster/proc/nodes/nrnodes").ok();
    assert!(nodes(&one).starts_with("ONLINE:2\n"));
    assert!(nodes(&two).starts_with("ONLINE:3\n"));
    let gone = one.name.clone();
    drop(one);
    nothing_left(&gone);
    assert!(nodes(&two).starts_with("ONLINE:3\n"));
}

#[test]
fn a_killed_keeper_leaves_nothing_that_stop_cannot_end() {
    if !can_run("a_killed_keeper", &LAB) {
        return;
    }
    let lab = Lab::start(3);
    let name = lab.name.clone();
    lab.fault("pause", 2);
    let line = format!("pkill -KILL -f 'krg-lab keeper --name {name}( |$)'");
    run(Command::new("sh").args(["-c", &line]));
    drop(lab);
    nothing_left(&name);
}

#[test]
fn a_start_that_is_killed_at_any_moment_leaves_nothing_after_stop() {
    if !can_run("a_killed_start", &LAB) {
        return;
    }
    let before = host_things();
    for round in 0..8u64 {
        let name = name(&format!("half{round}x"));
        let mut start = krg()
            .args(["lab", "start", "3", "--name", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("krg starts");
        // Killed a little later each round, from before the first process to after the last.
        std::thread::park_timeout(Duration::from_millis(5 + round * 90));
        start.kill().expect("it was ours to kill");
        start.wait().expect("it ended");
        run(krg().args(["lab", "stop", "--name", &name])).ok();
        nothing_left(&name);
    }
    assert_eq!(host_things(), before);
}

#[test]
fn twenty_labs_with_faults_leave_nothing() {
    if !can_run("twenty_labs", &LAB) {
        return;
    }
    let before = host_things();
    for _ in 0..20 {
        let lab = Lab::start(3);
        let name = lab.name.clone();
        lab.fault("kill", 2);
        lab.fault("cut", 3);
        let said = lab.sh(1, "krg ps aux");
        assert_eq!(said.code, 3, "it says who does not answer, and what was known: {said:?}");
        lab.fault("heal", 2);
        lab.fault("heal", 3);
        assert_eq!(lab.sh(2, "krgadm cluster").code, 0);
        drop(lab);
        nothing_left(&name);
    }
    assert_eq!(host_things(), before);
}

#[test]
fn stopping_nothing_is_no_error_and_status_of_nothing_is() {
    if !can_run("stopping_nothing", &LAB) {
        return;
    }
    let name = name("never");
    run(krg().args(["lab", "stop", "--name", &name])).ok();
    let said = run(krg().args(["lab", "status", "--name", &name]));
    assert_eq!(said.code, 1);
    assert!(said.err.contains(&name), "{}", said.err);
}

#[test]
fn a_lab_is_for_root() {
    if !can_run("a_lab_is_for_root", &LAB) {
        return;
    }
    let lab = bin_dir().join("krg-lab");
    let said = run(Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(lab)
        .args(["start", "1"]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("root"), "{}", said.err);
}
