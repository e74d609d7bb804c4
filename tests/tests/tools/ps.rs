//! ps, in all the forms that people and scripts use.

use super::cast::{Cast, SOON, assert_everybody, cpus_of_node_3, on_view};
use super::checks::Checks;
use super::table::Table;
use krg_tests::{Lab, within};

/// Kerrighed's own choice of columns.
const KERRIGHED: &str = "ps axf -o user,pid:9,ppid:9,pgid:9,sid:9,%cpu,%mem,rss,tty,stat,start,\
    time,psr,command:80";

/// All that is asked of ps.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("ps aux", || aux(lab, cast));
    checks.check("ps axf", || tree(lab, cast));
    checks.check("ps -ef", || parents(lab, cast));
    checks.check("ps -eLf", || threads(lab, cast));
    checks.check("ps -q", || one(lab, cast));
    checks.check("ps of Kerrighed", || kerrighed(lab, cast));
    checks.check("ps: time grows", || time_grows(lab, cast));
    checks.check("ps: start times", || starts(lab, cast));
    checks.check("ps: names and sessions", || selections(lab, cast));
    for form in ["ps aux", "ps axf", "ps -ef", KERRIGHED] {
        checks.check(&format!("{form}: everybody once"), || {
            assert_everybody(lab, form, |text| Table::parse(text).unique("PID"));
        });
    }
    checks.check("krg ps", || {
        let said = lab.exec(1, &["krg", "ps", "aux"]).ok();
        let table = Table::parse(&said);
        assert_eq!(table.only("PID", cast.burner.gpid()).get("COMMAND"), cast.burner.args);
    });
}

/// A listing in which nobody is just ending: the processes of the test itself come and go.
#[track_caller]
fn list(lab: &Lab, line: &str) -> Table {
    let text = within(SOON, || {
        let text = on_view(lab, line).ok();
        if text.contains("<defunct>") { Err(text) } else { Ok(text) }
    });
    Table::parse(&text)
}

fn aux(lab: &Lab, cast: &Cast) {
    let table = list(lab, "ps aux");
    table.unique("PID");
    let burner = table.only("PID", cast.burner.gpid());
    assert_eq!(burner.get("USER"), "root");
    assert_eq!(burner.get("COMMAND"), cast.burner.args);
    assert!(burner.number("RSS") > 0.0 && burner.number("VSZ") > burner.number("RSS"));
    assert!(burner.get("STAT").starts_with('R'), "it burns: {burner:?}");
    let nobody = table.only("PID", cast.nobody.gpid());
    assert_eq!((nobody.get("USER"), nobody.get("COMMAND")), ("nobody", "sleep 77003"));
    let threads = table.only("PID", cast.threads.gpid());
    assert_eq!(threads.get("USER"), "daemon");
    assert!(threads.get("STAT").contains('l'), "it has threads: {threads:?}");
    for sleeper in &cast.sleepers {
        let row = table.only("COMMAND", &sleeper.args);
        assert_eq!(row.get("PID"), sleeper.gpid().to_string());
    }
    let root = table.only("PID", 1);
    assert!(root.get("COMMAND").starts_with("krg: cluster "), "{root:?}");
}

/// The children are drawn below their parent, the parent below its node's init.
fn tree(lab: &Lab, cast: &Cast) {
    let table = list(lab, "ps axf");
    table.unique("PID");
    let commands = table.all("COMMAND");
    let parent = table.only("PID", cast.parent.gpid());
    assert_eq!(parent.get("COMMAND"), format!(r" \_ {}", cast.parent.args).trim_start());
    let at = table.all("PID").iter().position(|pid| *pid == parent.get("PID"));
    for command in &commands[at.expect("its row") + 1..][..2] {
        assert!(command.contains(r"\_ sleep 7700"), "no child of it: {command}");
        assert!(command.starts_with(['|', '\\', ' ']), "{command}");
    }
}

fn parents(lab: &Lab, cast: &Cast) {
    let table = list(lab, "ps -ef");
    table.unique("PID");
    for child in &cast.children {
        let row = table.only("PID", child.gpid());
        assert_eq!(row.get("PPID"), cast.parent.gpid().to_string());
        assert_eq!((row.get("UID"), row.get("CMD")), ("root", child.args.as_str()));
    }
    for node in 1..4 {
        let init = table.only("PID", super::cast::gpid(node, 1));
        assert_eq!(init.get("PPID"), "1", "the cluster's process 1 is every init's parent");
    }
    assert_eq!(table.only("PID", 1).get("PPID"), "0");
    let known = table.unique("PID");
    let orphans = table.all("PPID").into_iter().filter(|ppid| {
        let ppid: u32 = ppid.parse().expect("a pid");
        ppid != 0 && !known.contains(&ppid)
    });
    assert_eq!(orphans.count(), 0, "every parent is listed: {table:#?}");
}

