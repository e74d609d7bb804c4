//! Jobs that are saved, frozen and begun again.

use super::once::{Held, kill_criu};
use super::{AS_USER, SOON};
use super::{counter, counts, end, job, needs, nothing_is_left, put, quick};
use krg_tests::{Lab, Said, can_run, within};
use serde_json::Value;
use std::time::Duration;

/// Below this what is saved is found on the node where a job was started.
const KEPT: &str = "/var/chkpt";

#[track_caller]
fn json(lab: &Lab, node: u32, line: &str) -> Value {
    serde_json::from_str(&quick(lab, node, line).ok()).expect("JSON")
}

pub fn jobs_are_saved_and_begin_again(lab: &Lab) {
    let number = counter(lab, "saved");
    counts(lab, "saved");
    for (version, node) in [(1, 1), (2, 3)] {
        let told = json(lab, node, &format!("krg checkpoint {number} --json -d 'of {node}'"));
        assert_eq!((&told["version"], &told["home"]), (&version.into(), &1.into()), "{told}");
        counts(lab, "saved");
    }
    // Where it is away too, it is saved at home.
    quick(lab, 1, &format!("krg migrate {number} 2")).ok();
    let told = json(lab, 2, &format!("krg checkpoint {number} --json --kill=KILL"));
    assert_eq!(told["path"], format!("{KEPT}/{number}/v3"));
    nothing_is_left(lab, "saved");
    let listed = json(lab, 3, &format!("krg checkpoints {number} --json"));
    let all = listed["checkpoints"].as_array().expect("a list");
    let words: Vec<&str> = all.iter().filter_map(|v| v["description"].as_str()).collect();
    assert_eq!(words, ["of 1", "of 3", "No description"]);
    let text = quick(lab, 1, &format!("cat {KEPT}/{number}/v2/description.txt")).ok();
    let head = format!("Identifier: {number}\nVersion: 2\nDescription: of 3\nDate: ");
    assert!(text.starts_with(&head), "{text}");

    // What it did last was in no file that is lost: it goes on from there, on any node.
    for (node, place) in [(1, ""), (2, "--node 2"), (1, "--node 3")] {
        quick(lab, node, &format!("krg restart {number} {place}")).ok();
        counts(lab, "saved");
        quick(lab, 1, &format!("krg checkpoint {number} --kill=KILL")).ok();
        nothing_is_left(lab, "saved");
    }
    quick(lab, 2, &format!("krg checkpoints --remove {number} 1")).ok();
    let gone = quick(lab, 1, &format!("krg restart {number} 1"));
    assert!(gone.code == 1 && gone.err.contains("/v1"), "{gone:?}");
    refused_and_named(lab, number);
    quick(lab, 1, &format!("rm -r {KEPT}/{number}")).ok();
}

/// A byte of each file of a version: none of it is believed, and nothing begins.
#[track_caller]
fn refused_and_named(lab: &Lab, number: u64) {
    let newest = format!("{KEPT}/{number}/$(ls -v {KEPT}/{number} | tail -1)");
    let files = quick(lab, 1, &format!("cd {newest}; ls -S manifest.json *.img")).ok();
    let flip = "python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); b = f.read(9)[8:9]; \
                f.seek(8); f.write(bytes([b[0] ^ 1]))'";
    let mut lines = format!("cd {newest}; cp -a . /var/tmp/kept; ");
    for file in files.lines() {
        lines += &format!(
            "{flip} {file}; krg restart {number}; cp -a /var/tmp/kept/{file} {file}; \
             truncate -s -1 {file}; krg restart {number}; cp -a /var/tmp/kept/{file} {file}; "
        );
    }
    let said = quick(lab, 1, &format!("({lines}) 2>&1; rm -r /var/tmp/kept"));
    let named: Vec<&str> = said.out.lines().collect();
    let wanted: Vec<&str> = files.lines().flat_map(|file| [file, file]).collect();
    assert_eq!(named.len(), wanted.len(), "{}", said.out);
    for (line, file) in named.iter().zip(wanted) {
        assert!(line.contains(file), "{file}: {line}");
    }
    assert!(job(lab, "saved").is_none());
}

