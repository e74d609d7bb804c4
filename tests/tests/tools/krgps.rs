//! krg ps beside ps: the same text of the same processes, also of those that would not have it so.

use super::cast::{Cast, SOON, gpid};
use super::checks::Checks;
use krg_tests::{Lab, Said, within};
use serde_json::Value;
use std::collections::BTreeSet;

/// Command lines that krg answers itself.
const FORMS: [&str; 36] = [
    "-e",
    "-ef",
    "-eF",
    "aux",
    "axf",
    "axj",
    "auxww",
    "auxf",
    "-aux",
    "-ely",
    "-ej",
    "-efj",
    "-eH",
    "-efH",
    "-e --forest",
    "-eP",
    "-ec",
    "x",
    "-d",
    "-e --no-headers",
    "-ef --cols 60",
    "auxw --cols 20",
    "-N -u root -o pid,user",
    "-u daemon,nobody -f",
    "-U root -o pid,args",
    "-C sleep,krgburn -o pid,args",
    "--ppid 1 -o pid,comm",
    "-e --sort=-pid -o pid,comm",
    "-e --sort=user,-pid -o user,pid",
    "-e --sort=comm,pid -o comm,pid",
    "-O ppid -e",
    "-eo pid=,comm=",
    "-eo pid,ppid,pgid,sid,tpgid,uid,user,euser,ruser,gid,group,rgroup,comm,args",
    "-eo user:4,pid:12,args:30,comm,tty",
    "-eo pid,stat,s,ni,pri,opri,nlwp,flags,class,cls,rtprio,policy,thcount,pmem,rss,vsz,sz",
    "-eo pid,lstart,start,stime,bsdstart,start_time,user=A-LONG-HEADING",
];

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    for form in FORMS {
        checks.check(&format!("krg ps {form}"), || same(lab, form));
    }
    checks.check("krg ps: columns of the cluster", || columns(lab, cast));
    checks.check("krg ps --json", || json(lab, cast));
    checks.check("krg ps: hostile names", || hostile(lab));
    checks.check("krg ps: as another user", || as_nobody(lab, cast));
    checks.check("krg ps: what it does not know", || beyond(lab));
    checks.check("krg ps: a node that does not answer", || silent(lab, cast));
}

/// Lines that ps prints twice in a row are of what does not change: krg has all of them, in the
/// same order.
#[track_caller]
fn same(lab: &Lab, form: &str) {
    same_under(lab, form, "C.UTF-8");
}

#[track_caller]
fn same_under(lab: &Lab, form: &str, locale: &str) {
    const END: &str = "=== next";
    let line = format!(
        "export LC_ALL={locale}; krg exec -- ps {form}; echo {END}; krg ps {form}; echo {END}; \
         krg exec -- ps {form}"
    );
    within(SOON, || {
        let text = lab.sh(1, &line).out;
        let lines: Vec<&str> = text.lines().collect();
        let parts: Vec<&[&str]> = lines.split(|line| *line == END).collect();
        let [before, krg, after] = &parts[..] else { return Err(text.clone()) };
        let steady: BTreeSet<&&str> = after.iter().filter(|line| before.contains(line)).collect();
        let of = |lines: &[&str]| -> Vec<String> {
            let kept = lines.iter().filter(|line| steady.contains(line));
            kept.map(|line| line.to_string()).collect()
        };
        let enough = steady.len() * 2 > before.len();
        let (wanted, got) = (of(before), of(krg));
        match enough && wanted == got && krg.len().abs_diff(before.len()) < 4 {
            true => Ok(()),
            false => {
                Err(format!("{form}: ps\n{wanted:#?}\nkrg ps\n{got:#?}\nall of it\n{krg:#?}"))
            }
        }
    });
}

fn columns(lab: &Lab, cast: &Cast) {
    let text = lab.sh(1, "krg ps -eo node,age,pid,comm --no-headers").ok();
    let row = |pid: u32| {
        let has = |line: &&str| line.split_whitespace().nth(2) == Some(&*pid.to_string());
        text.lines().find(has).unwrap_or_else(|| panic!("no {pid} in {text}"))
    };
    for sleeper in &cast.sleepers {
        let words: Vec<&str> = row(sleeper.gpid()).split_whitespace().collect();
        assert_eq!((words[0], words[3]), (&*sleeper.node.to_string(), "sleep"));
        let age: f64 = words[1].parse().expect("an age");
        assert!((0.0..2.0).contains(&age), "{age}");
    }
    assert_eq!(row(1).split_whitespace().take(2).collect::<Vec<_>>(), ["-", "-"]);
    let usual = lab.sh(1, "krg ps").ok();
    assert!(usual.starts_with("NODE USER "), "{usual}");
}

