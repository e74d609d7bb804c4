//! krg top and mosmon in a terminal of tmux: what they show of all nodes, what their keys do, and
//! that the terminal is afterwards as it was.

use super::cast::{Cast, SOON, gpid};
use super::checks::Checks;
use krg_tests::{Lab, within};

/// Where tmux listens, in the node.
const TMUX: &str = "tmux -u -f /dev/null -S /tmp/krg-test-top";

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("krg top: all nodes", || shows(lab, cast));
    checks.check("krg top: F9", || kills(lab));
    checks.check("krg top: tree and filter", || tree(lab, cast));
    checks.check("krg top: a signal ends it", || signalled(lab));
    checks.check("krg top: tables and JSON", || printed(lab, cast));
    checks.check("mosmon", || mosmon(lab));
}

/// Starts a command in a new terminal; the shell there tells how it ended.
fn start(lab: &Lab, command: &str, columns: u32, rows: u32) {
    let inside = format!(
        "stty -g > /tmp/stty-before; {command}; \
         echo \"it ended with $?\"; stty -g > /tmp/stty-after; exec sleep 3600"
    );
    let line = format!("{TMUX} new-session -d -x {columns} -y {rows} '{inside}'");
    lab.sh(1, &format!("export TERM=screen; {line}")).ok();
}

fn press(lab: &Lab, keys: &str) {
    lab.sh(1, &format!("{TMUX} send-keys {keys}")).ok();
}

/// Waits until the screen is as wanted.
#[track_caller]
fn screen(lab: &Lab, what: &str, is: impl Fn(&str) -> bool) -> String {
    within(SOON, || {
        let screen = lab.sh(1, &format!("{TMUX} capture-pane -p")).out;
        if is(&screen) { Ok(screen) } else { Err(format!("{what}, in\n{screen}")) }
    })
}

fn line(screen: &str, pid: u32) -> Option<&str> {
    let pid = pid.to_string();
    screen.lines().find(|line| line.split_whitespace().next() == Some(pid.as_str()))
}

/// The program has ended so, and the terminal is as it was.
#[track_caller]
fn sane(lab: &Lab, code: i32) {
    screen(lab, "its end", |screen| screen.contains(&format!("it ended with {code}\n")));
    let flags = "#{alternate_on} #{cursor_flag}";
    let flags = lab.sh(1, &format!("{TMUX} display-message -p \"{flags}\"")).ok();
    assert_eq!(flags.trim(), "0 1", "the screen of before, and a cursor");
    within(SOON, || {
        let compared = lab.sh(1, "cmp /tmp/stty-before /tmp/stty-after");
        if compared.code == 0 { Ok(()) } else { Err(format!("{compared:?}")) }
    });
    lab.sh(1, &format!("{TMUX} kill-server; rm -f /tmp/stty-*")).ok();
}

fn shows(lab: &Lab, cast: &Cast) {
    start(lab, "krg top -d 0.5", 120, 60);
    let burner = cast.burner.gpid();
    let seen = screen(lab, "every node, and who burns", |screen| {
        let nodes = (1..=3).all(|node| screen.contains(&format!("node{node} ")));
        let share = line(screen, burner).and_then(|line| line.split_whitespace().nth(9));
        let share = share.and_then(|share| share.parse::<f64>().ok());
        nodes && share.is_some_and(|share| share > 0.0)
    });
    assert!(seen.contains(" 3 nodes  "), "{seen}");
    let row = line(&seen, burner).expect("it is there");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..3], ["3", "root"], "{row}");
    assert!(row.ends_with(&cast.burner.args), "{row}");
    for sleeper in &cast.sleepers {
        let row = line(&seen, sleeper.gpid()).unwrap_or_else(|| panic!("{sleeper:?} in\n{seen}"));
        assert!(row.contains(&sleeper.args), "{row}");
    }
    // A small screen, and a large one.
    for (columns, rows) in [(20, 5), (200, 60)] {
        lab.sh(1, &format!("{TMUX} resize-window -x {columns} -y {rows}")).ok();
        screen(lab, "its size", |screen| {
            let wide = screen.lines().map(|line| line.trim_end().chars().count()).max();
            screen.contains("PID") && wide.is_some_and(|wide| wide > columns as usize / 2)
        });
    }
    press(lab, "q");
    sane(lab, 0);
}

