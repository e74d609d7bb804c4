//! Tools that find processes, and those that look into one.

use super::cast::{Cast, SOON, gpid, on_view};
use super::checks::Checks;
use super::table::Table;
use krg_tests::{Lab, within};

/// All of them.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("pgrep", || pgrep(lab, cast));
    checks.check("pidof", || {
        let said = on_view(lab, "pidof krgburn").ok();
        assert_eq!(said.trim(), cast.burner.gpid().to_string());
        assert_eq!(on_view(lab, "pidof krg-there-is-none").code, 1);
    });
    checks.check("pstree", || pstree(lab, cast));
    checks.check("pmap", || pmap(lab, cast));
    checks.check("pwdx", || {
        let gpid = cast.burner.gpid();
        assert_eq!(on_view(lab, &format!("pwdx {gpid}")).ok(), format!("{gpid}: /\n"));
    });
    checks.check("lsof -n", || lsof(lab, cast));
    checks.check("waiting for an end", || end(lab));
}

/// Scripts wait for a process's end by asking for its directory, and for nothing else.
fn end(lab: &Lab) {
    let local = lab.background(3, "exec sleep 88088");
    let dir = format!("/cluster/proc/{}", gpid(3, local));
    let there = || lab.exec(1, &["test", "-d", &dir]).code;
    // What was started a moment ago may be younger than the last look at its node.
    within(SOON, || if there() == 0 { Ok(()) } else { Err("it has begun".to_owned()) });
    lab.sh(3, &format!("kill {local}")).ok();
    within(SOON, || match there() {
        1 => Ok(()),
        code => Err(format!("it has ended, and test -d says {code}")),
    });
}

fn pgrep(lab: &Lab, cast: &Cast) {
    let burner = cast.burner.gpid();
    assert_eq!(on_view(lab, "pgrep -x krgburn").ok(), format!("{burner}\n"));
    let listed = on_view(lab, "pgrep -a -u nobody sleep").ok();
    assert_eq!(listed, format!("{} sleep 77003\n", cast.nobody.gpid()));
    let of_parent = on_view(lab, &format!("pgrep -P {} sleep", cast.parent.gpid())).ok();
    for child in &cast.children {
        let pid = child.gpid().to_string();
        assert_eq!(of_parent.lines().filter(|line| **line == pid).count(), 1, "{of_parent}");
    }
    let newest = on_view(lab, "pgrep -n sleep").ok();
    let last = cast.sleepers.last().expect("three").gpid();
    assert_eq!(newest, format!("{last}\n"), "the one on node 3 was started last");
    assert_eq!(on_view(lab, "pgrep krg-there-is-none").code, 1);
}

fn pstree(lab: &Lab, cast: &Cast) {
    let said = on_view(lab, "pstree -p -A").ok();
    assert!(said.starts_with("krg(1)-+-"), "one tree from process 1: {said}");
    let once = |text: &str| assert_eq!(said.matches(text).count(), 1, "{text} in {said}");
    once(&format!("krgburn({})", cast.burner.gpid()));
    once(&format!("krgd({})", gpid(2, 2)));
    for child in &cast.children {
        once(&format!("sleep({})", child.gpid()));
    }
    let below = on_view(lab, &format!("pstree -a -p {}", cast.parent.gpid())).ok();
    let lines: Vec<&str> = below.lines().collect();
    assert_eq!(lines.len(), 3, "it and its two children: {below}");
    assert!(lines[0].starts_with(&format!("sh,{} ", cast.parent.gpid())), "{below}");
    let threads = on_view(lab, &format!("pstree -p {}", cast.threads.gpid())).ok();
    assert_eq!(threads.matches("{python3}").count(), 3, "{threads}");
}

/// The maps are as the owner has them, and their sum is the size that ps tells. Which of them is
/// the stack pmap takes from `stat`, where the view shows no addresses.
fn pmap(lab: &Lab, cast: &Cast) {
    let said = on_view(lab, &format!("pmap {}", cast.burner.gpid())).ok();
    let native = lab.exec(3, &["pmap", &cast.burner.local.to_string()]).ok();
    let named = |line: &str| line.replace("[ stack ]", "[ anon ]");
    let maps = |text: &str| text.lines().skip(1).map(named).collect::<Vec<_>>();
    assert_eq!(maps(&said), maps(&native));
    assert!(said.starts_with(&format!("{}:   {}", cast.burner.gpid(), cast.burner.args)));
    assert!(said.contains("r-x-- krgburn"), "{said}");
    let extended = on_view(lab, &format!("pmap -x {}", cast.burner.gpid())).ok();
    let last = extended.lines().last().expect("a sum");
    let total: Vec<u64> = last.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    assert!(total.len() == 3 && total[1] > 0 && total[0] >= total[1], "{last}");
}

fn lsof(lab: &Lab, cast: &Cast) {
    let said = on_view(lab, "lsof -n");
    assert!(said.code < 2, "{said:?}");
    let gpid = cast.nobody.gpid().to_string();
    let of_it = |line: &&str| line.split_whitespace().nth(1) == Some(&gpid);
    let own: Vec<&str> = said.out.lines().filter(of_it).collect();
    let has = |fd: &str, name: &str| {
        let found = own.iter().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[2] == "nobody" && words[3] == fd && words.contains(&name)
        });
        assert_eq!(found.count(), 1, "{fd} {name}: {own:#?}");
    };
    has("cwd", "/");
    has("txt", "/usr/bin/sleep");
    for fd in ["0u", "1u", "2u"] {
        let plain = fd.trim_end_matches('u');
        let any = own.iter().any(|line| {
            line.split_whitespace().nth(3).is_some_and(|word| word.starts_with(plain))
                && line.ends_with("/dev/null")
        });
        assert!(any, "{fd}: {own:#?}");
    }
    let one = on_view(lab, &format!("lsof -n -p {gpid}"));
    let table = Table::parse(&one.out);
    assert!(table.all("PID").iter().all(|pid| *pid == gpid), "{}", one.out);
    assert!(!table.all("PID").is_empty());
}