#[track_caller]
fn objects(said: Said) -> Vec<Value> {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

fn json(lab: &Lab, cast: &Cast) {
    let all = objects(lab.sh(1, "krg ps -e --json"));
    let of = |pid: u32| all.iter().find(|p| p["pid"] == pid).unwrap_or_else(|| panic!("{pid}"));
    let nobody = of(cast.nobody.gpid());
    assert_eq!((&nobody["node"], &nobody["user"]), (&3.into(), &"nobody".into()));
    assert_eq!(nobody["args"], serde_json::json!(["sleep", "77003"]));
    assert_eq!(of(cast.threads.gpid())["threads"], 4);
    assert_eq!(of(cast.children[0].gpid())["ppid"], cast.parent.gpid());
}

/// They run on node 2, and are looked at on node 1.
fn hostile(lab: &Lab) {
    const SCRIPT: &str = include_str!("hostile.py");
    std::fs::write(lab.path(2, "/tmp/hostile.py"), SCRIPT).expect("it is written");
    let line = "exec /usr/bin/python3 /tmp/hostile.py > /tmp/told";
    let started = lab.background(2, line);
    let told = within(SOON, || {
        let said = lab.sh(2, "cat /tmp/told");
        if said.out.ends_with("\n\n") { Ok(said.out) } else { Err(said.out) }
    });
    let pids: Vec<(u32, &str)> = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(pid, odd)| (gpid(2, pid.parse().expect("a pid")), odd))
        .collect();
    assert_eq!(pids.len(), 13, "{told}");
    let list: Vec<String> = pids.iter().map(|(pid, _)| pid.to_string()).collect();
    let list = list.join(",");
    for locale in ["C.UTF-8", "C"] {
        for columns in ["pid,comm,stat", "pid,args", "comm,pid", "args:20,pid", "fname,pid"] {
            same_under(lab, &format!("-p {list} -o {columns}"), locale);
        }
        same_under(lab, &format!("-ww -p {list} -o pid,args"), locale);
        same_under(lab, &format!("fo pid,args -p {list}"), locale);
        let said = lab.sh(1, &format!("LC_ALL={locale} krg ps -ww -p {list} -o pid,comm,args"));
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!said.out.contains(steers), "{:?}", said.out);
        assert_eq!(said.out.lines().count(), pids.len() + 1, "{}", said.out);
        let longest = said.out.lines().map(str::len).max();
        assert!(longest > Some(131_000), "the long command line is whole: {longest:?}");
    }
    for (pid, odd) in &pids {
        let native = lab.sh(2, &format!("cat -v /proc/{}/comm", pid - gpid(2, 0))).out;
        let shown = lab.sh(1, &format!("cat -v /cluster/proc/{pid}/comm")).out;
        assert_eq!(shown, native, "{odd}");
    }
    let all = objects(lab.sh(1, &format!("krg ps --json -p {list}")));
    let named = |odd: &str| {
        let (pid, _) = pids.iter().find(|(_, what)| *what == odd).expect("it was started");
        all.iter().find(|p| p["pid"] == *pid).expect("it is told")
    };
    assert_eq!(named("newline")["comm"], "a\nb) S 1 (");
    assert_eq!(
        (&named("zombie")["state"], &named("zombie")["args"]),
        (&"Z".into(), &Value::Array(vec![]))
    );
    lab.sh(2, &format!("kill -- -{started}")).ok();
}

/// A user is told no more than the cluster's /proc tells him.
fn as_nobody(lab: &Lab, cast: &Cast) {
    let line = format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups krg ps -o pid,user,args -p {},{}",
        cast.nobody.gpid(),
        cast.burner.gpid()
    );
    let text = lab.sh(1, &line).ok();
    assert_eq!(text.lines().count(), 3, "{text}");
}

fn beyond(lab: &Lab) {
    // ps itself answers, threads and all.
    let text = lab.sh(1, "krg ps -eLf").ok();
    assert!(text.lines().next().is_some_and(|line| line.contains("LWP")), "{text}");
    let said = lab.sh(1, "krg ps -eo node,bogus");
    assert_eq!((said.code, said.err.contains("krg ps --help")), (1, true), "{said:?}");
    let said = lab.sh(1, "krg ps -C there-is-none");
    assert_eq!((said.code, said.out.lines().count()), (1, 1), "{said:?}");
    let said = lab.sh(1, "KRG_SOCKET=/nowhere/krgd.sock krg ps -eo node,pid");
    assert_eq!(said.code, 1, "{said:?}");
}

fn silent(lab: &Lab, cast: &Cast) {
    lab.fault("pause", 3);
    let last = &cast.sleepers[2];
    let said = within(SOON, || {
        let said = lab.sh(1, "krg ps -eo node,age,pid,args");
        if said.code == 3 { Ok(said) } else { Err(format!("{said:?}")) }
    });
    assert!(said.err.contains("node 3 (node3) does not answer"), "{said:?}");
    assert!(said.out.contains(&last.args), "its last known processes are shown: {}", said.out);
    let again = lab.sh(1, "krg ps -e");
    assert!(again.took.as_secs() < 2, "{again:?}");
    let all = objects(lab.sh(1, "krg ps --json -p 1"));
    let node = all.iter().find(|o| o["answered"] == false).expect("it is named");
    assert_eq!((&node["node"], &node["state"]), (&3.into(), &"stale".into()));
    lab.fault("resume", 3);
    within(SOON, || match lab.sh(1, "krg ps -e") {
        said if said.code == 0 => Ok(()),
        said => Err(format!("{said:?}")),
    });
}
