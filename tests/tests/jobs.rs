//! Jobs: programs that are started on one node, and run on any. Labs of three nodes with CRIU.

#[path = "jobs/caps.rs"]
mod caps;
#[path = "jobs/checkpoint.rs"]
mod checkpoint;
#[path = "jobs/once.rs"]
mod once;
#[path = "jobs/programs.rs"]
mod programs;

use krg_sys::feature::has_pid_blocks;
use krg_tests::{LAB, Lab, Need, Said, can_run, within};
use serde_json::Value;
use std::time::Duration;

/// What is asked for is there within this.
const SOON: Duration = Duration::from_secs(5);
/// Runs a command as a user.
const AS_USER: &str = "setpriv --reuid=1000 --regid=1000 --clear-groups";
const PROBE: &str = include_str!("jobs/probe.py");
const MOVES: &str = include_str!("jobs/moves.py");
const OBSTACLES: &str = include_str!("jobs/obstacles.py");
const TERMINAL: &str = concat!(include_str!("jobs/screen.py"), include_str!("jobs/terminal.py"));
const HOP: &str = concat!(include_str!("jobs/screen.py"), include_str!("jobs/hop.py"));
/// Writes each number once, and what it has written last stays known to it alone: a second copy, or
/// one that went on from before, would write one again, or leave one out.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n >> /var/tmp/count; echo $n; \
                       sleep 0.02; done";

fn needs() -> [Need; 4] {
    let [root, fuse, ip] = LAB;
    [root, fuse, ip, Need::Suite("../sbin/criu")]
}

/// A line in a node, in English, that must not take long.
#[track_caller]
fn quick(lab: &Lab, node: u32, line: &str) -> Said {
    let said = lab.exec(node, &["timeout", "60", "bash", "-c", &format!("LC_ALL=C; {line}")]);
    assert_ne!(said.code, 124, "{line} hangs");
    said
}

#[track_caller]
fn put(lab: &Lab, node: u32, path: &str, text: &str) {
    std::fs::write(lab.path(node, path), text).expect(path);
}

/// What there is, by name.
#[track_caller]
fn job(lab: &Lab, name: &str) -> Option<Value> {
    let told = quick(lab, 1, "krg jobs --json").ok();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let mut jobs = told["jobs"].as_array().expect("jobs").iter();
    jobs.find(|job| job["name"] == name).cloned()
}

/// A counter in the background: its number.
#[track_caller]
fn counter(lab: &Lab, name: &str) -> u64 {
    quick(
        lab,
        1,
        &format!("rm -f /var/tmp/count; krg run -b --name {name} -- sh -c '{COUNTER}'"),
    )
    .ok();
    job(lab, name).expect("it runs")["job"].as_u64().expect("a number")
}

/// It counts on, and has written each number once. With how much it has written.
#[track_caller]
fn counts(lab: &Lab, name: &str) -> usize {
    let look = "cat /var/tmp/count 2> /dev/null | wc -l";
    let lines = || quick(lab, 1, look).ok().trim().parse().unwrap_or(0usize);
    let before = lines();
    within(SOON, || match lines() {
        now if now > before + 2 => Ok(()),
        now => Err(format!("{name}: {before} before, {now} now: {:?}", job(lab, name))),
    });
    let line = "n=$(wc -l < /var/tmp/count); head -n $n /var/tmp/count | cmp - <(seq $n)";
    quick(lab, 1, line).ok();
    before
}

/// Ends a job: nothing of it is left on any node.
#[track_caller]
fn end(lab: &Lab, name: &str) {
    let nodes = [1, 2, 3];
    for node in nodes {
        quick(lab, node, "pkill -KILL -f 'var/tmp/[c]ount'; true").ok();
    }
    nothing_is_left(lab, name);
}

