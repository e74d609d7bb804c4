//! Faults while node 1 copies to and from node 2: a copy ends, whole or with an error, and nobody
//! waits longer than he must.

use super::place::{far, make, on, own};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, krg, run, within};
use std::time::{Duration, Instant};

/// What is copied, MiB.
const COPY_MIB: u64 = 200;
/// What node 2's link carries, so that a copy takes a while.
const RATE: &str = "400mbit";
/// A copy is under way when so much has come, MiB.
const BEGUN_MIB: u64 = 8;
/// After a fault, or its end, everything that was under way ends.
const END_MAX: Duration = Duration::from_secs(10);
/// An operation that meets a fault first.
const FIRST_MAX: Duration = Duration::from_secs(6);
/// Those after it, and everything that has nothing to do with it.
const PROMPT_MAX: Duration = Duration::from_secs(1);
/// A node that is back is used again.
const BACK_MAX: Duration = Duration::from_secs(5);
const NOBODY: &str = "d---------";

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "copy");
    // The same bytes on both nodes, so that each can compare.
    let fill = format!(
        "openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | \
         head -c {COPY_MIB}M > /tmp/source; sha256sum /tmp/source"
    );
    let sums = [1, 2].map(|node| lab.sh(node, &fill).ok());
    assert_eq!(sums[0], sums[1]);
    lab.sh(2, "ln /tmp/source /tmp/copy/source").ok();
    lab.sh(3, "echo third > /tmp/there").ok();
    lab.sh(1, "ls /mfs/2 /mfs/3").ok();
    let mut step = |name: &str, body: &dyn Fn()| {
        checks.check(name, || {
            // A step that failed may have left it away.
            lab.fault("heal", 2);
            source_is_there(lab, &fill);
            body();
        });
    };
    let kill = |name: &'static str| move || lab.sh(2, &format!("pkill -KILL -x {name}")).ok();
    step("krg-files is killed", &|| copies(lab, kill("krg-files"), Peer::Restarts));
    step("krgd is killed", &|| copies(lab, kill("krgd"), Peer::Restarts));
    for (cause, end) in [("cut", "heal"), ("pause", "resume"), ("kill", "heal")] {
        let fault = || {
            lab.fault(cause, 2);
            String::new()
        };
        step(&format!("the node: {cause}"), &|| copies(lab, fault, Peer::Back(end)));
    }
    step("a full disk", &|| full_disk(lab));
    step("who waits can be ended", &|| waiting_readers_end(lab));
    step("what is open survives a cut", &|| open_over_a_cut(lab));
    step("what is open survives a restart", &|| open_over_a_restart(lab));
}

/// Node 2's `/tmp` is memory, which a power cut empties; and node 1 reaches it.
fn source_is_there(lab: &Lab, fill: &str) {
    if lab.sh(2, "test -e /tmp/copy/source").code != 0 {
        make(lab, "copy");
        lab.sh(2, &format!("{fill}; ln /tmp/source /tmp/copy/source")).ok();
    }
    // So that node 1's kernel reads it anew.
    lab.sh(2, "touch /tmp/copy/source").ok();
    within(BACK_MAX, || match lab.sh(1, &format!("ls {}", far("copy"))) {
        said if said.code == 0 => Ok(()),
        said => Err(said.err),
    });
}

/// What becomes of node 2 after the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It comes back by itself, at once.
    Restarts,
    /// It is away until this is done to it.
    Back(&'static str),
}

/// One copy on node 1, in the background.
struct Copy<'a> {
    lab: &'a Lab,
    name: &'static str,
    from: String,
    to: String,
}

