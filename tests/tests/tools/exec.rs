//! Commands inside of `krg exec`: they end as they would without, and find themselves in /proc.

use super::cast::{SOON, gpid, on_view};
use super::checks::Checks;
use krg_tests::{Lab, Said, within};
use std::io::Write;
use std::process::Stdio;

const PYTHON: &str = "/usr/bin/python3";

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    checks.check("exit codes", || exit_codes(lab));
    checks.check("input and output", || input(lab));
    checks.check("the command's own pid", || itself(lab));
    checks.check("magic links", || magic_links(lab));
    checks.check("bash", || bash(lab));
    checks.check("threads", || {
        let said = python(lab, include_str!("exec_thread.py"), &[]).ok();
        assert_eq!(said, "True krg-thread python3 True True\n");
    });
    checks.check("poll of mounts", || {
        let said = python(lab, include_str!("exec_poll.py"), &["/mnt"]).ok();
        assert_eq!(said, "0 1 True True\n");
    });
    checks.check("names that are not there", || absent(lab));
    checks.check("nested", || {
        let said = on_view(lab, "krg exec -- cat /proc/nodes/nrnodes").ok();
        assert!(said.starts_with("ONLINE:3\n"), "{said}");
    });
    checks.check("nothing of it stays", || {
        let mounts = lab.sh(1, "cat /proc/self/mounts").ok();
        let ours: Vec<&str> = mounts.lines().filter(|l| l.contains("krgproc")).collect();
        assert!(ours.len() == 1 && ours[0].contains(" /cluster/proc "), "{mounts}");
    });
}

#[track_caller]
/// What a script of python's says in a session.
pub fn python(lab: &Lab, script: &str, args: &[&str]) -> Said {
    let command = ["krg", "exec", "--", PYTHON, "-c", script];
    lab.exec(1, &[&command[..], args].concat())
}

fn exit_codes(lab: &Lab) {
    let code = |words: &[&str]| lab.exec(1, &[&["krg", "exec", "--"], words].concat()).code;
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["krg-no-such-command"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126, "it cannot be run");
    assert_eq!(code(&["/mnt"]), 126, "a directory");
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 128 + 15);
    assert_eq!(code(&["sh", "-c", "kill -KILL $$"]), 128 + 9);
    let said = on_view(lab, "krg-no-such-command");
    assert!(said.err.contains("krg-no-such-command"), "{said:?}");
    let wrong = lab.sh(1, "krg exec --view /krg-missing -- true");
    assert!(wrong.code != 0 && wrong.err.contains("/krg-missing"), "{wrong:?}");
}

fn input(lab: &Lab) {
    let mut command = lab.command(1);
    command.args(["krg", "exec", "--", "sh", "-c", "cat; echo told >&2; pwd"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"through\n").expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through\n/\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "told\n");
    let env = lab.sh(1, "KRG_PASSED=on krg exec -- printenv KRG_PASSED").ok();
    assert_eq!(env, "on\n");
}

/// A process finds itself by the number that its kernel tells it, and by its cluster pid.
fn itself(lab: &Lab) {
    let said = lab.view(1, "echo $$; readlink /proc/self; cat /proc/$$/comm").ok();
    let lines: Vec<&str> = said.lines().collect();
    // readlink is a child of the shell.
    let (own, child): (u32, u32) = (lines[0].parse().unwrap(), lines[1].parse().unwrap());
    assert!(child > own && lines[2] == "sh", "{said}");
    let script = "read -r pid rest </proc/$(( (1 << 22) + $$ ))/stat; echo $pid $$";
    let said = lab.view(1, script).ok();
    let numbers: Vec<u32> = said.split_whitespace().map(|w| w.parse().expect("a pid")).collect();
    assert_eq!(numbers[0], gpid(1, numbers[1]));
    let said = lab.view(1, "cat /proc/self/cmdline | tr \"\\0\" \" \"").ok();
    assert_eq!(said, "cat /proc/self/cmdline ");
}

fn magic_links(lab: &Lab) {
    assert_eq!(lab.view(1, "readlink /proc/self/exe").ok(), "/usr/bin/readlink\n");
    assert_eq!(lab.view(1, "cd /usr && readlink /proc/self/cwd").ok(), "/usr\n");
    assert_eq!(lab.view(1, "exec 7</etc/hostname; cat /proc/self/fd/7").ok(), "node1\n");
    // The link leads to the open file itself, not to a name: the file has none any more.
    let deleted = "f=$(mktemp); exec 8<>$f; rm $f; echo kept >&8; cat /proc/self/fd/8";
    assert_eq!(lab.view(1, deleted).ok(), "kept\n");
    assert_eq!(lab.view(1, "echo piped | cat /dev/fd/0 /dev/null").ok(), "piped\n");
    assert_eq!(lab.view(1, "echo out >/dev/stdout; echo err >/proc/self/fd/2").err, "err\n");
    let again = "exec /proc/self/exe -c \"print(6 * 7)\"";
    let script = format!("import os; os.execv('/bin/sh', ['sh', '-c', '{again}'])");
    let said = python(lab, &script, &[]);
    assert!(said.code != 0, "/proc/self is the shell's by then: {said:?}");
    let script = "import os; os.execv('/proc/self/exe', ['python3', '-c', 'print(6 * 7)'])";
    assert_eq!(python(lab, script, &[]).ok(), "42\n");
    let spaces = "test /proc/self/ns/mnt -ef /proc/$$/ns/mnt && echo same";
    assert_eq!(lab.view(1, spaces).ok(), "same\n");
}

fn bash(lab: &Lab) {
    let bash = |line: &str| lab.exec(1, &["krg", "exec", "--", "bash", "-c", line]).ok();
    assert_eq!(bash("cat <(echo one) <(echo two)"), "one\ntwo\n");
    assert_eq!(bash("diff <(echo same) <(echo same) && echo equal"), "equal\n");
    assert_eq!(bash("read -r a < <(echo sub); echo $a"), "sub\n");
    assert_eq!(bash("cat <<<word; [[ -e /dev/fd/0 ]] && echo there"), "word\nthere\n");
}

/// What was not there is not remembered as such once it is.
fn absent(lab: &Lab) {
    for name in ["krg-none", "0", "007", "+1", "4194304", "99999999999", "nodes/node9"] {
        let said = lab.sh(1, &format!("export LC_ALL=C; cat /cluster/proc/{name}/stat"));
        assert!(said.code == 1 && said.err.contains("No such file"), "{name}: {said:?}");
    }
    // The next pid of node 3 is one that was asked for in vain before.
    let next = 40_001;
    let missing = |pid: u32| lab.sh(1, &format!("cat /cluster/proc/{}/comm", gpid(3, pid)));
    for pid in next..next + 20 {
        assert_eq!(missing(pid).code, 1);
    }
    lab.sh(3, &format!("echo {} >/proc/sys/kernel/ns_last_pid", next - 1)).ok();
    let born = lab.background(3, "exec sleep 44044");
    assert!((next..next + 20).contains(&born), "{born} was not asked for");
    within(SOON, || {
        let said = missing(born);
        if said.out == "sleep\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    lab.sh(3, &format!("kill {born}")).ok();
    within(SOON, || {
        let said = missing(born);
        if said.code == 1 { Ok(()) } else { Err(format!("it has ended: {said:?}")) }
    });
}