fn threads(lab: &Lab, cast: &Cast) {
    let table = list(lab, "ps -eLf");
    table.unique("LWP");
    let gpid = cast.threads.gpid();
    let rows = table.all("PID").iter().filter(|pid| **pid == gpid.to_string()).count();
    assert_eq!(rows, 4, "{table:#?}");
    let main = table.only("LWP", gpid);
    assert_eq!((main.get("NLWP"), main.get("UID")), ("4", "daemon"));
    let native = lab.sh(3, &format!("ls /proc/{}/task", cast.threads.local)).ok();
    for tid in native.lines() {
        let tid = tid.parse().expect("a thread's number");
        let row = table.only("LWP", super::cast::gpid(3, tid));
        assert_eq!(row.get("PID"), gpid.to_string());
    }
}

fn one(lab: &Lab, cast: &Cast) {
    let table = list(lab, &format!("ps -q {} -o pid,ppid,user,args", cast.nobody.gpid()));
    assert_eq!(table.all("PID"), [cast.nobody.gpid().to_string()]);
    let row = table.only("PID", cast.nobody.gpid());
    assert_eq!((row.get("USER"), row.get("COMMAND")), ("nobody", "sleep 77003"));
    let absent = super::cast::gpid(3, 4_000_000);
    let said = on_view(lab, &format!("ps -q {absent} -o pid="));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "no such process: {said:?}");
}

fn kerrighed(lab: &Lab, cast: &Cast) {
    let table = list(lab, KERRIGHED);
    table.unique("PID");
    let burner = table.only("PID", cast.burner.gpid());
    let psr: u32 = burner.get("PSR").parse().expect("a cpu");
    assert!(cpus_of_node_3(lab).contains(&psr), "cpu {psr} is not node 3's");
    // It was started as a session of its own.
    let own = cast.burner.gpid().to_string();
    assert_eq!((burner.get("PGID"), burner.get("SID")), (own.as_str(), own.as_str()));
    assert!(burner.get("COMMAND").ends_with(&cast.burner.args), "{burner:?}");
    for child in &cast.children {
        let row = table.only("PID", child.gpid());
        let leader = cast.parent.gpid().to_string();
        for column in ["PPID", "PGID", "SID"] {
            assert_eq!(row.get(column), leader, "{column} of {row:?}");
        }
    }
}

fn time_grows(lab: &Lab, cast: &Cast) {
    let line = format!("ps -q {} -o cputimes=", cast.burner.gpid());
    let look = || on_view(lab, &line).ok().trim().parse::<u64>().expect("seconds");
    let first = look();
    // On a busy machine it gets a part of a cpu only.
    within(SOON * 3, || if look() > first { Ok(()) } else { Err(format!("still {first} s")) });
}

/// Every node's clock is another, and START is right for all.
fn starts(lab: &Lab, cast: &Cast) {
    for process in cast.sleepers.iter().chain([&cast.burner]) {
        let line = format!("date +%s -d \"$(ps -q {} -o lstart=)\"", process.gpid());
        let seconds = lab.view(1, &line).ok().trim().parse().expect("seconds");
        cast.assert_started(seconds, &process.args);
    }
}

fn selections(lab: &Lab, cast: &Cast) {
    let pids = |line: &str| {
        let text = on_view(lab, line).ok();
        text.lines().map(|l| l.trim().parse().expect("a pid")).collect::<Vec<u32>>()
    };
    assert_eq!(pids("ps -C krgburn -o pid="), [cast.burner.gpid()]);
    assert_eq!(pids("ps -u daemon -o pid="), [cast.threads.gpid()]);
    let mut children: Vec<u32> = cast.children.iter().map(|c| c.gpid()).collect();
    children.sort_unstable();
    assert_eq!(pids(&format!("ps --ppid {} -o pid=", cast.parent.gpid())), children);
    let session = pids(&format!("ps -s {} -o pid=", cast.parent.gpid()));
    assert_eq!(session, [vec![cast.parent.gpid()], children].concat());
}
