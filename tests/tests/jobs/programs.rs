//! Programs that others wrote, once where they are started and once while they are moved about:
//! they come to the same end. And in the long form more of them, larger, and a hundred moves.

use super::{AS_USER, MOVES, PROBE, needs, nothing_is_left, put};
use krg_tests::{Lab, Need, can_run};

const PROGRAMS: &str = include_str!("programs.py");
/// In the short form.
const OF_ROOT: &str = "forks gcc";
const OF_A_USER: &str = "pipeline numpy";
/// In the long one, of both.
const ALL: &str = "pipeline forks gcc numpy ffmpeg stress-ng sort \
                   $(command -v node > /dev/null && echo node)";
const SEEDS: [u32; 2] = [1, 2];

/// A line that may take its time.
#[track_caller]
fn long(lab: &Lab, line: &str) {
    let said = lab.exec(1, &["timeout", "3600", "bash", "-c", &format!("LC_ALL=C; {line}")]);
    assert_eq!(said.code, 0, "{line}: {}{}", said.out, said.err);
    eprintln!("{}", said.out.trim());
}

pub fn programs_come_to_the_same_end(lab: &Lab) {
    put(lab, 1, "/var/tmp/programs.py", PROGRAMS);
    let run = "/usr/bin/python3 /var/tmp/programs.py 3 1";
    long(lab, &format!("{run} {OF_ROOT}"));
    long(lab, &format!("chmod 1777 /var/tmp; {AS_USER} {run} {OF_A_USER}"));
    nothing_is_left(lab, "numpy");
}

#[test]
#[ignore = "takes an hour: make soak"]
fn jobs_move_for_an_hour() {
    let tools = ["ffmpeg", "gcc", "stress-ng"].map(Need::Tool);
    if !can_run("jobs_move_for_an_hour", &[&needs()[..], &tools].concat()) {
        return;
    }
    let lab = Lab::start(4);
    put(&lab, 1, "/var/tmp/programs.py", PROGRAMS);
    put(&lab, 1, "/var/tmp/probe.py", PROBE);
    put(&lab, 1, "/var/tmp/moves.py", MOVES);
    long(&lab, "chmod 1777 /var/tmp");
    for who in ["", AS_USER] {
        for seed in SEEDS {
            long(
                &lab,
                &format!("{who} python3 /var/tmp/moves.py /var/tmp/probe.py 100 4 {seed}"),
            );
        }
        long(&lab, &format!("{who} /usr/bin/python3 /var/tmp/programs.py 4 8 {ALL}"));
    }
    nothing_is_left(&lab, "probe");
}
