//! What looking costs the nodes that are looked at: counted in passes over their processes.

use super::cast::{SOON, gpid};
use super::checks::Checks;
use krg_tests::{Lab, within};

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    checks.check("a birth and a death", || at_once(lab));
    checks.check("two viewers", || viewers(lab));
    checks.check("a thousand looks", || looks(lab));
}

/// The passes node 3 has made, as its own viewer has it: who reads it looks at nothing else.
#[track_caller]
fn passes(lab: &Lab) -> u64 {
    let said =
        lab.sh(3, "cat /cluster/proc/loadavg >/dev/null; cat /cluster/proc/nodes/node3/passes");
    said.ok().trim().parse().expect("a number")
}

/// Who starts or ends a process and then looks finds it so, time and again.
fn at_once(lab: &Lab) {
    for _ in 0..20 {
        let local = lab.background(3, "exec sleep 88089");
        let pid = gpid(3, local).to_string();
        let listed = |lab: &Lab| {
            let said = lab.sh(1, "krg exec -- ps -e -o pid= -o args=").ok();
            let of_it = said.lines().find(|line| line.split_whitespace().next() == Some(&pid));
            of_it.map(|line| line.trim().to_owned())
        };
        // The shell that is to become it may not have done so.
        let seen = listed(lab);
        assert!(seen.is_some(), "{pid} has begun");
        within(SOON, || match listed(lab) {
            Some(line) if line.ends_with("sleep 88089") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        lab.sh(3, &format!("kill {local}; while [ -e /proc/{local} ]; do :; done")).ok();
        assert_eq!(listed(lab), None, "{pid} has ended");
    }
}

/// So many ps, one after the other, by each of these nodes; the passes that node 3 made meanwhile
/// and the seconds it took.
#[track_caller]
fn watched(lab: &Lab, nodes: &[u32]) -> (u64, f64) {
    let before = passes(lab);
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        let looks = |node: u32| {
            let line = "end=$(($(date +%s) + 6)); while [ $(date +%s) -lt $end ]; do \
                        ps aux >/dev/null; done";
            lab.exec(node, &["krg", "exec", "--", "sh", "-c", line]).ok();
        };
        let all: Vec<_> = nodes.iter().map(|node| scope.spawn(move || looks(*node))).collect();
        all.into_iter().for_each(|one| one.join().expect("it looks"));
    });
    (passes(lab) - before, begun.elapsed().as_secs_f64())
}

/// They share what is found: a pass a second, whoever looks, and however often.
fn viewers(lab: &Lab) {
    let (one, one_s) = watched(lab, &[1]);
    let (two, two_s) = watched(lab, &[1, 2]);
    assert!(one >= 3, "somebody looked: {one}");
    for (passes, seconds) in [(one, one_s), (two, two_s)] {
        assert!(passes as f64 <= seconds + 2.0, "{passes} passes in {seconds} s");
    }
    assert!(two <= one + 2, "one viewer: {one} passes in {one_s} s; two: {two} in {two_s} s");
}

/// When nobody looks any more nothing is done.
fn looks(lab: &Lab) {
    let line = "i=0; while [ $i -lt 1000 ]; do read -r _ < /cluster/proc/12582913/stat; \
                i=$((i + 1)); done; ls /cluster/proc > /dev/null";
    lab.sh(1, line).ok();
    // The last look is followed by a few more passes. Then there are none for as long again.
    let quiet = "a=$(cat /cluster/proc/nodes/node3/passes); timeout 6 tail -f /dev/null; \
                 b=$(cat /cluster/proc/nodes/node3/passes); echo $((b - a))";
    within(SOON, || match lab.sh(1, quiet).ok().trim() {
        "0" => Ok(()),
        passes => Err(format!("{passes} passes in 6 s while nobody looked")),
    });
}
