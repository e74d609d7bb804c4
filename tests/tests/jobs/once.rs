//! Whoever dies wherever: a job runs on one node, and has written each number once; or it is lost
//! with its home or with who had it, and that is said.

use super::{counter, counts, end, job, needs, nothing_is_left, quick};
use krg_tests::storms::ALL;
use krg_tests::talk::leader;
use krg_tests::{Lab, Said, can_run, within};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// All is at rest again within this.
const REST: Duration = Duration::from_secs(30);

/// Holds a move at a point until this is dropped or told.
pub struct Held<'a> {
    lab: &'a Lab,
    node: u32,
    point: &'static str,
}

impl<'a> Held<'a> {
    #[track_caller]
    pub fn at(lab: &'a Lab, node: u32, point: &'static str) -> Held<'a> {
        let fifo = format!("/run/faults/{point}");
        quick(lab, node, &format!("mkdir -p /run/faults; mkfifo {fifo} {fifo}.go")).ok();
        Held { lab, node, point }
    }

    /// Until it is there; what moves the job must not have ended before.
    #[track_caller]
    pub fn reached(&self, moved: &ScopedJoinHandle<'_, Said>) {
        let fifo = format!("/run/faults/{}", self.point);
        std::thread::scope(|threads| {
            let line = format!("cat {fifo}; rm {fifo}");
            let heard = threads.spawn(move || quick(self.lab, self.node, &line).out);
            within(Duration::from_secs(60), || {
                match heard.is_finished() || moved.is_finished() {
                    true => Ok(()),
                    false => Err(self.point.to_owned()),
                }
            });
            if !heard.is_finished() {
                // Whoever reads there is not to wait for ever.
                quick(
                    self.lab,
                    self.node,
                    &format!("timeout 1 sh -c 'echo late > {fifo}'; true"),
                );
            }
            assert_eq!(
                heard.join().expect("the thread"),
                "here\n",
                "{} is not reached",
                self.point
            );
        });
    }

    /// Who was held is dead.
    pub fn forget(self) {
        let fifo = format!("/run/faults/{}", self.point);
        quick(self.lab, self.node, &format!("rm -f {fifo} {fifo}.go")).ok();
    }

    #[track_caller]
    pub fn tell(self, word: &str) {
        let fifo = format!("/run/faults/{}.go", self.point);
        quick(self.lab, self.node, &format!("echo {word} > {fifo}; rm {fifo}")).ok();
    }
}

/// What is done to a node while a move stands at a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    Holder,
    Criu,
    Krgd,
    Pause,
    Cut,
    /// krgd of whatever node leads the agreement.
    Leader,
}

/// Where it is to be then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// There.
    On(u32),
    /// Where the command says that it is.
    AsSaid,
    /// On one of the two: who was asked may have died before it knew.
    OnEither,
    Lost,
}

