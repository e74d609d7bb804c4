//! Capabilities: who has which, and what they are good for.

use crate::once::Held;
use crate::{AS_USER, SOON, counter, counts, end, job, nothing_is_left, quick};
use krg_sys::feature::has_pid_blocks;
use krg_tests::{Lab, within};
use serde_json::Value;
use std::time::Duration;

/// What a process has, as a node tells it: permitted, effective, inheritable permitted and
/// inheritable effective, in octal.
#[track_caller]
fn sets(lab: &Lab, node: u32, pid: &str) -> String {
    let shown = quick(lab, node, &format!("krgcapset -k {pid} -s")).ok();
    let numbers = shown.lines().filter_map(|line| line.rsplit_once(": ").map(|(_, n)| n));
    numbers.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn number(lab: &Lab, name: &str) -> u64 {
    job(lab, name).expect("it runs")["job"].as_u64().expect("a number")
}

pub fn shells_have_them_and_hand_them_on(lab: &Lab) {
    // Of the calling shell, by the old name and the new one.
    for (line, wanted) in [
        ("krgcapset -s | head -1", "Permitted Capabilities: 01067\n"),
        ("krg_capset -e +CAN_MIGRATE; krgcapset -s | sed -n 4p", "Effective Capabilities: 03\n"),
        ("krg capset -e 3; krgcapset --show | sed -n 4p", "Effective Capabilities: 03\n"),
        // A child has what was meant for it, and its children too.
        (
            "krgcapset -d +CHECKPOINTABLE; bash -c 'bash -c \"krgcapset -s; true\"; true' | \
             grep Eff",
            "Effective Capabilities: 021\nInheritable Effective Capabilities: 021\n",
        ),
        // It asks before there is no way back.
        (
            "echo n | krgcapset -e 0 > /dev/null; krgcapset -s | sed -n 4p",
            "Effective \
          Capabilities: 01\n",
        ),
        (
            "echo y | krgcapset -e 0 > /dev/null; krgcapset -s | sed -n 4p",
            "Effective \
          Capabilities: 00\n",
        ),
        (
            "krgcapset -f -e 0; krgcapset -e 1 2>&1 | head -1 | sed 's/process [0-9]*/process P/'",
            "Unable to set capabilities of process P (res: -1, errno: 1))\n",
        ),
        (
            "krgcapset -p -DISTANT_FORK -i 01063; krgcapset -p 01067; krgcapset -s | head -1",
            "Permitted Capabilities: 01063\n",
        ),
    ] {
        assert_eq!(quick(lab, 1, line).ok(), wanted, "{line}");
    }
    // Who was born before a change keeps what he had; looked at and changed from another node.
    let line = "(bash -c 'sleep 311 & krgcapset -d +CAN_MIGRATE; sleep 312 & \
                wait') > /dev/null 2>&1 & until pgrep -x -f 'sleep 312'; do sleep 0.05; done";
    quick(lab, 3, line).ok();
    let pid = |pattern: &str| {
        let found = quick(lab, 3, &format!("pgrep -x -f '{pattern}'")).ok();
        (3u32 << 22 | found.trim().parse::<u32>().expect("a pid")).to_string()
    };
    let (older, younger) = (pid("sleep 311"), pid("sleep 312"));
    assert_eq!(sets(lab, 1, &older), "01067 01 01067 01");
    assert_eq!(sets(lab, 2, &younger), "01067 03 01067 03");
    quick(lab, 2, &format!("krg capset {older} -e +USE_REMOTE_MEMORY")).ok();
    assert_eq!(sets(lab, 1, &older), "01067 041 01067 01");
    // And when its parent has ended.
    quick(lab, 3, "sleep 3; kill $(ps -o ppid= -p $(pgrep -x -f 'sleep 312')); sleep 5").ok();
    assert_eq!(sets(lab, 2, &younger), "01067 03 01067 03");
    quick(lab, 3, "pkill -x -f 'sleep 31[12]'").ok();
    nothing_is_kept(lab);
}

pub fn what_makes_no_sense_is_refused(lab: &Lab) {
    let own = "krgcapset -k $$";
    for (line, code, words) in [
        ("krgcapset -e NOSUCH".into(), 1, "Unrecognized capability: NOSUCH\nAuthorized"),
        ("krgcapset -e ''".into(), 1, "Unrecognized capability: \n"),
        ("krg capset -e 99999999999".into(), 2, "Unrecognized capability: 99999999999"),
        ("krgcapset -k 4000000000 -s".into(), 1, "(res: -1, errno: 3))"),
        ("krgcapset -k $((9 << 22 | 1)) -s".into(), 1, "errno: 3"),
        ("krgcapset -k 33000 -s".into(), 1, "Unable to get capabilities of process 33000"),
        ("true & wait $!; krgcapset -k $! -s".into(), 1, "errno: 3"),
        ("krgcapset -k 0 -s".into(), 2, "0"),
        ("krg capset nosuch".into(), 1, "there is no job nosuch"),
        (format!("{own} -e +DEBUG"), 1, "errno: 38"),
        (format!("{own} -p -CAN_MIGRATE"), 1, "errno: 22"),
        (format!("{AS_USER} krg capset $$ -e +CAN_MIGRATE || exit 1"), 1, "another user's"),
        (format!("{AS_USER} krgcapset -k $((2 << 22 | 2)) -e 3"), 1, "errno: 1"),
        ("krg run --cap +NOSUCH true".into(), 1, "Unrecognized capability: NOSUCH"),
        ("krg run --cap +DEBUG true".into(), 1, "not supported: DEBUG"),
    ] {
        let said = quick(lab, 1, &line);
        assert!(said.code == code && said.err.contains(words), "{line}: {said:?}");
    }
    // One's own are.
    let line = format!(
        "{AS_USER} bash -c 'krgcapset -e +CAN_MIGRATE && krgcapset -s; true' | sed -n 4p"
    );
    assert_eq!(quick(lab, 2, &line).ok(), "Effective Capabilities: 03\n");
}

pub fn jobs_move_only_with_theirs(lab: &Lab) {
    let line = "krg run -b --name kept --cap -CAN_MIGRATE -- sh -c 'sleep 321 & wait'";
    quick(lab, 1, line).ok();
    let id = number(lab, "kept");
    assert_eq!(sets(lab, 2, &id.to_string()), "01067 021 01067 021");
    let refused = quick(lab, 2, &format!("krg migrate {id} 2"));
    let words = format!("process {id} has no CAN_MIGRATE: `krg capset {id} -e +CAN_MIGRATE`");
    assert!(refused.code == 1 && refused.err.contains(&words), "{refused:?}");
    quick(lab, 3, &format!("krg capset {id} -e +CAN_MIGRATE")).ok();
    quick(lab, 3, &format!("krg migrate {id} 2")).ok();
    // What each has goes along: the child has none still.
    let child = |node: u32| {
        let line = match has_pid_blocks() {
            true => "awk '/NSpid/ {print $3}' /proc/$(pgrep -x -f 'sleep 321')/status".to_owned(),
            false => format!("echo $(({node} << 22 | $(pgrep -x -f 'sleep 321')))"),
        };
        quick(lab, node, &line).ok().trim().to_owned()
    };
    assert_eq!(sets(lab, 1, &id.to_string()), "01067 023 01067 021");
    assert_eq!(sets(lab, 1, &child(2)), "01067 021 01067 021");
    let refused = quick(lab, 2, "krg migrate $((2 << 22 | $(pgrep -x -f 'sleep 321'))) 3");
    assert!(refused.code == 1 && refused.err.contains("has no CAN_MIGRATE"), "{refused:?}");
    let more = format!("krgcapset -k {} -e +CAN_MIGRATE,SEE_LOCAL_PROC_STAT", child(2));
    quick(lab, 1, &more).ok();
    quick(lab, 2, "krg migrate $((2 << 22 | $(pgrep -x -f 'sleep 321'))) 3").ok();
    assert_eq!(sets(lab, 1, &child(3)), "01067 01023 01067 021");
    let told = quick(lab, 1, "krg capset --json kept").ok();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["node"], &told["effective"][1]), (&3.into(), &"CAN_MIGRATE".into()));
    quick(lab, 1, "krg capset kept -e -CAN_MIGRATE").ok();
    assert_eq!(quick(lab, 1, &format!("krg migrate {id} home")).code, 1);
    quick(lab, 3, "pkill -x -f 'sleep 321'").ok();
    nothing_is_left(lab, "kept");
    nothing_is_kept(lab);
}

