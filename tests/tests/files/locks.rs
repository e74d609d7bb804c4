//! Locks: what one process of the cluster has locked, no other one gets, wherever both are.

use super::place::{far, make, on};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};
use std::time::Duration;

/// A lock is had, a waiting process is gone, within this.
const PROMPT: Duration = Duration::from_secs(1);
/// Nobody has got a lock until then that was not to be had.
const A_WHILE: Duration = Duration::from_millis(300);
/// Nodes and, on node 1, two processes.
const PLACES: [u32; 4] = [1, 2, 3, 1];

/// fcntl(2) and flock(2), as steps of a hand.
struct Way {
    name: &'static str,
    exclusive: &'static str,
    shared: &'static str,
    waits: &'static str,
    free: &'static str,
}

const WAYS: [Way; 2] = [
    Way {
        name: "fcntl",
        exclusive: "lock('l', 'w')",
        shared: "lock('l', 'r')",
        waits: "lock('l', 'w', True)",
        free: "lock('l', 'u')",
    },
    Way {
        name: "flock",
        exclusive: "flock('l', fcntl.LOCK_EX | fcntl.LOCK_NB)",
        shared: "flock('l', fcntl.LOCK_SH | fcntl.LOCK_NB)",
        waits: "flock('l', fcntl.LOCK_EX)",
        free: "flock('l', fcntl.LOCK_UN)",
    },
];

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "lock");
    for way in &WAYS {
        let name = way.name;
        checks.check(&format!("{name}: exclusion"), || exclusion(lab, way));
        checks.check(&format!("{name}: waiting"), || waiting(lab, way));
        checks.check(&format!("{name}: a waiting process is killed"), || {
            waiters_can_be_killed(lab, way);
        });
        checks.check(&format!("{name}: the holder is killed"), || holders_that_die(lab, way));
    }
    checks.check("parts of a file", || parts(lab));
    checks.check("closing any descriptor", || closing(lab));
    checks.check("flock -w", || flock_with_a_limit(lab));
}

/// A process on each place, with the same file open.
fn hands(lab: &Lab) -> [Hand; 4] {
    lab.sh(2, "rm -f /tmp/lock/file; touch /tmp/lock/file").ok();
    PLACES.map(|node| another(lab, node))
}

fn another(lab: &Lab, node: u32) -> Hand {
    let mut hand = Hand::new(lab, node);
    hand.ok(&format!("op('l', {:?})", on(node, "lock/file")));
    hand
}

/// Whether a lock is had by the first at once, or kept from it.
#[track_caller]
fn kept(hand: &mut Hand, step: &str) {
    assert_eq!(hand.ask(step), Err("EAGAIN".to_owned()), "{step}");
}

fn exclusion(lab: &Lab, way: &Way) {
    let mut all = hands(lab);
    for holder in 0..all.len() {
        all[holder].ok(way.exclusive);
        for other in (0..all.len()).filter(|n| *n != holder) {
            kept(&mut all[other], way.exclusive);
            kept(&mut all[other], way.shared);
        }
        all[holder].ok(way.free);
        for hand in &mut all {
            hand.ok(way.shared);
        }
        kept(&mut all[holder], way.exclusive);
        for hand in &mut all {
            hand.ok(way.free);
        }
    }
}

