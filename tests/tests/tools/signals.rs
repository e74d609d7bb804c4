//! Signals to processes of other nodes: from `krg kill`, and from anything in a session.

use super::cast::{SOON, gpid};
use super::checks::Checks;
use krg_tests::{Lab, Said, within};
use std::time::{Duration, Instant};

/// An answer comes within this, also that there is none.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Runs a command as a user who has processes of his own.
const AS_USER: &str = "setpriv --reuid=1000 --regid=1000 --clear-groups";

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    checks.check("a process of each node", || each_node(lab));
    checks.check("every signal", || signals(lab));
    checks.check("a user's and others' processes", || rights(lab));
    checks.check("nice values", || nice(lab));
    checks.check("from a session", || sessions(lab));
    checks.check("in a session, for who calls", || callers(lab));
    checks.check("nobody's numbers", || nobody(lab));
    checks.check("where it runs", || places(lab));
    checks.check("a node that does not answer", || silence(lab));
}

/// Its cluster pid, and a look at whether it runs.
fn sleeper(lab: &Lab, node: u32, prefix: &str) -> (u32, impl Fn() -> bool) {
    let local = lab.background(node, &format!("exec {prefix} sleep 55055"));
    within(SOON, || {
        let comm = lab.sh(node, &format!("cat /proc/{local}/comm")).out;
        if comm == "sleep\n" { Ok(()) } else { Err(comm) }
    });
    let runs =
        move || lab.sh(node, &format!("grep -q '^State:.[^Z]' /proc/{local}/status")).code == 0;
    (gpid(node, local), runs)
}

#[track_caller]
fn ends(runs: impl Fn() -> bool) {
    within(SOON, || if runs() { Err("it runs".to_owned()) } else { Ok(()) });
}

#[track_caller]
fn refused(said: &Said, words: &str) {
    assert!(said.code == 1 && said.err.contains(words), "not `{words}`: {said:?}");
}

#[track_caller]
fn wrong(lab: &Lab, line: &str, words: &str) {
    let said = lab.sh(1, line);
    assert!(said.code == 2 && said.err.contains(words), "not `{words}`: {said:?}");
}

fn each_node(lab: &Lab) {
    for node in 1..=3 {
        let (pid, runs) = sleeper(lab, node, "");
        lab.sh(1, &format!("krg kill {pid}")).ok();
        ends(runs);
        refused(&lab.sh(1, &format!("krg kill {pid}")), "No such process");
    }
    let (own, runs) = sleeper(lab, 1, "");
    lab.sh(1, &format!("krg kill {}", own - gpid(1, 0))).ok();
    ends(runs);
    let ((one, one_runs), (two, two_runs)) = (sleeper(lab, 2, ""), sleeper(lab, 3, ""));
    let said = lab.sh(1, &format!("krg kill -9 {one} 8388607 {two}"));
    refused(&said, "8388607: No such process");
    ends(one_runs);
    ends(two_runs);
}

fn signals(lab: &Lab) {
    let line = "for s in HUP USR1 CONT 34; do trap \"echo $s >> /tmp/signals\" $s; done; \
                echo ready >> /tmp/signals; while :; do sleep 0.05; done";
    let pid = gpid(3, lab.background(3, line));
    let heard = |words: &str| {
        within(SOON, || {
            let said = lab.sh(3, "cat /tmp/signals").out.replace('\n', " ");
            if said.trim() == words { Ok(()) } else { Err(said) }
        });
    };
    heard("ready");
    let mut words = "ready".to_owned();
    for (way, name) in [("-HUP", "HUP"), ("-s USR1", "USR1"), ("-SIGCONT", "CONT"), ("-34", "34")]
    {
        lab.sh(1, &format!("krg kill {way} {pid}")).ok();
        words += " ";
        words += name;
        heard(&words);
    }
    lab.sh(1, &format!("krg kill --signal 0 {pid}; krg kill -9 {pid}")).ok();
    wrong(lab, &format!("krg kill -NOSUCH {pid}"), "no such signal");
    wrong(lab, &format!("krg kill -s 65 {pid}"), "no such signal");
    assert!(lab.sh(1, "krg kill -l").ok().contains(" TERM "));
}

fn rights(lab: &Lab) {
    for node in 1..=3 {
        let (of_root, root_runs) = sleeper(lab, node, "");
        let (of_user, user_runs) = sleeper(lab, node, AS_USER);
        let (of_other, other_runs) =
            sleeper(lab, node, "setpriv --reuid=1001 --regid=1001 --clear-groups");
        for pid in [of_root, of_other] {
            let said = lab.sh(1, &format!("{AS_USER} krg kill -9 {pid}"));
            refused(&said, "Operation not permitted");
            refused(&lab.sh(1, &format!("{AS_USER} krg kill -0 {pid}")), "not permitted");
        }
        assert!(root_runs() && other_runs());
        lab.sh(1, &format!("{AS_USER} krg kill {of_user}")).ok();
        ends(user_runs);
        lab.sh(1, &format!("krg kill {of_root} {of_other}")).ok();
        ends(root_runs);
        ends(other_runs);
    }
}