#[track_caller]
fn nothing_is_left(lab: &Lab, name: &str) {
    within(Duration::from_secs(15), || {
        let look = "pgrep -a -x 'krg-job|krg-job-init|criu|krg-job-hook'; ls -A /run/krg/jobs \
                    2>/dev/null | grep -v '^numbers'; pgrep -a krg-mfs | grep /run/krg/root; true";
        let left: Vec<String> =
            [1, 2, 3].into_iter().map(|node| quick(lab, node, look).out).collect();
        let listed = job(lab, name).is_some();
        match listed || left.iter().any(|text| !text.is_empty()) {
            true => Err(format!("{left:?}, listed: {listed}")),
            false => Ok(()),
        }
    });
    assert_eq!(quick(lab, 1, "krg config list jobs/").ok(), "", "a record is left");
}

#[test]
fn jobs_run() {
    if !can_run("jobs_run", &needs()) {
        return;
    }
    let lab = Lab::start(3);
    for (name, step) in [
        ("ends", ends_are_told as fn(&Lab)),
        ("what it is started with", descriptors_are_those_of_the_starter),
        ("background", jobs_go_on_in_the_background),
        ("its numbers", processes_have_numbers_of_their_own),
        ("moves", jobs_move_and_nothing_is_lost),
        ("a user's", users_move_their_own),
        ("all that a program can have", everything_moves),
        ("locks", locks_move_or_it_is_said_that_they_do_not),
        ("locks of parts", locks_of_parts_move),
        ("a blocked node", a_blocked_node_is_not_gone_to),
        ("a terminal", terminals_follow),
        ("hop", a_job_asks_for_its_own_move),
        ("programs", programs::programs_come_to_the_same_end),
        ("capabilities", caps::shells_have_them_and_hand_them_on),
        ("no capabilities", caps::what_makes_no_sense_is_refused),
        ("capabilities of jobs", caps::jobs_move_only_with_theirs),
        ("what is seen", caps::who_may_sees_his_nodes_numbers),
        ("refusals", what_cannot_move_stays_and_is_told_why),
        ("obstacles", each_obstacle_has_its_sentence),
        ("in the view", a_job_is_in_the_view_once_under_one_number),
        ("saved", checkpoint::jobs_are_saved_and_begin_again),
        ("saved, a user's", checkpoint::saved_jobs_are_their_owners),
        ("frozen", checkpoint::frozen_jobs_use_no_processor),
        ("saved, with files", checkpoint::what_they_write_and_read_is_replugged),
        ("saved, by halves", checkpoint::half_a_version_is_none),
        ("objects", checkpoint::objects_of_system_v_are_saved),
    ] {
        eprintln!("{name}");
        step(&lab);
    }
}

fn ends_are_told(lab: &Lab) {
    for (line, code) in [
        ("krg run true", 0),
        ("krg run sh -c 'exit 7'", 7),
        ("krg run sh -c 'kill -TERM $$'", 143),
        ("krg run sh -c 'kill -9 $$'", 137),
        ("krg run /nosuch", 127),
        ("krg run /etc/passwd", 126),
        ("krg run", 2),
    ] {
        assert_eq!(quick(lab, 1, line).code, code, "{line}");
    }
    // A signal to the command goes to the job.
    let line = "krg run sh -c 'trap \"exit 9\" TERM; echo up; while :; do sleep 0.01; done' > up & \
                while ! grep -q up up; do sleep 0.01; done; kill %1; wait %1; echo $?";
    assert_eq!(quick(lab, 1, &format!("cd /var/tmp; {line}")).ok(), "9\n");
    nothing_is_left(lab, "sh");
}

fn descriptors_are_those_of_the_starter(lab: &Lab) {
    let big = "seq 300000 | krg run cat | krg run md5sum; seq 300000 | md5sum";
    let sums = quick(lab, 1, big).ok();
    let sums: Vec<&str> = sums.lines().collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
    for (line, wanted) in [
        ("echo x | krg run wc -c", "2\n"),
        ("cd /var/tmp; (echo a; krg run echo b; echo c) > o; cat o", "a\nb\nc\n"),
        ("cd /var/tmp; krg run sh -c 'echo 1; echo 2 >&2; echo 3' 2>&1 | cat", "1\n2\n3\n"),
        ("cd /var/tmp; printf 'one\\ntwo\\n' > i; (krg run head -c 4; cat) < i", "one\ntwo\n"),
        ("cd /usr; umask 27; A=b krg run sh -c 'pwd; umask; echo $A'", "/usr\n0027\nb\n"),
        ("krg run sh -c 'sleep 0.2; echo late' | cat", "late\n"),
        // Who does not read any more ends it.
        ("krg run yes | head -1; echo ${PIPESTATUS[0]}", "y\n141\n"),
        ("krg run sh -c 'exec 0<&-; sleep 0.1; echo on' < /dev/zero", "on\n"),
    ] {
        assert_eq!(quick(lab, 1, line).ok(), wanted, "{line}");
    }
    nothing_is_left(lab, "sh");
}

