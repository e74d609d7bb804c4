//! What a user may not read on the owning node he may not read here.

use super::cast::{Cast, NODES, Process, SOON, gpid};
use super::checks::Checks;
use krg_tests::{Lab, within};
use std::collections::BTreeMap;

/// The user nobody, with no group but its own.
const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";
/// Files, links and directories that only their owner may read.
const PRIVATE: [&str; 12] = [
    "environ",
    "io",
    "maps",
    "smaps",
    "smaps_rollup",
    "auxv",
    "syscall",
    "personality",
    "fd",
    "ns",
    "cwd",
    "exe",
];
/// What anybody may read.
const PUBLIC: [&str; 9] =
    ["stat", "statm", "status", "cmdline", "comm", "cgroup", "limits", "mountinfo", "task"];

/// All of it; the last of it changes node 3 for good.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("nobody: root's process", || others(lab, cast));
    checks.check("nobody: its own process", || own(lab, cast));
    checks.check("nobody: as on the node itself", || as_native(lab, cast));
    checks.check("root reads all", || {
        let told = attempts(lab, 1, "", &format!("/cluster/proc/{}", cast.nobody.gpid()));
        let refused: Vec<_> = told.iter().filter(|(_, may)| !**may).collect();
        assert!(refused.is_empty(), "{refused:?}");
    });
    checks.check("addresses in stat", || addresses(lab, cast));
    checks.check("daemon: nobody's process", || {
        let daemon = "setpriv --reuid=1 --regid=1 --clear-groups";
        let dir = |process: &Process| format!("/cluster/proc/{}", process.gpid());
        assert!(!attempts(lab, 1, daemon, &dir(&cast.nobody))["environ"]);
        assert!(attempts(lab, 1, daemon, &dir(&cast.threads))["environ"]);
    });
    checks.check("hidepid", || hidepid(lab, cast));
}

/// Which of the files of a process can be read, `who` being what to run the reading by. A
/// refusal is one for want of permission; any other error fails.
#[track_caller]
fn attempts(lab: &Lab, node: u32, who: &str, dir: &str) -> BTreeMap<String, bool> {
    let names = [&PRIVATE[..], &PUBLIC[..]].concat().join(" ");
    let script = format!(
        "for f in {names}; do \
           p={dir}/$f; \
           case $f in cwd|exe) link=1;; *) link=;; esac; \
           if [ $link ]; then e=$(readlink -v $p 2>&1 >/dev/null); \
           elif [ -d $p ]; then e=$(ls $p 2>&1 >/dev/null); \
           else e=$(cat $p 2>&1 >/dev/null); fi; \
           echo \"$f:$?:$e\"; \
         done"
    );
    let said = lab.sh(node, &format!("export LC_ALL=C; {who} sh -c '{script}'")).ok();
    let attempt = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let mut next = || parts.next().expect("three parts").to_owned();
        let (name, code, error) = (next(), next(), next());
        let denied =
            ["Permission denied", "Operation not permitted"].iter().any(|e| error.contains(e));
        assert!(code == "0" || denied, "{dir}/{name}: {error}");
        (name, code == "0")
    };
    said.lines().map(attempt).collect()
}

fn others(lab: &Lab, cast: &Cast) {
    let told = attempts(lab, 1, AS_NOBODY, &format!("/cluster/proc/{}", cast.burner.gpid()));
    let read: Vec<_> = PRIVATE.iter().filter(|name| told[**name]).collect();
    assert!(read.is_empty(), "nobody could read {read:?} of root's process");
    let refused: Vec<_> = PUBLIC.iter().filter(|name| !told[**name]).collect();
    assert!(refused.is_empty(), "anybody may read {refused:?}");
    let one = format!("cat /cluster/proc/{}/fdinfo/0", cast.burner.gpid());
    let said = lab.sh(1, &format!("{AS_NOBODY} {one}"));
    assert!(said.code != 0 && said.out.is_empty(), "{said:?}");
    // The same through krg exec, which needs no root.
    let line = format!("{AS_NOBODY} krg exec -- cat /proc/{}/environ", cast.burner.gpid());
    let said = lab.sh(1, &line);
    assert!(said.code != 0 && said.err.contains("Permission denied"), "{said:?}");
    // root having read it before must not have left it where nobody finds it.
    let file = format!("/cluster/proc/{}/environ", cast.burner.gpid());
    lab.exec(1, &["cat", &file]).ok();
    let said = lab.sh(1, &format!("{AS_NOBODY} cat {file}"));
    assert!(said.code != 0 && said.out.is_empty(), "{said:?}");
}