pub fn saved_jobs_are_their_owners(lab: &Lab) {
    let line = "krg run -b --name mine sh -c 'echo $(id -u); sleep 300'";
    quick(lab, 1, &format!("chmod 1777 /var/tmp; {AS_USER} {line}")).ok();
    let number = job(lab, "mine").expect("it runs")["job"].as_u64().expect("a number");
    let other = "setpriv --reuid=1001 --regid=1001 --clear-groups";
    let refused = quick(lab, 1, &format!("{other} krg checkpoint {number}"));
    assert!(refused.code == 1 && refused.err.contains("another user's"), "{refused:?}");
    quick(lab, 1, &format!("{AS_USER} krg checkpoint {number} --kill=KILL")).ok();
    let refused = quick(lab, 1, &format!("{other} krg restart {number}"));
    assert!(refused.code == 1 && refused.err.contains("another user's"), "{refused:?}");
    let listed = json(lab, 2, &format!("{other} krg checkpoints --json"));
    assert_eq!(listed["checkpoints"], Value::Array(Vec::new()));
    // He reads what is saved of his, but what he has put there himself is not believed.
    let kept = format!("{KEPT}/{number}");
    quick(lab, 1, &format!("{AS_USER} cat {kept}/v1/manifest.json")).ok();
    assert_ne!(quick(lab, 1, &format!("{other} ls {kept}")).code, 0);
    let forged = format!("{AS_USER} sh -c 'cp -r {kept}/v1 {kept}/v2 && krg restart {number}'");
    let refused = quick(lab, 1, &forged);
    assert!(refused.code == 1 && refused.err.contains("not written by krg"), "{refused:?}");
    quick(lab, 1, &format!("{AS_USER} krg restart {number} 1")).ok();
    assert_eq!(quick(lab, 1, "stat -c %u /proc/$(pgrep -x sleep)").ok(), "1000\n");
    quick(lab, 1, &format!("pkill -x sleep; rm -r {kept}")).ok();
    nothing_is_left(lab, "mine");
}

pub fn frozen_jobs_use_no_processor(lab: &Lab) {
    quick(lab, 1, "krg run -b --name busy sh -c 'while :; do :; done'").ok();
    let used = || -> u64 {
        let line = "awk '{print $14 + $15}' /proc/$(pgrep -f 'while :[;] do :')/stat";
        quick(lab, 1, line).ok().trim().parse().expect("ticks")
    };
    quick(lab, 1, "krg checkpoint busy --freeze").ok();
    let before = used();
    assert_eq!(job(lab, "busy").expect("it is there")["state"], "frozen");
    let number = job(lab, "busy").expect("it is there")["job"].as_u64().expect("a number");
    for (line, words) in [
        (format!("krg migrate {number} 2"), "frozen"),
        (format!("checkpoint -f {number}"), "frozen already"),
    ] {
        let refused = quick(lab, 1, &line);
        assert!(refused.code == 1 && refused.err.contains(words), "{line}: {refused:?}");
    }
    let saved = quick(lab, 1, &format!("checkpoint -c {number}")).ok();
    let lines = format!(
        "Checkpointing application in which process {number} is involved...\n\
         Identifier: {number}\nVersion: 1\nDescription: No description\nDate: "
    );
    assert!(saved.starts_with(&lines), "{saved}");
    // Criu looks at it with code that runs in it for some milliseconds.
    let own = used() - before;
    assert!(own <= 10, "it has run for {own} ticks");
    quick(lab, 1, "krg checkpoint busy --unfreeze").ok();
    let rested = used();
    within(SOON, || (used() > rested).then_some(()).ok_or_else(|| "it does not run".into()));
    assert_ne!(quick(lab, 1, &format!("checkpoint -c {number}")).code, 0);
    let busy = quick(lab, 1, &format!("restart {number} 1"));
    let words = format!("restart: an application using appid {number} is already running\n");
    assert_eq!((busy.code, busy.err), (1, words));
    quick(lab, 1, &format!("checkpoint -k9 {number}")).ok();
    nothing_is_left(lab, "busy");
    // It begins frozen, and goes on when it is told to; so does one that was saved frozen.
    let begun = quick(lab, 1, &format!("restart -U {number} 2")).ok();
    assert!(begun.contains("restored in *FROZEN* state"), "{begun}");
    let before = used();
    assert_eq!(job(lab, "busy").expect("it is there")["state"], "frozen");
    quick(lab, 1, &format!("checkpoint -u {number}")).ok();
    within(SOON, || (used() > before).then_some(()).ok_or_else(|| "it does not run".into()));
    // A second one, beside it, has its own number.
    let second = quick(lab, 1, &format!("krg restart {number} 1")).ok();
    assert_ne!(second.trim(), number.to_string());
    assert_eq!(quick(lab, 1, "krg jobs --json | jq '.jobs | length'").ok(), "2\n");
    quick(lab, 1, &format!("pkill -KILL -f 'while :[;] do :'; rm -r {KEPT}/{number}")).ok();
    nothing_is_left(lab, "busy");
}