fn jobs_go_on_in_the_background(lab: &Lab) {
    let line = "krg run -b --name bg sh -c 'echo begun; read x < /var/tmp/fifo; echo $x'";
    quick(lab, 1, &format!("mkfifo /var/tmp/fifo; {line}")).ok();
    let known = job(lab, "bg").expect("it runs");
    let all = [&known["home"], &known["node"], &known["moves"], &known["terminal"]];
    assert_eq!(all.map(Value::to_string), ["1", "1", "0", "false"]);
    within(SOON, || match quick(lab, 1, "krg logs bg").ok() {
        said if said == "begun\n" => Ok(()),
        said => Err(said),
    });
    assert!(quick(lab, 2, "krg logs bg").err.contains("was started on node 1"));
    let ends = "(sleep 0.1; echo over > /var/tmp/fifo) & krg attach bg";
    assert_eq!(quick(lab, 1, ends).ok(), "begun\nover\n");
    nothing_is_left(lab, "bg");
}

fn processes_have_numbers_of_their_own(lab: &Lab) {
    let said = quick(lab, 1, "krg run sh -c 'echo $$; ls -d /proc/$$; ps -o pid= -p $$'").ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    let number: u32 = words[0].parse().expect("a number");
    assert_eq!(words[1..], [&format!("/proc/{number}")[..], words[0]]);
    assert!((32_768..65_536).contains(&number) || number < 300, "{number}");
    // Two never have the same.
    let both = "krg run -b --name a sleep 5; krg run -b --name b sleep 5; krg jobs --json";
    let told: Value =
        serde_json::from_str(quick(lab, 2, both).ok().lines().last().expect("JSON"))
            .expect("JSON");
    let numbers: Vec<u64> =
        told["jobs"].as_array().unwrap().iter().filter_map(|j| j["job"].as_u64()).collect();
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{told}");
    quick(lab, 2, "pkill -x sleep").ok();
    nothing_is_left(lab, "a");
}

fn jobs_move_and_nothing_is_lost(lab: &Lab) {
    let number = counter(lab, "mover");
    for (to, at) in [("2", 2), ("3", 3), ("2", 2), ("home", 1), ("3", 3), ("1", 1), ("2", 2)] {
        quick(lab, 1, &format!("krg migrate {number} {to}")).ok();
        assert_eq!(job(lab, "mover").expect("it runs")["node"], at);
        counts(lab, "mover");
    }
    // By a process of it, by its old name, from the node where it is.
    let pid = "$((2 << 22 | $(pgrep -f 'var/tmp/[c]ount' | tail -1)))";
    quick(lab, 2, &format!("migrate {pid} 3")).ok();
    counts(lab, "mover");
    // All that it has written has come home.
    let whole = "krg logs mover > /var/tmp/log; first=$(head -1 /var/tmp/log); \
                 cmp /var/tmp/log <(seq $first $((first + $(wc -l < /var/tmp/log) - 1)))";
    quick(lab, 1, whole).ok();
    end(lab, "mover");
}