impl Copy<'_> {
    fn start<'a>(lab: &'a Lab, name: &'static str, from: &str, to: &str) -> Copy<'a> {
        let code = format!("/tmp/{name}.code");
        let line = format!(
            "cp {from} {to} 2> /tmp/{name}.err; echo $? > {code}.new; mv {code}.new {code}"
        );
        // What an earlier one has left is not this one's.
        lab.sh(1, &format!("rm -f {code} {to}")).ok();
        lab.background(1, &line);
        Copy { lab, name, from: from.into(), to: to.into() }
    }

    /// Waits until some of it is at `place` on `node`.
    fn is_under_way(&self, node: u32, place: &str) {
        within(END_MAX, || {
            let line = format!("stat -c %s {place}");
            let size = self.lab.sh(node, &line).out.trim().parse().unwrap_or(0);
            assert!(size < COPY_MIB << 20, "{}: it was too fast", self.name);
            if size >= BEGUN_MIB << 20 { Ok(()) } else { Err(format!("{size} of {place}")) }
        });
    }

    /// Its exit code, when it has ended.
    fn code(&self) -> i32 {
        within(END_MAX, || {
            let said = self.lab.sh(1, &format!("cat /tmp/{}.code", self.name)).out;
            said.trim().parse().map_err(|_| {
                let line = "ps -e -o pid,stat,wchan:30,args | grep '[c]p '";
                format!(
                    "{} {} {} runs on: {}",
                    self.name,
                    self.from,
                    self.to,
                    self.lab.sh(1, line).out
                )
            })
        })
    }

    fn why(&self) -> String {
        self.lab.sh(1, &format!("cat /tmp/{}.err", self.name)).out
    }
}

/// Milliseconds and the value of a step of the hand's `took`.
fn timed(hand: &mut Hand, step: &str) -> (Duration, String) {
    let said = hand.ok(&format!("took(lambda: {step})"));
    let (ms, value) = said.split_once(' ').expect("a time and a value");
    (Duration::from_millis(ms.parse().expect("a time")), value.to_owned())
}

fn copies(lab: &Lab, fault: impl FnOnce() -> String, peer: Peer) {
    let (to, back) = (far("copy/out"), "/tmp/back");
    run(krg().args(["lab", "slow", "--name", &lab.name, "2", "--rate", RATE])).ok();
    let mut hand = Hand::new(lab, 1);
    hand.ok("fds.update(watch=Watch('/mfs/3/tmp/there'))");
    let out = Copy::start(lab, "out", "/tmp/source", &to);
    let home = Copy::start(lab, "in", &far("copy/source"), back);
    out.is_under_way(2, &own("copy/out"));
    home.is_under_way(1, back);
    fault();
    let begun = Instant::now();
    if let Peer::Back(end) = peer {
        node_is_away(lab, &mut hand);
        let codes = (out.code(), home.code());
        assert!(codes.0 != 0, "a copy to nobody: {codes:?}, {:?}", out.why());
        assert!(begun.elapsed() < END_MAX, "the copies have ended in {:?}", begun.elapsed());
        lab.fault(end, 2);
    }
    let codes = (out.code(), home.code());
    let (first, said) = timed(&mut hand, &format!("os.listdir({:?})", far("")));
    assert!(first < FIRST_MAX, "{first:?} {said}");
    within(BACK_MAX, || match lab.sh(1, &format!("ls {}", far(""))).code {
        0 => Ok(()),
        code => Err(format!("ls says {code}")),
    });
    eprintln!("{codes:?} {:?} {:?}, back after {:?}", out.why(), home.why(), begun.elapsed());
    if codes.1 == 0 {
        lab.sh(1, &format!("cmp /tmp/source {back}")).ok();
    }
    run(krg().args(["lab", "slow", "--name", &lab.name, "2", "--rate", "none"])).ok();
    let is_lost = lab.sh(2, "test -e /tmp/source").code != 0;
    if !is_lost {
        only_parts_are_missing(lab, &own("copy/out"));
        if codes.0 == 0 {
            lab.sh(2, &format!("cmp /tmp/source {}", own("copy/out"))).ok();
        }
    }
    let watched = hand.ok("fds.pop('watch').end()");
    let mut words = watched.splitn(3, ' ');
    let rounds: u32 = words.next().and_then(|w| w.parse().ok()).expect("a count");
    let longest: u64 = words.next().and_then(|w| w.parse().ok()).expect("a time");
    assert_eq!(words.next(), Some("[]"), "node 3's files have noticed");
    assert!(rounds > 10 && longest < 1_000, "{rounds} looks at node 3, the longest {longest} ms");
    let left = lab.sh(1, "pgrep -x cp; rm -f /tmp/back").out;
    assert_eq!(left, "", "no copy is left");
}

