//! A file tree that two nodes and its owner change in turns, beside one that only its owner's
//! kernel has to do with: every operation comes to the same, and everybody sees the same tree.

use super::place::{TOLD, long, make, on, own, seed};
use krg_tests::checks::Checks;
use krg_tests::hand::Hand;
use krg_tests::{Lab, within};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Instant;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const DEPTH_MAX: usize = 3;
/// Operations of a turn, at most.
const TURN_MAX: usize = 6;

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab) {
    checks.check("two nodes and the owner against the kernel's own", || turns(lab));
}

/// Draws operations.
struct Draw(StdRng);

impl Draw {
    fn of(&mut self, of: u32) -> u32 {
        self.0.gen_range(0..of)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.gen_range(0..of.len())]
    }

    /// One to three names deep; sometimes with something odd at its end.
    fn path(&mut self) -> String {
        let deep = [1, 1, 2, 2, DEPTH_MAX][self.of(5) as usize];
        let names: Vec<_> = (0..deep).map(|_| self.one(&NAMES)).collect();
        let odd = if self.of(20) == 0 { self.one(&["/", "/.", "/..", "//"]) } else { "" };
        names.join("/") + odd
    }

    fn mode(&mut self) -> String {
        self.one(&["0o755", "0o644", "0o600", "0o7777", "0o1777", "0"]).to_owned()
    }

    /// As `act` of the hand's script takes it.
    fn operation(&mut self) -> String {
        let (path, other) = (self.path(), self.path());
        let (at, len, mark) = (self.of(9_000), self.of(9_000), self.of(255) + 1);
        let mode = self.mode();
        match self.of(20) {
            0..=2 => format!("('mkdir', {path:?}, {mode})"),
            3..=6 => format!("('make', {path:?}, {mark}, {len})"),
            7 => format!("('append', {path:?}, {mark}, {len})"),
            8 => format!("('write', {path:?}, {mark}, {len}, {at})"),
            9 => format!("('truncate', {path:?}, {at})"),
            10 | 11 => format!("('rename', {path:?}, {other:?}, {})", self.one(&["0", "1", "2"])),
            12 => format!("('link', {path:?}, {other:?})"),
            13 => format!("('symlink', {path:?}, {other:?})"),
            14 => format!("('unlink', {path:?})"),
            15 => format!("('rmdir', {path:?})"),
            16 => format!("('chmod', {path:?}, {mode})"),
            17 => format!("('xattr', {path:?}, {mark})"),
            18 => format!("('times', {path:?}, {at}, {len})"),
            _ => format!("('fifo', {path:?}, {mode})"),
        }
    }
}

fn turns(lab: &Lab) {
    make(lab, "model");
    make(lab, "kernel");
    let (seed, begun) = (seed(), Instant::now());
    let mut draw = Draw(StdRng::seed_from_u64(seed));
    let hands = &mut [1, 2, 3].map(|node| Hand::new(lab, node));
    let mut owner = Hand::new(lab, 2);
    let most = std::env::var("KRG_CASES").ok().map(|n| n.parse().expect("a number of cases"));
    let (mut cases, mut done) = (0_u64, 0);
    let goes_on = |cases| most.map_or(begun.elapsed() < long(), |most| cases < most);
    while goes_on(cases) {
        let node = draw.of(3);
        let steps: Vec<_> = (0..=draw.of(TURN_MAX as u32)).map(|_| draw.operation()).collect();
        let act = |root: &str| format!("acts({root:?}, [{},])", steps.join(", "));
        let wanted = owner.ok(&act(&own("kernel")));
        let said = hands[node as usize].ok(&act(&on(node + 1, "model")));
        let again = || format!("KRG_SEED={seed}, case {cases}, node {}: {steps:?}", node + 1);
        assert_eq!(said, wanted, "{}", again());
        done += wanted.split(' ').filter(|w| *w == "ok").count();
        let state = |root: &str| format!("state({root:?}, {NAMES:?}, {DEPTH_MAX})");
        let whole = owner.ok(&state(&own("kernel")));
        let mut sees = |of: u32| {
            let said = hands[of as usize].ask(&state(&on(of + 1, "model")));
            said.unwrap_or_else(|errno| errno)
        };
        assert_eq!(sees(node), whole, "what it has done itself: {}", again());
        for other in (0..3).filter(|other| *other != node) {
            within(TOLD, || match sees(other) {
                seen if seen == whole => Ok(()),
                seen => Err(format!("node {} sees {seen} for {whole}: {}", other + 1, again())),
            });
        }
        cases += steps.len() as u64;
    }
    assert!(done > 20, "only {done} operations of {cases} have done something");
    eprintln!("{cases} operations, {done} of them did something, KRG_SEED={seed}");
}