fn users_move_their_own(lab: &Lab) {
    let line = "krg run -b --name mine sh -c 'echo $(id -u) > /var/tmp/mine; sleep 300'";
    quick(lab, 1, &format!("chmod 1777 /var/tmp; {AS_USER} {line}")).ok();
    let number = job(lab, "mine").expect("it runs")["job"].as_u64().expect("a number");
    let other = "setpriv --reuid=1001 --regid=1001 --clear-groups";
    let refused = quick(lab, 1, &format!("{other} krg migrate {number} 2"));
    assert!(refused.code == 1 && refused.err.contains("another user's"), "{refused:?}");
    assert_ne!(quick(lab, 1, &format!("{other} krg logs mine")).code, 0);
    quick(lab, 1, &format!("{AS_USER} krg migrate {number} 2")).ok();
    let owner = quick(lab, 2, "stat -c %u /proc/$(pgrep -x sleep)").ok();
    assert_eq!(owner, "1000\n");
    quick(lab, 2, "pkill -x sleep").ok();
    nothing_is_left(lab, "mine");
}

fn everything_moves(lab: &Lab) {
    put(lab, 1, "/var/tmp/probe.py", PROBE);
    put(lab, 1, "/var/tmp/moves.py", MOVES);
    let said = quick(lab, 1, "timeout 55 python3 /var/tmp/moves.py /var/tmp/probe.py 12 3 7");
    eprintln!("{}", said.ok().trim());
    let as_user = "timeout 55 python3 /var/tmp/moves.py /var/tmp/probe.py 6 3 8";
    eprintln!("{}", quick(lab, 1, &format!("{AS_USER} {as_user}")).ok().trim());
    nothing_is_left(lab, "probe7");
}

fn locks_move_or_it_is_said_that_they_do_not(lab: &Lab) {
    let flocked = "krg run -b --name lock flock /var/tmp/lock sleep 300";
    quick(lab, 1, flocked).ok();
    let number = job(lab, "lock").expect("it runs")["job"].as_u64().expect("a number");
    within(SOON, || match quick(lab, 1, "flock -n /var/tmp/lock true").code {
        1 => Ok(()),
        code => Err(code.to_string()),
    });
    quick(lab, 1, &format!("krg migrate {number} 2")).ok();
    for (node, path) in [(1, "/var/tmp/lock"), (3, "/mfs/1/var/tmp/lock")] {
        assert_eq!(quick(lab, node, &format!("flock -n {path} true")).code, 1, "not locked");
    }
    let refused = quick(lab, 1, &format!("krg migrate {number} 3"));
    assert!(refused.code == 1 && refused.err.contains("locked files"), "{refused:?}");
    quick(lab, 2, "pkill -x sleep").ok();
    nothing_is_left(lab, "lock");
    let of_process = "import fcntl,time; f = open(\"/var/tmp/l\", \"w\"); \
                      fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(300)";
    quick(lab, 1, &format!("krg run -b --name posix python3 -c '{of_process}'")).ok();
    within(SOON, || match quick(lab, 1, "krg logs posix").ok() {
        said if said == "1\n" => Ok(()),
        said => Err(said),
    });
    let number = job(lab, "posix").expect("it runs")["job"].as_u64().expect("a number");
    let refused = quick(lab, 1, &format!("krg migrate {number} 2"));
    assert!(refused.code == 1 && refused.err.contains("lock by fcntl(2)"), "{refused:?}");
    quick(lab, 1, "pkill -x python3").ok();
    nothing_is_left(lab, "posix");
}

