//! A hard mount: who uses the files of a node that does not answer waits, and what he asked for is
//! done once.

use super::place::{far, make, own};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};
use std::time::Duration;

/// The soft mount says within this that a node does not answer.
const NOTICED_MAX: Duration = Duration::from_secs(8);
/// Who waits has his answer so soon after the node is back.
const BACK_MAX: Duration = Duration::from_secs(15);
/// Who is told to end does.
const END_MAX: Duration = Duration::from_secs(1);
/// Each of them makes, renames, links and removes.
const ROUNDS: u32 = 400;
/// What is copied, MiB.
const COPY_MIB: u32 = 100;

/// The same as `far`, through the hard mount.
fn hard(name: &str) -> String {
    format!("/tmp/hard/2/tmp/{name}")
}

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    make(lab, "hard");
    lab.sh(1, "mkdir /tmp/hard && mount -t mfs -o hard none /tmp/hard && ls /tmp/hard/2 /mfs/2")
        .ok();
    lab.sh(1, &format!("head -c {COPY_MIB}M /dev/urandom > /tmp/source")).ok();
    let mut step = |name: &str, body: &dyn Fn()| {
        checks.check(name, || {
            lab.fault("heal", 2);
            body();
        });
    };
    step("a copy while krg-files is killed", &|| copy_over_kills(lab));
    step("each change is made once", &|| changes_over_faults(lab));
    step("a node that was paused", &|| waits_for_a_paused_node(lab));
    step("who waits can be ended", &|| who_waits_can_be_ended(lab));
    step("a node that is no member any more", &|| a_node_that_is_none(lab));
}

/// Something that runs on node 1 in the background: its exit code is in a file when it has ended.
fn begin(lab: &Lab, name: &str, script: &str) {
    lab.sh(1, &format!("rm -f /tmp/{name}.code")).ok();
    let code = format!("/tmp/{name}.code");
    let line =
        format!("({script}) 2> /tmp/{name}.err; echo $? > {code}.new; mv {code}.new {code}");
    lab.background(1, &line);
}

fn is_running(lab: &Lab, name: &str) -> bool {
    lab.sh(1, &format!("test -e /tmp/{name}.code")).code != 0
}

#[track_caller]
fn ends_well(lab: &Lab, name: &str) {
    within(Duration::from_secs(60), || {
        match lab.sh(1, &format!("cat /tmp/{name}.code; cat /tmp/{name}.err")).out {
            said if said == "0\n" => Ok(()),
            said if said.is_empty() => Err("it runs on".to_owned()),
            said => panic!("{name}: {said}"),
        }
    });
}

/// Until the soft mount knows that node 2 does not answer.
fn is_noticed(lab: &Lab) {
    within(NOTICED_MAX, || match lab.sh(1, &format!("ls {}", far(""))) {
        said if said.err.contains("Host is down") => Ok(()),
        said => Err(format!("{said:?}")),
    });
}

fn copy_over_kills(lab: &Lab) {
    begin(lab, "copy", &format!("cp /tmp/source {}", hard("hard/copy")));
    let mut kills = 0;
    while is_running(lab, "copy") {
        let before = lab.sh(2, "pgrep -x krg-files").out;
        lab.sh(2, "pkill -KILL -x krg-files");
        kills += 1;
        within(BACK_MAX, || match lab.sh(2, "pgrep -x krg-files").out {
            now if !now.is_empty() && now != before => Ok(()),
            now => Err(now),
        });
    }
    ends_well(lab, "copy");
    assert!(kills > 1, "it was too fast");
    let sums = [(1, "/tmp/source".to_owned()), (2, own("hard/copy"))];
    let sums = sums.map(|(node, path)| lab.sh(node, &format!("sha256sum < {path}")).ok());
    assert_eq!(sums[0], sums[1], "{kills} kills");
}