/// Has a file open all the time, and a line read from its caller.
const WRITER: &str =
    "exec 3>>/var/tmp/log; echo $$; while read x; do echo $x >&3; echo got $x; done";

pub fn what_they_write_and_read_is_replugged(lab: &Lab) {
    put(lab, 1, "/var/tmp/writer.sh", WRITER);
    let start = "cd /var/tmp; rm -f log in; mkfifo in; sleep 30 > in & \
                 krg run --name writer sh writer.sh < in > out & \
                 while ! [ -s out ]; do sleep 0.02; done; echo one > in; \
                 while ! grep -q one out; do sleep 0.02; done; \
                 krg checkpoint writer --files --json | jq .app,.files; \
                 echo two > in; while ! grep -q two out; do sleep 0.02; done; \
                 krg checkpoint writer --kill=KILL > k; wait %2; cat log; kill %1";
    let said = quick(lab, 1, start).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[1..], ["2", "one", "two"], "{said}");
    let number = lines[0];
    // Its file is not as it was: that is said, and changed only if that is asked for.
    let changed = quick(lab, 1, &format!("krg restart {number} 1"));
    assert!(changed.code == 1 && changed.err.contains("/var/tmp/log"), "{changed:?}");
    assert!(changed.err.contains("--files"), "{changed:?}");
    assert_eq!(quick(lab, 1, "cat /var/tmp/log").ok(), "one\ntwo\n");
    let line = format!("cd /var/tmp; echo three | krg restart --foreground --files {number} 1");
    // What was a file for it is the same file again.
    let said = quick(lab, 1, &format!("{line}; cat log; tail -1 out")).ok();
    assert_eq!(said, "one\nthree\ngot three\n");
    quick(lab, 1, &format!("rm -r {KEPT}/{number}")).ok();
    nothing_is_left(lab, "writer");
}

/// Writes each number once, and has the file open all the time.
const KEEPER: &str = "exec 3>/var/tmp/count; n=0; while :; do n=$((n+1)); echo $n >&3; \
                      sleep 0.02; done";

#[track_caller]
fn keeper(lab: &Lab, name: &str) -> u64 {
    quick(lab, 1, &format!("krg run -b --name {name} -- sh -c '{KEEPER}'")).ok();
    counts(lab, name);
    job(lab, name).expect("it runs")["job"].as_u64().expect("a number")
}

/// Saved every now and then while what saves it is killed, or has no room: it runs on, and what is
/// there is whole.
pub fn half_a_version_is_none(lab: &Lab) {
    // A job has the mounts that there were when it began, where the machine does not share them.
    let full = "mkdir /var/tmp/full; mount -t tmpfs -o size=64k,mode=755 none /var/tmp/full";
    quick(lab, 1, full).ok();
    let number = keeper(lab, "often");
    let kept = format!("{KEPT}/{number}");
    quick(lab, 1, &format!("krg checkpoint {number} --files")).ok();
    let full = format!(
        "krg checkpoint {number} --dir /var/tmp/full; c=$?; ls -A /var/tmp/full/{number}; \
         umount /var/tmp/full; exit $c"
    );
    let full = quick(lab, 1, &full);
    assert!(full.code == 1 && full.err.contains("No space left"), "{full:?}");
    assert_eq!(full.out, "", "half a version is there");
    counts(lab, "often");
    let killed = format!(
        "for t in 1 2 3 4 5 6; do krg checkpoint {number} --files & sleep 0.0$t; \
         pkill -KILL -x criu; wait $!; done; ls -A {kept} | grep -v '^v'; true"
    );
    let killed = quick(lab, 1, &killed);
    let left: Vec<&str> = killed.out.lines().filter(|l| !l.contains(" version ")).collect();
    assert!(left.is_empty(), "half a version is left: {left:?}");
    counts(lab, "often");
    quick(lab, 1, &format!("krg checkpoint {number} --files; pkill -KILL -x krg-job")).ok();
    end(lab, "often");
    quick(lab, 1, &format!("krg restart {number} --files")).ok();
    counts(lab, "often");
    end(lab, "often");
    quick(lab, 1, &format!("rm -r {kept}")).ok();
}

/// The versions of a job.
fn versions(lab: &Lab, number: u64) -> String {
    quick(lab, 1, &format!("ls {KEPT}/{number}")).out.replace('\n', " ")
}