/// Locks of open files on parts of them: they go along from home, and keep others out.
fn locks_of_parts_move(lab: &Lab) {
    let program = "import fcntl,os,struct,sys,time; f = open(\"/var/tmp/parts\", \"r+\"); \
                   lock = lambda kind, start, length: fcntl.fcntl(f, 37, \
                   struct.pack(\"hhqqi4x\", kind, 0, start, length, 0)); \
                   lock(fcntl.F_WRLCK, 0, 10); lock(fcntl.F_RDLCK, 100, 10); \
                   print(1, flush=True); time.sleep(300)";
    let run =
        format!("truncate -s 200 /var/tmp/parts; krg run -b --name parts python3 -c '{program}'");
    quick(lab, 1, &run).ok();
    within(SOON, || match quick(lab, 1, "krg logs parts").ok() {
        said if said == "1\n" => Ok(()),
        said => Err(said),
    });
    let number = job(lab, "parts").expect("it runs")["job"].as_u64().expect("a number");
    // Of another process: what it may lock.
    let tries = "import fcntl,sys; f = open(sys.argv[1], \"r+\")\n\
                 for kind, start in ((fcntl.LOCK_EX, 5), (fcntl.LOCK_SH, 5), (fcntl.LOCK_EX, 105), \
                 (fcntl.LOCK_SH, 105), (fcntl.LOCK_EX, 50)):\n\
                 \x20try: fcntl.lockf(f, kind | fcntl.LOCK_NB, 2, start); print(1, end=\"\")\n\
                 \x20except OSError: print(0, end=\"\")\n";
    put(lab, 1, "/var/tmp/tries.py", tries);
    put(lab, 3, "/var/tmp/tries.py", tries);
    let may =
        |node: u32, path: &str| quick(lab, node, &format!("python3 /var/tmp/tries.py {path}"));
    assert_eq!(may(1, "/var/tmp/parts").ok(), "00011", "at home");
    quick(lab, 1, &format!("krg migrate {number} 2")).ok();
    for (node, path) in [(1, "/var/tmp/parts"), (3, "/mfs/1/var/tmp/parts")] {
        assert_eq!(may(node, path).ok(), "00011", "from node {node}");
    }
    let stays = quick(lab, 1, &format!("krg migrate --dry-run {number} 3"));
    assert!(stays.code == 1 && stays.out.contains("locked files of its home"), "{stays:?}");
    quick(lab, 2, "pkill -x python3").ok();
    nothing_is_left(lab, "parts");
    within(SOON, || match may(1, "/var/tmp/parts").ok() {
        free if free == "11111" => Ok(()),
        held => Err(format!("it has ended, and holds {held}")),
    });
}

/// A node that takes no jobs of others is not gone to; those that are its own come home.
fn a_blocked_node_is_not_gone_to(lab: &Lab) {
    let number = counter(lab, "blocked");
    quick(lab, 2, "mosctl block").ok();
    let sentence = "node 2 takes no jobs of other nodes (`mosctl block` was said there)";
    let dry = quick(lab, 1, &format!("krg migrate --dry-run {number} 2"));
    assert_eq!((dry.code, dry.out.trim()), (1, sentence));
    let refused = quick(lab, 1, &format!("krg migrate {number} 2"));
    assert!(refused.code == 1 && refused.err.trim().ends_with(sentence), "{refused:?}");
    assert_eq!(refused.err.trim().lines().count(), 1, "{refused:?}");
    counts(lab, "blocked");
    quick(lab, 1, &format!("mosctl block; krg migrate {number} 3; krg migrate {number} home"))
        .ok();
    quick(lab, 2, "mosctl noblock").ok();
    quick(lab, 1, &format!("mosctl noblock; krg migrate {number} 2")).ok();
    counts(lab, "blocked");
    end(lab, "blocked");
}

fn terminals_follow(lab: &Lab) {
    put(lab, 1, "/var/tmp/terminal.py", TERMINAL);
    let said = quick(lab, 1, "timeout 55 python3 /var/tmp/terminal.py 2>&1");
    assert_eq!(said.code, 0, "{}", said.out);
    nothing_is_left(lab, "terminal");
}

fn a_job_asks_for_its_own_move(lab: &Lab) {
    // Its own number is the cluster's where there are such.
    let own = if has_pid_blocks() { "$$" } else { "self" };
    let asks = format!(
        "hostname; krg migrate self 2; until [ $(hostname) = node2 ]; do sleep 0.02; done; \
         hostname; krg migrate --json {own} home; until [ $(hostname) = node1 ]; do \
         sleep 0.02; done; hostname; krg migrate self 1; krg migrate self 9"
    );
    let said = quick(lab, 1, &format!("krg run -- sh -c '{asks}' 2>&1"));
    let wanted = "node1\nnode2\n{\"later\":true}\nnode1\nkrg migrate: self: it is there already\n\
                  krg migrate: self: there is no node 9\n";
    assert_eq!((said.out.as_str(), said.code), (wanted, 1));
    let refused = quick(lab, 1, "krg migrate self 2");
    assert!(refused.code == 1 && refused.err.contains("is of no job"), "{refused:?}");
    put(lab, 1, "/var/tmp/hop.py", HOP);
    let said = quick(lab, 1, "timeout 55 python3 /var/tmp/hop.py 2>&1");
    assert_eq!(said.code, 0, "{}", said.out);
    nothing_is_left(lab, "hop");
}

