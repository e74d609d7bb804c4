//! Debian's own tools on the cluster's /proc: what they print is compared with what is true on
//! the nodes. Every test owns a lab and looks at it in many named steps; a step that fails does
//! not hide those after it.

mod tools {
    pub use krg_tests::checks;

    pub mod access;
    pub mod cast;
    pub mod exec;
    pub mod exporter;
    pub mod find;
    pub mod krg_top;
    pub mod krgps;
    pub mod metrics;
    pub mod mounts;
    pub mod ps;
    pub mod psutil;
    pub mod rust;
    pub mod screen;
    pub mod signals;
    pub mod system;
    pub mod table;
}

use krg_tests::{LAB, Need, can_run};
use tools::cast::{self, Cast};
use tools::checks::Checks;
use tools::{
    access, exec, exporter, find, krg_top, krgps, metrics, mounts, ps, psutil, rust, screen,
    signals, system,
};

/// May this test run? It needs a lab, and these programs.
fn able(test: &str, programs: &[&'static str]) -> bool {
    let needs: Vec<Need> =
        LAB.into_iter().chain(programs.iter().map(|name| Need::Tool(name))).collect();
    can_run(test, &needs)
}

#[test]
fn processes_are_listed() {
    let programs = ["ps", "pgrep", "pidof", "pstree", "pmap", "pwdx", "lsof", "setpriv"];
    if !able("processes_are_listed", &programs) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    ps::all(&mut checks, &lab, &cast);
    find::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn krg_ps_says_what_ps_says() {
    if !able("krg_ps_says_what_ps_says", &["ps", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    krgps::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn metrics_are_of_all_nodes() {
    let parser = "/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py";
    if !able("metrics_are_of_all_nodes", &["/usr/bin/python3", parser]) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    metrics::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn the_system_is_summed() {
    let programs = ["free", "w", "vmstat", "mpstat", "pidstat", "iostat", "lscpu", "findmnt"];
    if !able("the_system_is_summed", &programs) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    system::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn screens_show_the_cluster() {
    if !able("screens_show_the_cluster", &["top", "htop", "tmux", "glances"]) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    screen::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn krg_top_shows_and_acts() {
    if !able("krg_top_shows_and_acts", &["tmux", "setpriv", "stty", "pkill"]) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    krg_top::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn libraries_and_exporters_read_it() {
    let psutil = "/usr/lib/python3/dist-packages/psutil/__init__.py";
    let programs = ["/usr/bin/python3", psutil, "prometheus-node-exporter"];
    if !able("libraries_and_exporters_read_it", &programs) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    psutil::all(&mut checks, &lab, &cast);
    exporter::all(&mut checks, &lab);
    rust::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn what_a_user_may_not_read_stays_hidden() {
    if !able("what_a_user_may_not_read_stays_hidden", &["setpriv", "pkill"]) {
        return;
    }
    let lab = cast::lab();
    let cast = Cast::start(&lab);
    let mut checks = Checks::default();
    access::all(&mut checks, &lab, &cast);
    checks.finish();
}

#[test]
fn signals_reach_every_node() {
    if !able("signals_reach_every_node", &["setpriv", "pkill", "/usr/bin/python3"]) {
        return;
    }
    let lab = cast::lab();
    let mut checks = Checks::default();
    signals::all(&mut checks, &lab);
    checks.finish();
}

#[test]
fn the_view_is_mounted_and_entered() {
    if !able("the_view_is_mounted_and_entered", &["mount", "bash", "/usr/bin/python3"]) {
        return;
    }
    let lab = cast::lab();
    let mut checks = Checks::default();
    mounts::all(&mut checks, &lab);
    exec::all(&mut checks, &lab);
    checks.finish();
}
