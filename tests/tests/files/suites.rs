//! Suites for file systems, on node 2's files from node 1.

use super::place::{far, long, make, seed};
use krg_tests::checks::Checks;
use krg_tests::{Lab, suite};
use std::fs;

const PJDFSTEST: &str = include_str!("../../files/pjdfstest.toml");
/// A few fewer than pass on a tmpfs itself with every Linux it was tried on.
const PASSED_MIN: u32 = 380;
/// All that fsx can do; with its own weights it does half of that.
const WEIGHTS: &str = "[weights]\nclose_open = 1\ninvalidate = 1\nfsync = 1\nfdatasync = 1\n\
    posix_fallocate = 1\npunch_hole = 1\nsendfile = 1\nposix_fadvise = 1\ncopy_file_range = 1\n";
/// What timeout(1) says when the time is up.
const TIME_UP: i32 = 124;

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    lab.install(1, &suite("pjdfstest"));
    lab.install(1, &suite("fsx"));
    fs::write(lab.path(1, "/etc/pjdfstest.toml"), PJDFSTEST).expect("it is written");
    fs::write(lab.path(1, "/etc/fsx.toml"), WEIGHTS).expect("it is written");
    make(lab, "suites");
    checks.check("pjdfstest", || pjdfstest(lab));
    std::thread::scope(|scope| {
        let usual = scope.spawn(|| fsx(lab, 1, "usual", ""));
        let all = scope.spawn(|| fsx(lab, 1, "all", "-f /etc/fsx.toml"));
        checks.check("fsx", || usual.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        let name = "fsx with everything";
        checks.check(name, || all.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
    });
}

fn pjdfstest(lab: &Lab) {
    let there = far("suites/posix");
    let line = format!(
        "mkdir -p {there} /tmp/other && chmod 777 {there} /tmp/other && \
         pjdfstest -c /etc/pjdfstest.toml -p {there} -s /tmp/other"
    );
    let said = lab.sh(1, &line);
    let summary = said.out.lines().find_map(|line| line.strip_prefix("Summary: "));
    let count = |what: &str| -> Option<u32> {
        let part = summary?.split(", ").find(|part| part.ends_with(what))?;
        part.split(' ').next()?.parse().ok()
    };
    let failed: Vec<&str> = said.out.lines().filter(|l| l.contains("FAILED")).collect();
    let whole = format!("{failed:#?}\n{}\n{}", said.err, said.out);
    assert_eq!((said.code, count(" failed")), (0, Some(0)), "{whole}");
    assert!(count(" passed").is_some_and(|n| n >= PASSED_MIN), "{summary:?}\n{}", said.out);
}

fn fsx(lab: &Lab, node: u32, name: &str, options: &str) {
    let file = far(&format!("suites/fsx-{name}"));
    let (seconds, seed) = (long().as_secs(), seed() & 0xffff_ffff);
    let line = format!("cd /root; timeout {seconds} fsx {options} -S {seed} -P /tmp {file}");
    let said = lab.sh(node, &line);
    assert_eq!(said.code, TIME_UP, "{line}\n{}\n{}", said.out, said.err);
    let size = lab.exec(node, &["stat", "-c", "%s", &file]).ok();
    assert_ne!(size, "0\n", "it has done something");
}