fn what_cannot_move_stays_and_is_told_why(lab: &Lab) {
    let number = counter(lab, "stays");
    for (line, code, words) in [
        ("krg migrate 4000000000 2", 1, "there is no"),
        ("krg migrate 33000 2", 1, "there is no process 33000"),
        ("krg migrate x 2", 1, "not the number"),
        ("krg migrate $((1 << 22 | 1)) 2", 1, "is of no job"),
        (&format!("krg migrate {number} 9"), 1, "there is no node 9"),
        (&format!("krg migrate {number} 0"), 1, "not the number"),
        (&format!("krg migrate {number} 1"), 1, "there already"),
        (&format!("krg migrate {number}"), 2, "NODE"),
    ] {
        let said = quick(lab, 1, line);
        assert!(said.code == code && said.err.contains(words), "{line}: {said:?}");
    }
    counts(lab, "stays");
    // Two at once: one of them moves it.
    let both = format!(
        "krg migrate {number} 2 & a=$!; krg migrate {number} 3; b=$?; wait $a; echo $(($? + b))"
    );
    assert_eq!(quick(lab, 1, &both).ok(), "1\n");
    counts(lab, "stays");
    end(lab, "stays");
    // What CRIU refuses, in its words; it runs on.
    let server = "import socket,time; s = socket.create_server((\"127.0.0.1\", 0)); \
                  c = socket.create_connection(s.getsockname()); t = s.accept(); \
                  print(1, flush=True); time.sleep(300)";
    quick(lab, 1, &format!("krg run -b --name tcp python3 -c '{server}'")).ok();
    within(SOON, || match quick(lab, 1, "krg logs tcp").ok() {
        said if said == "1\n" => Ok(()),
        said => Err(said),
    });
    let number = job(lab, "tcp").expect("it runs")["job"].as_u64().expect("a number");
    let refused = quick(lab, 1, &format!("krg migrate {number} 2"));
    assert!(refused.code == 1 && refused.err.contains("TCP"), "{refused:?}");
    assert_eq!(quick(lab, 1, "pgrep -c -x python3").ok(), "1\n");
    quick(lab, 1, "pkill -x python3").ok();
    nothing_is_left(lab, "tcp");
}

fn each_obstacle_has_its_sentence(lab: &Lab) {
    put(lab, 1, "/var/tmp/obstacles.py", OBSTACLES);
    let said =
        quick(lab, 1, "chmod 1777 /var/tmp; timeout 55 python3 /var/tmp/obstacles.py").ok();
    eprintln!("{}", said.trim());
    nothing_is_left(lab, "tcp");
    // A process that is of no job.
    let line = "sleep 60 & krg migrate --dry-run $((1 << 22 | $!)) 2; echo $?; kill $!";
    let said = quick(lab, 1, line);
    assert!(said.out == "1\n" && said.err.contains("is of no job"), "{said:?}");
    // A node without CRIU.
    let number = counter(lab, "poor");
    let hide = "for c in $(ls /usr/local/lib/krg/criu /usr/sbin/criu 2> /dev/null); do \
                mount --bind /dev/null $c; done; krg doctor | grep '^criu'";
    let told = quick(lab, 3, hide).out;
    assert!(told.contains("without it jobs run where they were started"), "{told}");
    let said = quick(lab, 1, &format!("krg migrate {number} 3"));
    assert!(said.code == 1 && said.err.contains("node 3 has no CRIU"), "{said:?}");
    counts(lab, "poor");
    quick(lab, 3, "umount /usr/local/lib/krg/criu; umount /usr/sbin/criu; true").ok();
    quick(lab, 1, &format!("krg migrate {number} 3")).ok();
    counts(lab, "poor");
    end(lab, "poor");
}

