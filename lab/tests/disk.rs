//! The nodes' disks and links, and nodes that come and go. A program that only waits stands in
//! the place of krgd: what is tested here is the lab.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What runs in the place of krgd.
const STAND_IN: &str = "sleep 100000";
static COUNT: AtomicU32 = AtomicU32::new(0);

/// May this test run? What is missing is said; in CI that is a failure.
fn can_run(test: &str) -> bool {
    let run = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    let mut missing = Vec::new();
    if !run.is_ok_and(|s| s.success()) {
        missing.push("needs root");
    }
    if !PathBuf::from("/dev/loop-control").exists() {
        missing.push("needs loop devices");
    }
    if missing.is_empty() {
        return true;
    }
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {}", missing.join(", "));
    let all = std::env::var_os("KRG_REQUIRE_ALL").is_some();
    assert!(!all, "{test} may not be skipped here: {}", missing.join(", "));
    false
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// The words of a command that must have failed.
    #[track_caller]
    fn failed(self) -> String {
        assert_ne!(self.code, 0, "stdout: {}", self.out);
        self.err
    }
}

fn run(command: &mut Command) -> Said {
    let out = command.stdin(Stdio::null()).output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: out.status.code().unwrap_or(255),
        out: text(&out.stdout),
        err: text(&out.stderr),
    }
}

/// A lab of its own name, ended with the value.
struct Lab(String);

impl Lab {
    /// A name for a lab; nothing is started.
    fn named() -> Lab {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Lab(format!("disk{}-{n}", std::process::id()))
    }

    #[track_caller]
    fn start(nodes: u32) -> Lab {
        let lab = Lab::named();
        lab.lab(&["start", &nodes.to_string(), "--no-wait"]).ok();
        lab
    }

    /// A command of `krg lab`.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_krg-lab"));
        command.env("KRG_LAB_KRGD", STAND_IN);
        command.args(&args[..1]).args(["--name", &self.0]).args(&args[1..]);
        command
    }

    fn lab(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    /// A shell line in a node, in its state directory.
    fn sh(&self, node: &str, line: &str) -> Said {
        self.lab(&["exec", node, "--", "sh", "-c", &format!("cd /var/lib/krg && {line}")])
    }

    #[track_caller]
    fn heal(&self, node: &str) {
        self.lab(&["heal", "--no-wait", node]).ok();
    }

    #[track_caller]
    fn state(&self, node: usize) -> serde_json::Value {
        let json: serde_json::Value =
            serde_json::from_str(&self.lab(&["status", "--json"]).ok()).expect("JSON");
        json["nodes"][node - 1].clone()
    }

    fn image(&self, node: &str) -> PathBuf {
        PathBuf::from(format!("/run/krg-lab/{}/nodes/{node}/disk.img", self.0))
    }

    /// The loop devices that have an image in this lab's directory.
    fn loops(&self) -> Vec<String> {
        let device = run(Command::new("stat").args(["-c", "%Hd:%Ld"]).arg(self.image("1")));
        loops_on(device.out.trim())
    }
}

fn loops_on(device: &str) -> Vec<String> {
    let list = ["--list", "--noheadings", "--output", "NAME,BACK-MAJ:MIN"];
    let out = run(Command::new("losetup").args(list)).ok();
    let on = |l: &&str| l.split_whitespace().nth(1) == Some(device);
    out.lines().filter(on).map(str::to_owned).collect()
}

impl Drop for Lab {
    fn drop(&mut self) {
        let said = self.lab(&["stop"]);
        if !std::thread::panicking() {
            said.ok();
        }
    }
}