fn nice(lab: &Lab) {
    let niced = |node: u32, pid: u32| {
        let said = lab.sh(node, &format!("ps -o ni= -p {}", pid - gpid(node, 0))).ok();
        said.trim().parse::<i32>().expect("a nice value")
    };
    for node in 1..=3 {
        let (of_root, _) = sleeper(lab, node, "");
        let (of_user, _) = sleeper(lab, node, AS_USER);
        lab.sh(1, &format!("krg renice -5 {of_root}; krg renice -n 3 {of_user}")).ok();
        assert_eq!((niced(node, of_root), niced(node, of_user)), (-5, 3));
        lab.sh(1, &format!("{AS_USER} krg renice 7 {of_user}")).ok();
        let lower = lab.sh(1, &format!("{AS_USER} krg renice 1 {of_user}"));
        refused(&lower, "Permission denied");
        let others = lab.sh(1, &format!("{AS_USER} krg renice 9 {of_root}"));
        refused(&others, "Operation not permitted");
        assert_eq!((niced(node, of_root), niced(node, of_user)), (-5, 7));
        lab.sh(1, &format!("krg kill {of_root} {of_user}")).ok();
        refused(
            &lab.sh(1, &format!("krg renice 1 {}", gpid(node, 4_000_000))),
            "No such process",
        );
    }
    wrong(lab, "krg renice 20 77", "from -20 to 19");
    wrong(lab, "krg renice 5", "which process");
}

/// What is in a session needs no command of krg's.
fn sessions(lab: &Lab) {
    let (pid, runs) = sleeper(lab, 3, "");
    lab.view(1, &format!("kill -0 {pid}")).ok();
    lab.view(1, &format!("kill {pid}")).ok();
    ends(runs);
    assert!(lab.view(1, &format!("kill {pid}")).err.contains("No such process"));
    // By its name, and by a program that asks the kernel itself.
    let (_, runs) = sleeper(lab, 2, AS_USER);
    lab.view(1, "pkill -U 1000 -x sleep").ok();
    ends(runs);
    let (pid, runs) = sleeper(lab, 2, "");
    lab.view(1, &format!("/usr/bin/python3 -c \"import os; os.kill({pid}, 9)\"")).ok();
    ends(runs);
}

/// A session is whose it is; what runs in it may be somebody else's.
fn callers(lab: &Lab) {
    let (of_root, runs) = sleeper(lab, 3, "");
    let said = lab.view(1, &format!("{AS_USER} kill {of_root}"));
    assert!(said.code != 0 && said.err.contains("not permitted"), "{said:?}");
    // Nor when its directory in /proc is root's, because nobody may look at it.
    let hidden = format!(
        "import ctypes, os; os.setgid(1000); os.setuid(1000); ctypes.CDLL(None).prctl(4, 0)\n\
         try: os.kill({of_root}, 9)\n\
         except PermissionError: print('refused')"
    );
    let said = lab.exec(1, &["krg", "exec", "--", "/usr/bin/python3", "-c", &hidden]).ok();
    assert_eq!(said, "refused\n");
    let said = lab.sh(1, &format!("{AS_USER} krg exec -- sh -c 'kill {of_root}'"));
    assert!(said.code != 0 && runs(), "{said:?}");
    let (of_user, user_runs) = sleeper(lab, 3, AS_USER);
    lab.view(1, &format!("{AS_USER} kill {of_user}")).ok();
    ends(user_runs);
    lab.sh(1, &format!("krg kill {of_root}")).ok();
    ends(runs);
}

fn nobody(lab: &Lab) {
    let absent = gpid(9, 5);
    refused(&lab.sh(1, &format!("krg kill {absent}")), "No such process");
    refused(&lab.sh(1, "krg kill 1073741824"), "No such process");
    for word in ["0", "x", "1.5", "99999999999"] {
        refused(&lab.sh(1, &format!("krg kill -- {word}")), "not the number of a process");
    }
    wrong(lab, "krg kill", "PID");
    wrong(lab, "krg kill -9", "which process");
}

fn places(lab: &Lab) {
    let (pid, _runs) = sleeper(lab, 3, "");
    assert_eq!(lab.sh(1, &format!("krg where {pid}")).ok(), "3\n");
    assert_eq!(lab.sh(1, &format!("{AS_USER} where_pid {pid}")).ok(), "3\n");
    let json = lab.sh(1, &format!("krg where --json {pid}")).ok();
    assert_eq!(json, format!("{{\"node\":3,\"pid\":{pid}}}\n"));
    assert_eq!(lab.sh(2, "krg where 1").ok(), "2\n");
    refused(&lab.sh(1, &format!("krg where {}", gpid(3, 4_000_000))), "No such process");
    lab.sh(1, &format!("krg kill {pid}")).ok();
}

fn silence(lab: &Lab) {
    let (pid, runs) = sleeper(lab, 3, "");
    lab.fault("pause", 3);
    let begun = Instant::now();
    refused(&lab.sh(1, &format!("krg kill {pid}")), "node 3");
    assert!(begun.elapsed() < ANSWER_MAX, "{:?}", begun.elapsed());
    let said = lab.view(1, &format!("kill {pid}"));
    assert!(said.code != 0 && begun.elapsed() < 2 * ANSWER_MAX, "{said:?}");
    lab.fault("resume", 3);
    within(SOON, || {
        let said = lab.sh(1, &format!("krg kill {pid}"));
        // One of those before may have been done late.
        if said.code == 0 || said.err.contains("No such") { Ok(()) } else { Err(said.err) }
    });
    ends(runs);
}