/// A move between two nodes, held on one of them at a point, and a blow to one.
#[derive(Clone, Copy, Debug)]
struct Case(u32, u32, u32, &'static str, Blow, u32, Then);

/// In each run of the tests.
const SHARP: [Case; 17] = [
    Case(1, 2, 2, "arriving", Blow::Holder, 2, Then::On(1)),
    Case(1, 2, 2, "received", Blow::Holder, 2, Then::On(1)),
    Case(1, 2, 2, "restored", Blow::Holder, 2, Then::On(1)),
    Case(1, 2, 2, "restored", Blow::Cut, 2, Then::AsSaid),
    Case(1, 2, 1, "dumped", Blow::Criu, 1, Then::AsSaid),
    Case(1, 2, 1, "sent", Blow::Criu, 1, Then::AsSaid),
    Case(1, 2, 1, "prepared", Blow::Criu, 1, Then::AsSaid),
    Case(1, 2, 1, "committed", Blow::Criu, 1, Then::On(2)),
    Case(1, 2, 1, "committed", Blow::Cut, 2, Then::On(2)),
    Case(1, 2, 2, "restored", Blow::Criu, 2, Then::On(1)),
    Case(1, 2, 2, "restored", Blow::Pause, 2, Then::On(2)),
    Case(1, 2, 1, "prepared", Blow::Krgd, 1, Then::OnEither),
    Case(1, 2, 1, "prepared", Blow::Leader, 1, Then::OnEither),
    Case(1, 2, 2, "restored", Blow::Krgd, 2, Then::AsSaid),
    // What the source has sent whole the target takes.
    Case(2, 3, 2, "sent", Blow::Holder, 2, Then::On(3)),
    Case(2, 1, 2, "prepared", Blow::Holder, 2, Then::On(1)),
    Case(1, 2, 1, "sent", Blow::Holder, 1, Then::Lost),
];

/// Points at which the source, and the target, can be held.
const LEAVING: [&str; 7] =
    ["ready", "dumped", "fenced", "sent", "prepared", "committed", "ended"];
const COMING: [&str; 4] = ["arriving", "received", "restored", "going"];
const BLOWS: [Blow; 6] =
    [Blow::Holder, Blow::Criu, Blow::Krgd, Blow::Pause, Blow::Cut, Blow::Leader];

/// What must come of it.
fn then(from: u32, to: u32, at_source: bool, point: &str, blow: Blow, struck: u32) -> Then {
    let place = |name: &str, all: &[&str]| all.iter().position(|p| *p == name).unwrap_or(0);
    let is_sent =
        !at_source && place(point, &COMING) >= 1 || at_source && place(point, &LEAVING) >= 3;
    let is_committed = at_source && place(point, &LEAVING) >= 5 || point == "going";
    match (blow, struck == from) {
        // It dies with its home.
        (Blow::Holder, _) if struck == 1 => Then::Lost,
        (Blow::Holder, true) if is_sent => Then::On(to),
        (Blow::Holder, true) => Then::Lost,
        // Before the source knows that it is whole there, it stays.
        (Blow::Holder | Blow::Criu, false) if is_committed => Then::Lost,
        (Blow::Holder, false) if at_source && point == "prepared" => Then::Lost,
        (Blow::Criu, false) if at_source && is_sent => Then::OnEither,
        (Blow::Holder, false) => Then::On(from),
        (Blow::Pause, _) => Then::On(to),
        _ => Then::OnEither,
    }
}

/// Each blow to each side at each point, of moves from home, between other nodes, and back home.
fn matrix() -> Vec<Case> {
    let mut all = Vec::new();
    for (from, to) in [(1, 2), (2, 3), (2, 1)] {
        let points = LEAVING.map(|p| (true, p)).into_iter().chain(COMING.map(|p| (false, p)));
        for ((at_source, point), blow) in points.flat_map(|p| BLOWS.map(|b| (p, b))) {
            let held = if at_source { from } else { to };
            for struck in [from, to] {
                let then = then(from, to, at_source, point, blow, struck);
                if blow != Blow::Leader || struck == from {
                    all.push(Case(from, to, held, point, blow, struck, then));
                }
            }
        }
    }
    all
}

fn lab() -> Option<Lab> {
    let options = ["--node-env", "KRG_FAULTS=/run/faults"];
    can_run("a_job_runs_exactly_once", &needs()).then(|| Lab::start_with(3, &options))
}

#[test]
fn a_job_runs_exactly_once() {
    let Some(lab) = lab() else { return };
    super::caps::what_moves_needs_its_own(&lab);
    SHARP.into_iter().for_each(|case| interrupted(&lab, case));
    a_job_that_is_lost_is_said_to_be(&lab);
}

#[test]
#[ignore = "takes an hour: make soak"]
fn a_job_runs_exactly_once_at_each_point() {
    let Some(mut lab) = lab() else { return };
    let (all, mut failed) = (matrix(), Vec::new());
    for case in &all {
        let run = std::panic::AssertUnwindSafe(|| interrupted(&lab, *case));
        if std::panic::catch_unwind(run).is_err() {
            failed.push(*case);
            // What it has left is not to be the next one's.
            drop(lab);
            let Some(other) = self::lab() else { return };
            lab = other;
        }
    }
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), all.len());
}

/// At home, of a hand that goes on then.
pub fn kill_criu(lab: &Lab) -> &'static str {
    strike(lab, Blow::Criu, 1);
    "go"
}

fn strike(lab: &Lab, blow: Blow, node: u32) {
    let line = match blow {
        Blow::Holder => "pkill -KILL -x krg-job; true",
        Blow::Criu => "pkill -KILL -x criu; true",
        Blow::Krgd => "pkill -KILL -x krgd",
        Blow::Pause => "pkill -STOP -x krg-job; true",
        Blow::Cut => return lab.fault("cut", node),
        Blow::Leader => {
            let leads = leader(lab, &ALL);
            quick(lab, leads, "pkill -KILL -x krgd").ok();
            return;
        }
    };
    quick(lab, node, line).ok();
}