/// A lock that is waited for is had soon after it is free, and not before.
fn waiting(lab: &Lab, way: &Way) {
    let mut all = hands(lab);
    for (holder, waiter) in [(0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (1, 2)] {
        all[holder].ok(way.exclusive);
        all[waiter].send(way.waits);
        assert_eq!(all[waiter].answer(A_WHILE), None, "{waiter} while {holder} has it");
        all[holder].ok(way.free);
        let got = all[waiter].answer(PROMPT);
        assert!(matches!(got, Some(Ok(_))), "{waiter} after {holder}: {got:?}");
        kept(&mut all[holder], way.exclusive);
        all[waiter].ok(way.free);
    }
}

/// Who waits for a lock can be ended, and gets nothing after that.
fn waiters_can_be_killed(lab: &Lab, way: &Way) {
    let mut all = hands(lab);
    for (holder, node, signal) in
        [(1, 1, "-INT"), (1, 1, "-KILL"), (2, 1, "-INT"), (0, 3, "-KILL")]
    {
        all[holder].ok(way.exclusive);
        let mut waiter = another(lab, node);
        waiter.send(way.waits);
        assert_eq!(waiter.answer(A_WHILE), None);
        let took = waiter.end_by(lab, signal);
        assert!(took < PROMPT, "{signal} on node {node} took {took:?}");
        all[holder].ok(way.free);
        // Also a little later nobody has it.
        for _ in 0..2 {
            for hand in &mut all {
                hand.ok(way.exclusive);
                hand.ok(way.free);
            }
            std::thread::park_timeout(A_WHILE);
        }
    }
}

/// A lock goes with its holder.
fn holders_that_die(lab: &Lab, way: &Way) {
    let mut all = hands(lab);
    for (node, waiter) in [(1, 1), (1, 2), (2, 0), (3, 0)] {
        let mut holder = another(lab, node);
        holder.ok(way.exclusive);
        all[waiter].send(way.waits);
        assert_eq!(all[waiter].answer(A_WHILE), None);
        holder.end_by(lab, "-KILL");
        let got = all[waiter].answer(PROMPT);
        assert!(matches!(got, Some(Ok(_))), "{waiter} after node {node}'s: {got:?}");
        all[waiter].ok(way.free);
    }
}

fn parts(lab: &Lab) {
    let [one, two, three, _] = &mut hands(lab);
    one.ok("lock('l', 'w', False, 0, 10)");
    three.ok("lock('l', 'w', False, 10, 10)");
    two.ok("lock('l', 'r', False, 20, 0)");
    kept(two, "lock('l', 'w', False, 5, 1)");
    kept(one, "lock('l', 'w', False, 19, 1)");
    kept(three, "lock('l', 'w', False, 1 << 40, 1)");
    three.ok("lock('l', 'r', False, 1 << 40, 1)");
    assert_eq!(three.ok("blocker('l', 'r')"), "w");
    assert_eq!(two.ok("blocker('l', 'r')"), "w");
    one.ok("lock('l', 'u', False, 3, 4)");
    two.ok("lock('l', 'w', False, 3, 4)");
    kept(three, "lock('l', 'w', False, 2, 1)");
    kept(three, "lock('l', 'w', False, 7, 1)");
}

/// POSIX: a process that closes any of its descriptors of a file loses its locks on it. A child
/// has none of its parent's.
fn closing(lab: &Lab) {
    let [one, two, ..] = &mut hands(lab);
    one.ok("lock('l', 'w')");
    one.ok(&format!("op('again', {:?})", far("lock/file")));
    kept(two, "lock('l', 'w')");
    one.ok("cl('again')");
    two.ok("lock('l', 'w')");
    two.ok("lock('l', 'u')");
    // flock(2)'s belongs to the open file, not to the process.
    one.ok("flock('l', fcntl.LOCK_EX)");
    one.ok(&format!("op('again', {:?})", far("lock/file")));
    kept(one, "flock('again', fcntl.LOCK_EX | fcntl.LOCK_NB)");
    one.ok("cl('again')");
    kept(two, "flock('l', fcntl.LOCK_EX | fcntl.LOCK_NB)");
    one.ok("fds.update(dup=os.dup(fds['l']))");
    one.ok("cl('l')");
    kept(two, "flock('l', fcntl.LOCK_EX | fcntl.LOCK_NB)");
    one.ok("cl('dup')");
    within(PROMPT, || two.ask("flock('l', fcntl.LOCK_EX | fcntl.LOCK_NB)"));
}

/// flock(1) has itself woken by an alarm.
fn flock_with_a_limit(lab: &Lab) {
    let [_, two, ..] = &mut hands(lab);
    let line = format!("timeout 5 flock -w 0.5 {} echo got", far("lock/file"));
    assert_eq!(lab.sh(1, &line).ok(), "got\n");
    two.ok("flock('l', fcntl.LOCK_EX)");
    let said = lab.sh(1, &line);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.took < PROMPT + Duration::from_millis(500), "{:?}", said.took);
}