/// A copy that failed has no wrong byte: what did not come is a hole.
fn only_parts_are_missing(lab: &Lab, copy: &str) {
    let said = Hand::new(lab, 2).ok(&format!("wrong_bytes({copy:?}, '/tmp/source')"));
    assert_eq!(said, "[]", "bytes of {copy}");
}

/// Node 2 answers nothing: nobody waits long, and only the first one at all.
fn node_is_away(lab: &Lab, hand: &mut Hand) {
    within(FIRST_MAX, || {
        let listed = lab.sh(1, "LC_ALL=C ls -l /mfs");
        assert!(listed.took < PROMPT_MAX, "ls -l took {:?}", listed.took);
        let row = listed.out.lines().find(|l| l.ends_with(" 2")).unwrap_or_default();
        if row.starts_with(NOBODY) { Ok(()) } else { Err(row.to_owned()) }
    });
    let stat = format!("os.stat({:?})", far("copy/source"));
    let (first, said) = timed(hand, &stat);
    assert!(first < FIRST_MAX && said == "EHOSTDOWN", "{first:?} {said}");
    for _ in 0..20 {
        let (time, said) = timed(hand, &stat);
        assert!(time < PROMPT_MAX && said == "EHOSTDOWN", "{time:?} {said}");
    }
    let listed = lab.sh(1, "LC_ALL=C ls -l /mfs");
    assert_eq!((listed.code, listed.err.as_str()), (0, ""), "{listed:?}");
    assert!(listed.took < PROMPT_MAX, "ls -l took {:?}", listed.took);
}

/// Node 2's file system is full: so says the copy, and what was written is right.
fn full_disk(lab: &Lab) {
    lab.sh(2, "mkdir -p /tmp/copy/small && mount -t tmpfs -o size=20m none /tmp/copy/small").ok();
    // What is mounted later is seen when the file server starts again.
    lab.sh(2, "pkill -KILL -x krg-files").ok();
    let to = far("copy/small/out");
    within(BACK_MAX, || {
        let blocks = lab.sh(1, &format!("stat -f -c %b {}", far("copy/small"))).out;
        if blocks == "5120\n" { Ok(()) } else { Err(format!("blocks: {blocks}")) }
    });
    let said = lab.sh(1, &format!("LC_ALL=C cp /tmp/source {to}"));
    assert!(said.code == 1 && said.err.contains("No space left"), "{said:?}");
    only_parts_are_missing(lab, "/tmp/copy/small/out");
    let size = lab.sh(2, "du -m /tmp/copy/small/out | cut -f1").ok();
    assert!(size.trim().parse::<u64>().is_ok_and(|mib| mib >= 15), "{size} MiB have come");
    lab.sh(1, &format!("rm {to} && echo good > {to} && cat {to}")).ok();
    lab.sh(2, "umount -l /tmp/copy/small").ok();
}

/// Ctrl-C and SIGKILL end who waits for a node that is silent.
fn waiting_readers_end(lab: &Lab) {
    let source = far("copy/source");
    let hands = [1, 2, 3].map(|_| {
        let mut hand = Hand::new(lab, 1);
        hand.ok(&format!("op('f', {source:?}, os.O_RDONLY)"));
        hand
    });
    lab.fault("pause", 2);
    let steps = [
        "rd('f', 1 << 16, 100 << 20)".to_owned(),
        format!("os.open({:?}, os.O_RDONLY)", far("copy/never")),
        format!("os.listdir({:?})", far("copy")),
    ];
    let signals = ["-INT", "-KILL", "-INT"];
    let mut all: Vec<_> = hands.into_iter().zip(steps).zip(signals).collect();
    for ((hand, step), _) in &mut all {
        hand.send(step);
    }
    for ((hand, step), signal) in all {
        let took = hand.end_by(lab, signal);
        assert!(took < PROMPT_MAX, "{step}: {signal} took {took:?}");
    }
    lab.fault("resume", 2);
}