/// After it was let go on.
fn mend(lab: &Lab, blow: Blow, node: u32) {
    match blow {
        Blow::Pause => {
            quick(lab, node, "sleep 3; pkill -CONT -x krg-job; true").ok();
        }
        Blow::Cut => {
            // What was being said is not heard; only then it is again.
            let other = if node == 3 { 2 } else { 3 };
            let mark = char::from_digit(node, 10).expect("a digit");
            within(Duration::from_secs(15), || match quick(lab, other, "krg nodes").ok() {
                nodes if nodes.lines().any(|l| l.starts_with(mark) && !l.contains("online")) => {
                    Ok(())
                }
                nodes => Err(nodes),
            });
            lab.fault("heal", node);
        }
        Blow::Krgd | Blow::Leader => {
            let answers = |node: u32| quick(lab, node, "krg nodes >/dev/null").code == 0;
            let up = || (1..=3).all(answers);
            within(REST, || if up() { Ok(()) } else { Err("krgd is not there".to_owned()) });
        }
        Blow::Holder | Blow::Criu => {}
    }
}

#[track_caller]
fn interrupted(lab: &Lab, case: Case) {
    eprintln!("{case:?}");
    let Case(from, to, held_on, point, blow, struck, then) = case;
    let number = counter(lab, "once");
    counts(lab, "once");
    if from != 1 {
        quick(lab, 1, &format!("krg migrate {number} {from}")).ok();
    }
    let held = Held::at(lab, held_on, point);
    let moved = std::thread::scope(|threads| {
        let moved = threads.spawn(|| {
            let said = quick(lab, from, &format!("krg migrate {number} {to}"));
            eprintln!("  {}: {}", said.code, said.err.trim());
            said
        });
        held.reached(&moved);
        strike(lab, blow, struck);
        let is_gone = blow == Blow::Holder && struck == held_on;
        let is_still = blow == Blow::Pause && struck == held_on;
        match (is_gone, is_still) {
            (true, _) => {
                held.forget();
                mend(lab, blow, struck);
            }
            (_, true) => {
                mend(lab, blow, struck);
                held.tell("go");
            }
            _ => {
                held.tell("go");
                mend(lab, blow, struck);
            }
        }
        moved.join().expect("the thread")
    });
    if (blow, struck) == (Blow::Krgd, from) {
        // Who was asked has died: what the command knows then it says, and no more.
        let words = "krgd was ended before it has said whether this has moved";
        assert!(moved.code == 3 && moved.err.contains(words), "{moved:?}");
    }
    if then == Then::Lost {
        return lost(lab, number);
    }
    let wanted: &[u32] = match (then, moved.code) {
        (Then::On(node), _) => &[node],
        (Then::AsSaid, 0) => &[to],
        (Then::AsSaid, _) => &[from],
        _ => &[from, to],
    };
    let mut at = 0;
    within(REST, || match job(lab, "once") {
        Some(job) if job["state"] == "running" => {
            at = job["node"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            match wanted.contains(&at) {
                true => Ok(()),
                false => Err(format!("{job:?}")),
            }
        }
        job => Err(format!("{job:?}")),
    });
    counts(lab, "once");
    let look = "pgrep -f 'var/tmp/[c]ount'; pgrep -x criu; true";
    within(REST, || {
        let others = (1..=3).filter(|node| *node != at);
        let left: Vec<String> = others.map(|node| quick(lab, node, look).out).collect();
        if left.iter().all(String::is_empty) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    end(lab, "once");
}

/// It is said that it is lost, and nothing of it is left.
#[track_caller]
fn lost(lab: &Lab, number: u64) {
    let known = |state: &str| {
        let told = quick(lab, 3, "krg jobs --json").ok();
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let jobs = told["jobs"].as_array().expect("jobs").clone();
        jobs.into_iter().find(|job| job["job"] == number && job["state"] == state)
    };
    let recorded = quick(lab, 1, "krg config list jobs/").ok();
    if !recorded.is_empty() {
        within(REST, || match known("lost") {
            Some(_) => Ok(()),
            None => Err(quick(lab, 1, "krg jobs; krg config list jobs/").out),
        });
        quick(lab, 1, &format!("krg config delete jobs/{number}")).ok();
    }
    nothing_is_left(lab, "once");
}

/// Whoever waits for a job hears that it is lost.
fn a_job_that_is_lost_is_said_to_be(lab: &Lab) {
    let run = "(krg run --name told sleep 300 2> /var/tmp/told; \
               echo $? >> /var/tmp/told) > /dev/null 2>&1 & \
               while ! krg jobs | grep -q told; do :; done";
    quick(lab, 1, &format!("{run}; setsid true")).ok();
    let number = job(lab, "told").expect("it runs")["job"].as_u64().expect("a number");
    quick(lab, 1, &format!("krg migrate {number} 2")).ok();
    quick(lab, 2, "pkill -KILL -x krg-job").ok();
    within(REST, || match quick(lab, 1, "cat /var/tmp/told").ok() {
        told if told.contains("its holder on node 2 was killed") && told.ends_with("137\n") => {
            Ok(())
        }
        told => Err(told),
    });
    lost(lab, number);
}