/// Where a kernel does not let it have numbers for life.
fn a_job_is_in_the_view_as_all_others_are(lab: &Lab) {
    let number = counter(lab, "seen");
    for (to, at) in [("2", 2u64), ("3", 3), ("home", 1)] {
        quick(lab, 2, &format!("krg migrate {number} {to}")).ok();
        assert_eq!(quick(lab, 3, &format!("krg where {number}")).ok(), format!("{at}\n"));
        let look = "krg ps -e -o pid=,args= | grep 'sh -c [n]=0' | grep -o '^ *[0-9]*'";
        within(SOON, || {
            let shown = quick(lab, 2, look).out;
            let nodes: Vec<u64> = shown
                .split_whitespace()
                .filter_map(|n| Some(n.parse::<u64>().ok()? >> 22))
                .collect();
            let is_there = !nodes.is_empty() && nodes.iter().all(|node| *node == at);
            if is_there { Ok(()) } else { Err(shown) }
        });
        counts(lab, "seen");
    }
    quick(lab, 3, &format!("krg kill -KILL {number}")).ok();
    nothing_is_left(lab, "seen");
}

/// One number for life, wherever it runs, and never twice.
fn a_job_is_in_the_view_once_under_one_number(lab: &Lab) {
    if !has_pid_blocks() {
        return a_job_is_in_the_view_as_all_others_are(lab);
    }
    let number = counter(lab, "seen");
    let proc = format!("/cluster/proc/{number}");
    let look = format!("krg ps -e -o pid= | grep -cx ' *{number}'; cat {proc}/stat");
    let read = |file: &str| quick(lab, 2, &format!("cat {proc}/{file}")).ok();
    assert_eq!(["where", "nmigs", "cantmove"].map(read), ["0\n", "0\n", ""]);
    for (to, at, moves) in [("2", 2, 1), ("3", 3, 2), ("0", 1, 3)] {
        quick(lab, 1, &format!("echo {to} > {proc}/goto")).ok();
        assert_eq!(job(lab, "seen").expect("it runs")["node"], at);
        let place = if at == 1 { "0\n".to_owned() } else { format!("{at}\n") };
        assert_eq!(["where", "nmigs"].map(read), [place, format!("{moves}\n")]);
        for node in [1, 2, 3] {
            let said = quick(lab, node, &look).ok();
            let (count, stat) = said.split_once('\n').expect("two lines");
            assert_eq!(count, "1", "on node {node}: {said}");
            assert!(stat.starts_with(&format!("{number} (sh) ")), "{stat}");
            let place = quick(lab, node, &format!("krg where {number}; where_pid {number}")).ok();
            assert_eq!(place, format!("{at}\n{at}\n"));
        }
        counts(lab, "seen");
    }
    // It sends itself away, and is not waited for.
    let own = "krg run -b --name own sh -c 'echo 2 > /cluster/proc/$$/goto; echo $?; \
               exec sleep 300'";
    let own = quick(lab, 1, own).ok().trim().to_owned();
    within(SOON, || match quick(lab, 3, &format!("krg where {own}")).out {
        at if at == "2\n" => Ok(()),
        at => Err(at),
    });
    assert_eq!(quick(lab, 1, "krg logs own").ok(), "0\n");
    for (line, words) in [
        (format!("echo x > {proc}/goto"), "Invalid argument"),
        (format!("echo 9 > {proc}/goto"), "No such process"),
        (format!("{AS_USER} sh -c 'echo 2 > {proc}/goto'"), "Permission denied"),
        (format!("echo 1 > {proc}/where"), "Read-only"),
        ("echo 2 > /cluster/proc/1/goto".to_owned(), "Read-only"),
    ] {
        let said = quick(lab, 1, &line);
        assert!(said.code != 0 && said.err.contains(words), "{line}: {said:?}");
    }
    // Signals reach it by its number, wherever it is: by the command, and in a session.
    quick(lab, 1, &format!("krg kill -KILL {own}")).ok();
    quick(lab, 1, &format!("krg migrate {number} 2")).ok();
    quick(lab, 3, &format!("krg exec -- kill -KILL {number}")).ok();
    nothing_is_left(lab, "own");
    nothing_is_left(lab, "seen");
    assert!(quick(lab, 1, &format!("krg where {number}")).err.contains("No such process"));
}