/// Saves it, and does something when that has got to a point; how it ended.
#[track_caller]
fn interrupted(lab: &Lab, node: u32, point: &'static str, act: fn(&Lab) -> &'static str) -> Said {
    let held = Held::at(lab, node, point);
    std::thread::scope(|threads| {
        let saved = threads.spawn(|| quick(lab, 1, "krg checkpoint kept --files"));
        held.reached(&saved);
        match act(lab) {
            "gone" => {}
            word => held.tell(word),
        }
        saved.join().expect("the thread")
    })
}

fn kill_krgd(lab: &Lab) -> &'static str {
    quick(lab, 1, "pkill -KILL -x krgd").ok();
    "go"
}

fn kill_node_2(lab: &Lab) -> &'static str {
    lab.fault("kill", 2);
    "gone"
}

/// CRIU, the holder, krgd or the node dies while a job is saved: what was saved last is whole, and
/// goes on.
#[test]
fn what_was_saved_last_is_whole_whoever_dies() {
    if !can_run("what_was_saved_last_is_whole", &needs()) {
        return;
    }
    let lab = Lab::start_with(3, &["--node-env", "KRG_FAULTS=/run/faults"]);
    let number = keeper(&lab, "kept");
    quick(&lab, 1, "krg checkpoint kept --files").ok();
    for point in ["saving", "saved"] {
        assert_ne!(interrupted(&lab, 1, point, |_| "die").code, 0, "{point}");
        end(&lab, "kept");
        quick(&lab, 1, &format!("krg restart {number} --files")).ok();
        counts(&lab, "kept");
        assert_eq!(versions(&lab, number), "v1 ", "{point}");
    }
    for (node, point, act, more) in [
        (1, "saving", kill_criu as fn(&Lab) -> &'static str, ""),
        (1, "saving", kill_krgd, "v2 "),
        (1, "saved", kill_krgd, "v2 v3 "),
    ] {
        let said = interrupted(&lab, node, point, act);
        assert_ne!(said.code, 0, "{point}: {said:?}");
        within(SOON, || match versions(&lab, number) {
            now if now == format!("v1 {more}") => Ok(()),
            now => Err(format!("{point}: {now}: {said:?}")),
        });
        // The next krgd is there.
        within(SOON, || match quick(&lab, 1, "krg jobs") {
            said if said.out.contains("kept") => Ok(()),
            said => Err(said.err),
        });
        counts(&lab, "kept");
    }
    let away = "at() { krg jobs --json | jq .jobs[0].node; }; [ $(at) = 2 ] || \
                krg migrate $(krg jobs --json | jq .jobs[0].job) 2; \
                [ $(at) = 2 ] && krg checkpoint kept --files";
    // The nodes agree again.
    within(Duration::from_secs(20), || match quick(&lab, 1, away) {
        said if said.code == 0 => Ok(()),
        said => Err(said.err),
    });
    let said = interrupted(&lab, 2, "saving", kill_node_2);
    assert_ne!(said.code, 0, "{said:?}");
    // It may have led: the other two agree again when they have elected one of themselves.
    within(SOON, || match quick(&lab, 1, "krg config set agrees again") {
        said if said.code == 0 => Ok(()),
        said => Err(said.err),
    });
    // Nobody knows here what became of the other one: this is another.
    let begun = quick(&lab, 1, &format!("krg restart {number} --files")).ok();
    assert_ne!(begun.trim(), number.to_string());
    counts(&lab, "kept");
}

pub fn objects_of_system_v_are_saved(lab: &Lab) {
    let said = quick(
        lab,
        1,
        "cd /var/tmp; rm -f o.*; q=$(ipcmk -Q | grep -o '[0-9]*$'); s=$(ipcmk -S 3 | \
         grep -o '[0-9]*$'); m=$(ipcmk -M 100000 | grep -o '[0-9]*$'); \
         ipccheckpoint -q $q o.q && ipccheckpoint -s $s o.s && ipccheckpoint -m $m o.m; \
         ipccheckpoint -m $m o.m; echo $?; ipcrestart -m o.m; echo $?; ipcrestart -q o.s; echo $?; \
         ipcrm -q $q -s $s -m $m; ipcrestart -q o.q; ipcrestart -s o.s; ipcrestart -m o.m; \
         ipcs | grep -c 0x; ipcs -m | awk '$5 == 100000' | wc -l; ipcrm -q $q -s $s -m $m",
    );
    assert_eq!(said.out, "1\n1\n1\n3\n1\n", "{said:?}");
    assert!(said.err.contains("File exists"), "{said:?}");
}