/// Whatever is not to be done twice, again and again; each fails the second time.
fn changes_over_faults(lab: &Lab) {
    let there = hard("hard/once");
    let script = format!(
        "mkdir {there} && cd {there} && i=0; while [ $i -lt {ROUNDS} ]; do i=$((i+1)); \
         mkdir d$i || exit 11; mv d$i e$i || exit 12; rmdir e$i || exit 13; \
         echo $i >> log || exit 14; ln log l$i || exit 15; rm l$i || exit 16; \
         ln -s x s$i || exit 17; rm s$i || exit 18; (set -C; echo x > n$i) || exit 19; \
         rm n$i || exit 20; done"
    );
    begin(lab, "once", &script);
    for (fault, end) in [("cut", "heal"), ("pause", "resume")] {
        let lines = || lab.sh(2, &format!("cat {} | wc -l", own("hard/once/log"))).out;
        let before = lines();
        within(BACK_MAX, || match lines() {
            now if now != before => Ok(()),
            now => Err(now),
        });
        lab.fault(fault, 2);
        is_noticed(lab);
        assert!(is_running(lab, "once"), "it ended before the fault did");
        lab.fault(end, 2);
    }
    ends_well(lab, "once");
    let log = lab.sh(2, &format!("cat {}", own("hard/once/log"))).ok();
    let wanted: String = (1..=ROUNDS).map(|n| format!("{n}\n")).collect();
    assert_eq!(log, wanted);
    assert_eq!(lab.sh(2, &format!("ls {}", own("hard/once"))).ok(), "log\n");
}

fn waits_for_a_paused_node(lab: &Lab) {
    lab.sh(2, &format!("echo hello > {}", own("hard/file"))).ok();
    let mut hands = [Hand::new(lab, 1), Hand::new(lab, 1), Hand::new(lab, 1)];
    hands[0].ok(&format!("op('f', {:?})", hard("hard/file")));
    lab.fault("pause", 2);
    is_noticed(lab);
    hands[0].send("(wr('f', b'HELLO'), os.fsync(fds['f']), rd('f', 5))[2].decode()");
    hands[1].send(&format!("os.listdir({:?})", hard("hard")));
    hands[2].send(&format!("get({:?}).decode()", hard("hard/file")));
    for hand in &mut hands {
        assert_eq!(hand.answer(Duration::from_secs(2)), None, "it waits");
    }
    lab.fault("resume", 2);
    let said = hands.each_mut().map(|hand| hand.answer(BACK_MAX));
    assert_eq!(said[0], Some(Ok("HELLO".into())));
    assert!(matches!(&said[1], Some(Ok(_))) && matches!(&said[2], Some(Ok(_))), "{said:?}");
    assert_eq!(lab.sh(2, &format!("cat {}", own("hard/file"))).ok(), "HELLO\n");
}

fn who_waits_can_be_ended(lab: &Lab) {
    let hands = [(); 4].map(|()| {
        let mut hand = Hand::new(lab, 1);
        hand.ok(&format!("op('f', {:?}, os.O_RDWR | os.O_CREAT)", hard("hard/ended")));
        hand
    });
    lab.fault("cut", 2);
    is_noticed(lab);
    let steps = [
        format!("os.listdir({:?})", hard("hard")),
        format!("os.mkdir({:?})", hard("hard/never")),
        "rd('f', 4096, 1 << 20)".to_owned(),
        // More than may be under way: it waits for what is.
        "[wr('f', bytes(1 << 20), n << 20) for n in range(40)] and cl('f')".to_owned(),
    ];
    let mut all: Vec<_> =
        hands.into_iter().zip(steps).zip(["KILL", "INT", "INT", "KILL"]).collect();
    for ((hand, step), _) in &mut all {
        hand.send(step);
    }
    for ((hand, step), signal) in all {
        let took = hand.end_by(lab, &format!("-{signal}"));
        assert!(took < END_MAX, "{step}: {signal} took {took:?}");
    }
}

/// What waits for it ends when the others have taken it out of the cluster.
fn a_node_that_is_none(lab: &Lab) {
    let mut hand = Hand::new(lab, 1);
    lab.fault("kill", 2);
    is_noticed(lab);
    hand.send(&format!("os.listdir({:?})", hard("hard")));
    assert_eq!(hand.answer(Duration::from_secs(2)), None, "it waits");
    lab.sh(1, "krg nodes del --force -n 2").ok();
    let said = hand.answer(BACK_MAX);
    assert!(matches!(&said, Some(Err(_))), "{said:?}");
}
