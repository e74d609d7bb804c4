//! Tools that draw a screen.

use super::cast::{Cast, SOON, assert_everybody, cpus, everybody, memory, on_view};
use super::checks::Checks;
use super::table::{Table, words};
use krg_tests::{Lab, within};
use std::collections::BTreeSet;

/// Where tmux listens, in the node.
const TMUX: &str = "tmux -u -f /dev/null -S /tmp/krg-test-tmux";

/// All of them.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("top -b -n2", || top(lab, cast));
    checks.check("top: everybody once", || {
        assert_everybody(lab, "top -b -n1 -w 200", |text| frame(text).unique("PID"));
    });
    checks.check("htop", || htop(lab, cast));
    checks.check("glances", || glances(lab));
}

/// The processes of one screen of top.
#[track_caller]
fn frame(text: &str) -> Table {
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("PID "));
    Table::parse(&lines.collect::<Vec<_>>().join("\n"))
}

fn top(lab: &Lab, cast: &Cast) {
    let said = on_view(lab, "top -b -n2 -w 200").ok();
    let frames: Vec<&str> = said.split("top - ").skip(1).collect();
    assert_eq!(frames.len(), 2, "{said}");
    let mut times = Vec::new();
    for text in &frames {
        let table = frame(text);
        let listed = table.unique("PID").len();
        let tasks = text.lines().find(|line| line.starts_with("Tasks:")).expect("tasks");
        assert_eq!(words(tasks)[1], listed.to_string(), "{text}");
        assert!(tasks.ends_with(" 0 zombie"), "{tasks}");
        let memory = format!("{:.1} total", memory(lab, "MemTotal") as f64 / 1024.0);
        let line = text.lines().find(|line| line.starts_with("MiB Mem")).expect("memory");
        assert!(line.contains(&memory), "{line} has not {memory}");
        let burner = table.only("PID", cast.burner.gpid());
        assert_eq!((burner.get("USER"), burner.get("COMMAND")), ("root", "krgburn"));
        times.push(seconds(burner.get("TIME+")));
        assert_eq!(table.only("PID", cast.nobody.gpid()).get("USER"), "nobody");
    }
    assert!(times[1] > times[0], "it burns: {times:?}");
    let burner = frame(frames[1]).only("PID", cast.burner.gpid()).number("%CPU");
    assert!(burner > 0.0, "it burns: {}", frames[1]);
    let line = frames[1].lines().find(|line| line.starts_with("%Cpu(s):")).expect("cpus");
    assert!(!line.contains("100.0 id"), "something burns: {line}");
}

/// `M:SS.cc` of top.
#[track_caller]
fn seconds(time: &str) -> f64 {
    let (minutes, rest) = time.split_once(':').expect("minutes");
    minutes.parse::<f64>().expect("minutes") * 60.0 + rest.parse::<f64>().expect("seconds")
}

/// In a terminal of tmux, whose server runs on the cluster's /proc as htop does.
fn htop(lab: &Lab, cast: &Cast) {
    let total: u32 = cpus(lab).iter().sum();
    let size = "-x 160 -y 120";
    let start = format!(
        "export TERM=screen HOME=/tmp HTOPRC=/tmp/krg-test-htoprc; \
         {TMUX} new-session -d {size} 'htop -C -d 5'"
    );
    lab.view(1, &start).ok();
    let capture = format!("{TMUX} capture-pane -p");
    let complete = |screen: &str| -> Result<(), String> {
        let cpu = (0..total).all(|n| screen.contains(&format!(" {n}[")));
        let rows: Vec<&str> = screen.lines().filter(|l| l.contains(&cast.burner.args)).collect();
        let [row] = rows[..] else { return Err(format!("{} rows of it", rows.len())) };
        let row = words(row);
        let right = row[0] == cast.burner.gpid().to_string() && row[1] == "root";
        let burns = row[8].parse::<f64>().is_ok_and(|share| share > 0.0);
        let others = screen.contains("sleep 66001") && screen.contains("sleep 66002");
        match (cpu, right, burns, others) {
            (true, true, true, true) => Ok(()),
            seen => Err(format!("cpus, its row, its share, the others: {seen:?}")),
        }
    };
    within(SOON, || {
        let screen = lab.sh(1, &capture).out;
        complete(&screen).map_err(|why| format!("{why}\n{screen}"))
    });
    let screen = lab.sh(1, &capture).ok();
    let extra = format!(" {total}[");
    assert!(!screen.contains(&extra), "more cpus than there are: {screen}");
    let pids = screen.lines().filter_map(|line| words(line).first()?.parse::<u32>().ok());
    let pids: Vec<u32> = pids.filter(|pid| *pid >= 1 << 22).collect();
    let unique: BTreeSet<_> = pids.iter().collect();
    assert_eq!(unique.len(), pids.len(), "someone is there twice: {screen}");
    lab.sh(1, &format!("{TMUX} kill-server")).ok();
}

fn glances(lab: &Lab) {
    let line = "HOME=/tmp exec glances --stdout \
        mem.total,core.log,system.hostname,processcount.total --stop-after 1 --time 1";
    let said = lab.view(1, line).ok();
    let value = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name}: {said}")).to_owned()
    };
    assert_eq!(value("mem.total"), (memory(lab, "MemTotal") * 1024).to_string());
    assert_eq!(value("core.log"), cpus(lab).iter().sum::<u32>().to_string());
    assert_eq!(value("system.hostname"), "node1");
    let all = everybody(lab).len();
    let total: usize = value("processcount.total").parse().expect("a count");
    assert!(total >= all, "glances counts {total} of {all} processes");
}
