//! `/mfs/N/...` on any node is node N's file tree: suites, tools and databases work on it, caches
//! agree, locks exclude, permissions are the owner's, and no fault makes a wrong byte or a hang.
//!
//! As in the tests of the tools, a test owns a lab and looks at it in many named steps.

mod files {
    pub mod access;
    pub mod attrs;
    pub mod coherence;
    pub mod escapes;
    pub mod faults;
    pub mod hard;
    pub mod locks;
    pub mod model;
    pub mod names;
    pub mod place;
    pub mod suites;
    pub mod tools;
}

use files::{
    access, attrs, coherence, escapes, faults, hard, locks, model, names, suites, tools,
};
use krg_tests::checks::Checks;
use krg_tests::{LAB, Lab, Need, can_run};
use std::sync::{PoisonError, RwLock};

/// Tests of how long something takes run alone, the others beside each other.
static QUIET: RwLock<()> = RwLock::new(());

/// May this test run? It needs a lab, python, and these programs.
fn able(test: &str, needs: &[Need]) -> bool {
    let python = [Need::Tool("/usr/bin/python3"), Need::Tool("setpriv")];
    can_run(test, &[&LAB[..], &python, needs].concat())
}

/// One test: its steps on a lab of its own.
fn on_lab(nodes: u32, steps: impl FnOnce(&mut Checks, &Lab)) {
    let _beside = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start(nodes);
    let mut checks = Checks::default();
    steps(&mut checks, &lab);
    checks.finish();
}

/// The same for what must not wait for a processor.
fn alone_on_lab(nodes: u32, steps: impl FnOnce(&mut Checks, &Lab)) {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start(nodes);
    let mut checks = Checks::default();
    steps(&mut checks, &lab);
    checks.finish();
}

#[test]
fn suites_pass() {
    if able("suites_pass", &[Need::Suite("pjdfstest"), Need::Suite("fsx")]) {
        on_lab(3, suites::all);
    }
}

#[test]
fn caches_agree() {
    if able("caches_agree", &[]) {
        on_lab(3, coherence::all);
    }
}

#[test]
fn tools_work_on_another_nodes_files() {
    let programs = ["git", "rsync", "sqlite3", "vim.tiny", "stress-ng", "pgbench"];
    let programs = programs.map(Need::Tool);
    if able("tools_work_on_another_nodes_files", &programs) {
        on_lab(3, tools::all);
    }
}

#[test]
fn names_and_attributes_are_whole() {
    if able("names_and_attributes_are_whole", &["setfacl", "setfattr"].map(Need::Tool)) {
        on_lab(3, |checks, lab| {
            names::all(checks, lab);
            attrs::all(checks, lab);
        });
    }
}

#[test]
fn locks_hold_everywhere() {
    if able("locks_hold_everywhere", &[Need::Tool("flock")]) {
        alone_on_lab(3, locks::all);
    }
}

#[test]
fn the_owners_kernel_decides() {
    if able("the_owners_kernel_decides", &["setfacl", "openssl"].map(Need::Tool)) {
        on_lab(3, |checks, lab| {
            access::all(checks, lab);
            escapes::all(checks, lab);
        });
    }
}

#[test]
fn copies_survive_faults() {
    if able("copies_survive_faults", &[Need::Tool("openssl")]) {
        alone_on_lab(3, faults::all);
    }
}

#[test]
fn who_waits_gets_what_he_waits_for() {
    if able("who_waits_gets_what_he_waits_for", &[]) {
        alone_on_lab(3, hard::all);
    }
}

#[test]
fn a_tree_is_what_a_tree_is() {
    if able("a_tree_is_what_a_tree_is", &[]) {
        on_lab(3, model::all);
    }
}