fn own(lab: &Lab, cast: &Cast) {
    let dir = format!("/cluster/proc/{}", cast.nobody.gpid());
    let told = attempts(lab, 1, AS_NOBODY, &dir);
    let refused: Vec<_> = told.iter().filter(|(_, may)| !**may).collect();
    assert!(refused.is_empty(), "nobody may read its own: {refused:?}");
    let environ = lab.sh(1, &format!("{AS_NOBODY} cat {dir}/environ")).ok();
    assert!(environ.split('\0').any(|word| word == "KRG_MARK=mine"), "{environ}");
    assert_eq!(lab.sh(1, &format!("{AS_NOBODY} readlink {dir}/fd/0")).ok(), "/dev/null\n");
    assert_eq!(lab.sh(1, &format!("{AS_NOBODY} readlink {dir}/exe")).ok(), "/usr/bin/sleep\n");
}

/// The same questions asked on node 3 have the same answers.
fn as_native(lab: &Lab, cast: &Cast) {
    for process in [&cast.burner, &cast.nobody, &cast.threads, &cast.parent] {
        let native = attempts(lab, 3, AS_NOBODY, &format!("/proc/{}", process.local));
        let seen = attempts(lab, 1, AS_NOBODY, &format!("/cluster/proc/{}", process.gpid()));
        assert_eq!(seen, native, "{process:?}");
    }
}

/// Where code, stack and arguments lie: fields 26 to 30 and 45 to 51 of stat.
fn addresses(lab: &Lab, cast: &Cast) {
    let fields = |node: u32, who: &str, path: &str| -> Vec<String> {
        let text = lab.sh(node, &format!("{who} cat {path}")).ok();
        let rest = text.rsplit_once(") ").expect("a name").1.to_owned();
        // The first here is the third of all.
        let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        [&words[23..28], &words[42..49]].concat()
    };
    let (here, there) = (
        format!("/cluster/proc/{}/stat", cast.burner.gpid()),
        format!("/proc/{}/stat", cast.burner.local),
    );
    let hidden = fields(1, AS_NOBODY, &here);
    assert_eq!(hidden, fields(3, AS_NOBODY, &there), "as the owner's kernel hides them");
    assert!(hidden.iter().all(|n| n == "0" || n == "1"), "{hidden:?}");
    assert_eq!(fields(1, "", &here), hidden, "one text is kept for all who read it");
    let task = format!("/cluster/proc/{0}/task/{0}/stat", cast.burner.gpid());
    assert_eq!(fields(1, AS_NOBODY, &task), hidden, "nor by way of the thread");
    let shown = fields(1, "", &task);
    assert_eq!(shown[0], fields(3, "", &there)[0], "root sees where the code begins");
    assert!(shown[0].parse::<u64>().expect("an address") > 4096, "{shown:?}");
}

/// What hidepid hides on its owner has a directory that only the owner can enter.
fn hidepid(lab: &Lab, cast: &Cast) {
    lab.sh(3, "mount -o remount,hidepid=2 /proc").ok();
    // krgd reads the option when it starts; the node's init starts it again.
    lab.sh(3, "pkill -KILL -x krgd").ok();
    let mode = |process: &Process| {
        let said = lab.exec(1, &["stat", "-c", "%a %U", &dir_of(process)]);
        (said.out.trim().to_owned(), said.err)
    };
    // The kernel may still know the old mode of each for a moment.
    for (process, wanted) in [(&cast.burner, "500 root"), (&cast.nobody, "500 nobody")] {
        within(SOON, || match mode(process) {
            (told, _) if told == wanted => Ok(()),
            told => Err(format!("{told:?}")),
        });
    }
    for process in cast.sleepers.iter().filter(|p| p.node != 3) {
        assert_eq!(mode(process).0, "555 root", "node {} hides nothing", process.node);
    }
    assert_eq!(NODES.filter(|n| lab.exec(*n, &["true"]).code == 0).count(), 3);
    for file in ["stat", "cmdline", "status", "comm", "task"] {
        let path = format!("{}/{file}", dir_of(&cast.burner));
        let said = lab.sh(1, &format!("export LC_ALL=C; {AS_NOBODY} ls {path}"));
        assert!(said.code != 0 && said.err.contains("Permission denied"), "{file}: {said:?}");
        lab.exec(1, &["ls", &path]).ok();
    }
    let own = lab.sh(1, &format!("{AS_NOBODY} cat {}/comm", dir_of(&cast.nobody))).ok();
    assert_eq!(own, "sleep\n");
    let listed = lab.sh(1, &format!("{AS_NOBODY} krg ps -eo pid=")).ok();
    let pids: Vec<u32> = listed.lines().map(|l| l.trim().parse().expect("a pid")).collect();
    assert!(pids.contains(&cast.nobody.gpid()) && !pids.contains(&cast.burner.gpid()));
    assert!(pids.contains(&gpid(2, 1)), "node 2 hides nothing: {pids:?}");
}

fn dir_of(process: &Process) -> String {
    format!("/cluster/proc/{}", process.gpid())
}