/// A file that is open when the node is cut off for a while goes on, also one without a name, and
/// a lock is kept.
fn open_over_a_cut(lab: &Lab) {
    let mut hand = opened(lab);
    lab.fault("cut", 2);
    within(FIRST_MAX, || match hand.ask("rd('f', 5, 7)") {
        Err(errno) if errno == "EHOSTDOWN" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    lab.fault("heal", 2);
    is_back(&mut hand);
    assert_eq!(hand.ok("rd('f', 5, 7).decode()"), "789ab");
    assert_eq!(hand.ok("rd('gone', 5).decode()"), "still");
    hand.ok("wr('f', b'X', 0)");
    assert_eq!(hand.ok("rd('locked', 4).decode()"), "lock");
    let other = &mut Hand::new(lab, 2);
    other.ok(&format!("op('l', {:?})", own("copy/locked")));
    assert_eq!(other.ask("lock('l', 'w')"), Err("EAGAIN".into()), "the lock is kept");
    assert_eq!(lab.sh(2, "head -c 3 /tmp/copy/open").ok(), "X12");
}

/// After a restart of the file server what is open goes on; what cannot, says so.
fn open_over_a_restart(lab: &Lab) {
    let mut hand = opened(lab);
    let before = lab.sh(2, "pgrep -x krg-files").ok();
    lab.sh(2, "pkill -KILL -x krg-files").ok();
    within(BACK_MAX, || match lab.sh(2, "pgrep -x krg-files").out {
        now if !now.is_empty() && now != before => Ok(()),
        now => Err(format!("file servers: {now:?}")),
    });
    is_back(&mut hand);
    assert_eq!(hand.ok("rd('f', 5, 7).decode()"), "789ab");
    hand.ok("wr('f', b'Y', 0)");
    assert_eq!(lab.sh(2, "head -c 3 /tmp/copy/open").ok(), "Y12");
    assert_eq!(hand.ask("rd('gone', 5)"), Err("ESTALE".into()));
    assert_eq!(hand.ask("wr('locked', b'x')"), Err("EIO".into()), "its lock is lost");
    assert_eq!(hand.ask("rd('locked', 4)"), Err("EIO".into()));
    assert_eq!(hand.ask("cl('locked')"), Err("EIO".into()));
    hand.ok(&format!("op('locked', {:?})", far("copy/locked")));
    hand.ok("lock('locked', 'w')");
    assert_eq!(hand.ok("rd('locked', 4).decode()"), "lock");
}

/// A process on node 1 with three of node 2's files open: one to go on with, one without a name,
/// one locked.
fn opened(lab: &Lab) -> Hand {
    let mut hand = Hand::new(lab, 1);
    for (name, text) in [("open", "0123456789abcdef"), ("gone", "still"), ("locked", "lock")] {
        lab.sh(2, &format!("rm -f {0}; printf {text} > {0}", own(&format!("copy/{name}")))).ok();
    }
    hand.ok(&format!("op('f', {:?})", on(1, "copy/open")));
    hand.ok(&format!("op('gone', {:?})", on(1, "copy/gone")));
    hand.ok(&format!("os.unlink({:?})", on(1, "copy/gone")));
    hand.ok(&format!("op('locked', {:?})", on(1, "copy/locked")));
    hand.ok("lock('locked', 'w')");
    hand
}

fn is_back(hand: &mut Hand) {
    within(BACK_MAX, || match hand.ask(&format!("os.listdir({:?})", far("copy"))) {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    });
}