/// While it moves it cannot be taken from it; others can.
pub fn what_moves_needs_its_own(lab: &Lab) {
    let number = counter(lab, "once");
    let held = Held::at(lab, 1, "sent");
    std::thread::scope(|threads| {
        let moved = threads.spawn(|| quick(lab, 1, &format!("krg migrate {number} 2")));
        held.reached(&moved);
        let refused = quick(lab, 3, &format!("krgcapset -k {number} -e -CAN_MIGRATE"));
        assert!(refused.code == 1 && refused.err.contains("errno: 16"), "{refused:?}");
        quick(lab, 1, &format!("krgcapset -k {number} -e -CHECKPOINTABLE")).ok();
        held.tell("go");
        moved.join().expect("the thread").ok();
    });
    assert_eq!(sets(lab, 3, &number.to_string()), "01067 03 01067 023");
    quick(lab, 3, &format!("krgcapset -k {number} -e -CAN_MIGRATE")).ok();
    assert_eq!(quick(lab, 3, &format!("krg migrate {number} 3")).code, 1);
    counts(lab, "once");
    end(lab, "once");
    nothing_is_kept(lab);
}

pub fn who_may_sees_his_nodes_numbers(lab: &Lab) {
    let (all, own) = ("grep -c '^cpu[0-9]' /cluster/proc/stat", "grep -c '^cpu[0-9]' /proc/stat");
    let cpus = |line: &str| quick(lab, 2, line).ok();
    let (all_cpus, own_cpus) = (cpus(all), cpus(own));
    assert_ne!(all_cpus, own_cpus);
    let local = "krgcapset -d +SEE_LOCAL_PROC_STAT";
    // At once, to its holders, and to nobody else, however they take turns.
    let turns = format!(
        "for i in 1 2 3 4 5; do {all}; (bash -c '{local}; {all}; true'); \
         bash -c '{local}; {all}; krgcapset -d -SEE_LOCAL_PROC_STAT; {all}; true'; done"
    );
    let (a, o) = (&all_cpus, &own_cpus);
    assert_eq!(cpus(&turns), format!("{a}{o}{o}{a}").repeat(5));
    // And where the view is on /proc.
    let session = format!("krg exec -- bash -c '{own}; {local}; {own}; true'");
    assert_eq!(cpus(&session), format!("{a}{o}"));
    let total = "bash -c 'krgcapset -d +SEE_LOCAL_PROC_STAT; cd /cluster/proc; \
                 head -1 meminfo; grep -c ^processor cpuinfo; cut -d. -f1 uptime; \
                 cut -d\" \" -f4 loadavg | grep -c /; cd /proc; head -1 meminfo; \
                 grep -c ^processor cpuinfo; cut -d. -f1 uptime; true'";
    let said = cpus(total);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], lines[4..6], "{said}");
    let seconds = |line: &str| line.parse::<i64>().expect("seconds");
    assert!((seconds(lines[2]) - seconds(lines[6])).abs() <= 1, "{said}");
    nothing_is_kept(lab);
    // What the kernel holds for all is asked for again while somebody sees something else.
    let kind = "stat -c %F /cluster/proc/loadavg";
    let taken = format!("{kind}; (bash -c '{local}; {kind}; true'); true");
    assert_eq!(cpus(&taken), "regular file\nsymbolic link\n");
    nothing_is_kept(lab);
}

/// Of those who have ended.
#[track_caller]
fn nothing_is_kept(lab: &Lab) {
    within(SOON + Duration::from_secs(10), || {
        match quick(lab, 1, "krg config list caps/").ok() {
            kept if kept.is_empty() => Ok(()),
            kept => Err(kept),
        }
    });
}