/// What is on the host of a lab, mounts and files.
fn residue(name: &str) -> Vec<String> {
    let mark = format!("krg-lab/{name}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut left: Vec<_> =
        mounts.lines().filter(|l| l.contains(&mark)).map(str::to_owned).collect();
    let dir = PathBuf::from("/run").join(mark);
    left.extend(dir.exists().then(|| dir.display().to_string()));
    left
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_no_more() {
    if !can_run("a_power_cut") {
        return;
    }
    let lab = Lab::start(2);
    let kind = lab.sh("2", "stat -f -c %T . && ls -A").ok();
    assert_eq!(kind, "ext2/ext3\n", "a disk of its own, and nothing on it");
    lab.sh("2", "echo one > synced && sync synced && echo two > written").ok();
    lab.sh("2", "echo three > /root/elsewhere").ok();
    lab.lab(&["powercut", "2"]).ok();
    assert_eq!(lab.state(2)["state"], "down");
    lab.heal("2");
    assert_eq!(lab.sh("2", "cat synced /root/elsewhere").ok(), "one\nthree\n");
    // The kernel writes by itself after seconds only.
    assert_eq!(lab.sh("2", "cat written 2>/dev/null; true").ok(), "");
    // Switched off, it keeps what had been written.
    lab.sh("2", "echo four > written").ok();
    lab.lab(&["kill", "2"]).ok();
    lab.heal("2");
    assert_eq!(lab.sh("2", "cat written").ok(), "four\n");
    assert_eq!(lab.sh("1", "ls").ok(), "", "no node sees the disk of another");
    assert!(lab.lab(&["powercut", "3"]).failed().contains("node1, node2"));
}

/// A writer in a node that says each number once it is on the disk; the last it said.
fn writer(lab: &Lab) -> (Child, BufReader<std::process::ChildStdout>) {
    let line = "cd /var/lib/krg; i=$(cat n 2>/dev/null || echo 0); while :; do i=$((i+1)); \
                echo $i > new; sync new; mv new n; sync n .; mkdir d$i; echo $i; done";
    let mut child = lab
        .command(&["exec", "1", "--", "sh", "-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("krg-lab starts");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, out)
}

#[test]
fn cuts_at_any_moment_lose_nothing_that_was_said_to_be_there() {
    if !can_run("cuts_at_any_moment") {
        return;
    }
    let lab = Lab::start(2);
    let mut before = 0;
    for round in 1..=6 {
        let (mut child, out) = writer(&lab);
        let mut lines = out.lines().map(|l| l.expect("text").parse::<u32>().expect("a number"));
        for _ in 0..round * 7 {
            assert!(lines.next().expect("it goes on") > before);
        }
        lab.lab(&["powercut", "--all"]).ok();
        let last = lines.last().unwrap_or(before);
        child.wait().expect("it ended with its node");
        assert_eq!(
            (&lab.state(1)["state"], &lab.state(2)["state"]),
            (&"down".into(), &"down".into())
        );
        let copy = lab.image("1").with_extension("check");
        std::fs::copy(lab.image("1"), &copy).expect("a copy");
        // The journal is played back into a file system without a fault: 0, or 1 for the replay.
        let check = run(Command::new("/sbin/e2fsck").arg("-fp").arg(&copy));
        assert!(check.code <= 1, "{}{}", check.out, check.err);
        for node in ["1", "2"] {
            lab.heal(node);
        }
        before = lab.sh("1", "cat n").ok().trim().parse().expect("a number");
        assert!(before >= last, "said {last}, kept {before}");
    }
    assert!(before >= 6, "{before}");
}

#[test]
fn a_full_disk_takes_nothing_until_it_is_emptied() {
    if !can_run("a_full_disk") {
        return;
    }
    let lab = Lab::start(1);
    let write = "head -c 20000 /dev/zero > f && sync f && rm f";
    let full = |lab: &Lab| {
        assert!(lab.sh("1", write).failed().contains("No space left"), "it is full");
        assert_eq!(lab.state(1)["disk_full"], true);
        assert!(lab.lab(&["status"]).ok().contains("disk full"));
    };
    lab.sh("1", write).ok();
    lab.lab(&["fill", "1"]).ok();
    full(&lab);
    lab.sh("1", "echo elsewhere > /root/f").ok();
    lab.lab(&["fill", "1", "--undo"]).ok();
    lab.sh("1", write).ok();
    assert_eq!(lab.state(1)["disk_full"], false);
    lab.lab(&["fill", "1"]).ok();
    // A second time is no fault, and heals as easily.
    lab.lab(&["fill", "1"]).ok();
    full(&lab);
    lab.heal("1");
    lab.sh("1", write).ok();
    lab.lab(&["fill", "1"]).ok();
    lab.lab(&["kill", "1"]).ok();
    assert!(lab.lab(&["fill", "1"]).failed().contains("down"));
    lab.heal("1");
    lab.sh("1", write).ok();
}

/// How long it takes to bring 64 KiB from one node to another.
#[track_caller]
fn transfer(lab: &Lab, from: &str, to: &str) -> Duration {
    let perl = |node: &str, code: &str| {
        let mut command =
            lab.command(&["exec", node, "--", "perl", "-MIO::Socket::INET", "-e", code]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    };
    let take = "$| = 1; $l = IO::Socket::INET->new(Listen => 1, LocalPort => 7000, ReuseAddr => 1) \
                or die; print qq(ready\\n); $c = $l->accept; 1 while sysread $c, $b, 65536; \
                print $c qq(done\\n); close $c";
    let mut taker = perl(to, take).spawn().expect("krg-lab starts");
    let mut ready = String::new();
    let out = taker.stdout.as_mut().expect("a pipe");
    BufReader::new(out).read_line(&mut ready).expect("a line");
    assert_eq!(ready, "ready\n");
    let give = format!(
        "$c = IO::Socket::INET->new(q(10.91.1.{to}:7000)) or die $@; print $c q(x) x 65536; \
         $c->flush; shutdown $c, 1; print scalar <$c>"
    );
    let begin = Instant::now();
    assert_eq!(run(&mut perl(from, &give)).ok(), "done\n");
    let took = begin.elapsed();
    taker.wait().expect("it ended");
    took
}

#[test]
fn a_slow_link_is_slow_both_ways_and_only_there() {
    if !can_run("a_slow_link") {
        return;
    }
    let lab = Lab::start(3);
    lab.lab(&["slow", "2", "--rate", "400kbit"]).ok();
    assert_eq!(lab.state(2)["rate"], "400kbit");
    assert!(lab.lab(&["status"]).ok().contains("slow (400kbit)"));
    // 64 KiB at that rate take 1.3 s; a bucketful of 8 KiB goes at once.
    let (slow, quick) = (Duration::from_millis(900), Duration::from_millis(600));
    assert!(transfer(&lab, "1", "2") > slow, "to the slow node");
    assert!(transfer(&lab, "2", "1") > slow, "from the slow node");
    assert!(transfer(&lab, "1", "3") < quick, "between others");
    lab.lab(&["slow", "2", "--rate", "none"]).ok();
    assert!(transfer(&lab, "1", "2") < quick && transfer(&lab, "2", "1") < quick);
    assert!(lab.state(2)["rate"].is_null());
    lab.lab(&["slow", "2", "--rate", "400kbit"]).ok();
    lab.heal("2");
    assert!(lab.state(2)["rate"].is_null());
    assert!(transfer(&lab, "2", "3") < quick);
}

#[test]
fn nodes_come_and_go() {
    if !can_run("nodes_come_and_go") {
        return;
    }
    let lab = Lab::start(2);
    assert_eq!(lab.lab(&["add", "--no-wait"]).ok(), "3\n");
    let json = lab.lab(&["add", "--no-wait", "--count", "2", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["added"], serde_json::json!([4, 5]));
    assert_eq!(lab.sh("5", "hostname").ok(), "node5\n");
    let names = lab.sh("1", "getent hosts node3 node5").ok();
    assert!(names.contains("10.91.1.3") && names.contains("10.91.1.5"), "{names}");
    transfer(&lab, "1", "5");
    transfer(&lab, "4", "2");
    lab.sh("3", "echo x > f && sync f; echo x > /root/f").ok();
    lab.lab(&["remove", "3"]).ok();
    assert!(lab.sh("3", "true").failed().contains("no node `3`"));
    assert_eq!(lab.loops().len(), 4);
    assert_eq!(lab.lab(&["add", "--no-wait"]).ok(), "3\n");
    assert_eq!(lab.sh("3", "ls -A . /root/f 2>/dev/null; true").ok(), ".:\n", "all is new");
    transfer(&lab, "1", "3");
    // A dead one goes as well.
    lab.lab(&["kill", "4"]).ok();
    lab.lab(&["remove", "4"]).ok();
    let words = lab.lab(&["add", "--count", "61"]).failed();
    assert!(words.contains("room for 60"), "{words}");
}

#[test]
fn nothing_is_left_of_disks_whoever_is_killed() {
    if !can_run("nothing_is_left") {
        return;
    }
    let lab = Lab::start(3);
    let name = lab.0.clone();
    let device = run(Command::new("stat").args(["-c", "%Hd:%Ld"]).arg(lab.image("1"))).ok();
    assert_eq!(lab.loops().len(), 3);
    lab.lab(&["pause", "2"]).ok();
    run(Command::new("pkill").args([
        "-KILL",
        "-f",
        &format!("krg-lab keeper --name {name}( |$)"),
    ]));
    drop(lab);
    assert_eq!(loops_on(device.trim()), [""; 0]);
    assert_eq!(residue(&name), [""; 0]);
    for round in 0..8u64 {
        let lab = Lab::named();
        let mut start =
            lab.command(&["start", "3"]).stderr(Stdio::null()).spawn().expect("it starts");
        // Killed a little later each round, from before the first process to after the last.
        std::thread::park_timeout(Duration::from_millis(3 + round * 8));
        start.kill().expect("it was ours to kill");
        start.wait().expect("it ended");
        lab.lab(&["stop"]).ok();
        let all = run(Command::new("losetup").args(["--list", "--output", "BACK-FILE"])).ok();
        assert!(!all.contains(&lab.0), "{all}");
        assert_eq!(residue(&lab.0), [""; 0]);
    }
}

#[test]
fn without_disks_there_are_directories_and_the_faults_say_so() {
    if !can_run("without_disks") {
        return;
    }
    let lab = Lab::named();
    // In a mount namespace of its own no mkfs.ext4 succeeds.
    let script = r#"
        set -e
        mount --bind /bin/false "$(readlink -f "$(PATH=$PATH:/sbin command -v mkfs.ext4)")"
        lab() { word=$1; shift; "$LAB" "$word" --name "$NAME" "$@"; }
        trap 'lab stop >/dev/null' EXIT
        lab start 1 --no-wait >/dev/null
        lab exec 1 -- sh -c 'ls -A /var/lib/krg; echo x > /var/lib/krg/f'
        lab kill 1
        lab heal 1 --no-wait
        lab exec 1 -- cat /var/lib/krg/f
        lab status | tail -1
        lab powercut 1 2>&1 || echo failed $?
        lab fill 1 2>&1 || echo failed $?
        lab exec 1 -- cat /var/lib/krg/f"#;
    let said = run(Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .env("LAB", env!("CARGO_BIN_EXE_krg-lab"))
        .env("KRG_LAB_KRGD", STAND_IN)
        .env("NAME", &lab.0));
    let out = said.ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines.last()), ("x", Some(&"x")), "{out}");
    assert!(lines[1].ends_with("no disk"), "{out}");
    for (words, code) in [(lines[2], lines[3]), (lines[4], lines[5])] {
        assert!(words.contains("no disk of its own") && words.contains("mkfs.ext4"), "{out}");
        assert_eq!(code, "failed 1", "{out}");
    }
}