fn kills(lab: &Lab) {
    let local = lab.background(3, "exec sleep 88003");
    start(lab, "mtop", 80, 60);
    // What was told last may be older than the process: then its shell still has its number.
    screen(lab, "the sleeper", |screen| {
        let sleeper = line(screen, gpid(3, local));
        let shells = screen.lines().filter(|line| line.contains("sleep 88003"));
        sleeper.is_some_and(|line| line.ends_with(" sleep 88003")) && shells.count() == 1
    });
    press(lab, "/ \"sleep 88003\" Enter");
    press(lab, "F9");
    screen(lab, "the signals", |screen| screen.contains("15 SIGTERM"));
    press(lab, "9 Enter");
    let said = format!("SIGKILL sent to {} (sleep)", gpid(3, local));
    screen(lab, &said, |screen| screen.contains(&said));
    within(SOON, || match lab.sh(3, &format!("test -d /proc/{local}")).code {
        0 => Err(format!("{local} runs")),
        _ => Ok(()),
    });
    screen(lab, "no such line", |screen| line(screen, gpid(3, local)).is_none());
    press(lab, "F10");
    sane(lab, 0);
}

fn tree(lab: &Lab, cast: &Cast) {
    start(lab, "krg top -t -d 0.5", 120, 60);
    screen(lab, "children below their parent", |screen| {
        let rows: Vec<&str> = screen.lines().collect();
        let parent = line(screen, cast.parent.gpid());
        let at = rows.iter().position(|row| Some(*row) == parent);
        let Some(below) = at.and_then(|at| rows.get(at + 1..at + 3)) else { return false };
        below[0].contains("├─ sleep 7700") && below[1].contains("└─ sleep 7700")
    });
    press(lab, "F4 7700 Enter");
    let seen = screen(lab, "those only", |screen| {
        screen.contains("sleep 77001") && !screen.contains("krgburn")
    });
    assert!(seen.contains("sleep 77003") && seen.contains(" shown"), "{seen}");
    press(lab, "q");
    sane(lab, 0);
}

fn signalled(lab: &Lab) {
    start(lab, "krg top", 80, 24);
    screen(lab, "the table", |screen| screen.contains("Command"));
    lab.sh(1, "pkill -TERM -f \"^krg top\"").ok();
    sane(lab, 143);
}

fn printed(lab: &Lab, cast: &Cast) {
    let burner = cast.burner.gpid();
    let said = lab.sh(1, &format!("krg top --json -d 0.5 -p {burner}")).ok();
    let value: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(value["nodes"].as_array().map(Vec::len), Some(3), "{said}");
    let process = &value["processes"][0];
    assert_eq!((&process["pid"], &process["node"]), (&burner.into(), &3.into()), "{said}");
    assert!(process["cpu_percent"].as_f64().is_some_and(|share| share > 0.0), "{said}");
    let said = lab.sh(1, "krg top -b -n 2 -d 0.3 -u nobody -s TIME+").ok();
    let lines: Vec<&str> = said.lines().filter(|line| line.ends_with("sleep 77003")).collect();
    let [first, _] = lines[..] else { panic!("twice: {said}") };
    assert_eq!(line(first, cast.nobody.gpid()), Some(first));
    assert!(!said.contains("krgburn"), "{said}");
    let wrong = lab.sh(1, "krg top -b -s SHOES");
    assert!(wrong.code == 2 && wrong.err.contains("no such column"), "{wrong:?}");
    let wrong = lab.sh(1, "krg top < /dev/null");
    assert!(wrong.code == 1 && wrong.err.contains("terminal"), "{wrong:?}");
}

fn mosmon(lab: &Lab) {
    start(lab, "mosmon -t", 80, 24);
    let seen = screen(lab, "the sums", |screen| screen.contains("nodes 3 of 3"));
    let numbers = seen.lines().find(|line| line.trim_start().starts_with("node "));
    let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
    assert_eq!(numbers, ["node", "1", "2", "3"], "{seen}");
    press(lab, "m");
    screen(lab, "memory", |screen| screen.contains("memory in use") && screen.contains('█'));
    press(lab, "q");
    sane(lab, 0);
}
