//! The agreement holds in simulated clusters, whatever fails: as many seeds as there is time for.
//!
//! KRG_SIM_SEED runs one seed and says what it was like; KRG_SIM_SEEDS so many of them, from
//! KRG_SIM_FIRST on; KRG_SIM_S for so many seconds; KRG_SIM_LOG says what is logged meanwhile.
//! `make sim` builds tokio so that its choices follow from the seed, too (`tokio_unstable`);
//! without that the order in which a `select!` looks at what is ready may differ.

#[path = "../sim/mod.rs"]
mod sim;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Without another word: a little everywhere, more in CI, s.
const BRIEF_S: u64 = 20;
const CI_S: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn the_same_seed_gives_the_same_run() {
    // Without this tokio draws the order of a `select!` from the system's own chance.
    if std::env::var_os("KRG_SIM_EXACT").is_none() {
        println!(
            "skipped: only `make sim` builds tokio so that its choices follow from the seed"
        );
        return;
    }
    let trace = |seed| {
        let text =
            sim::run::apart(EVERYTHING, seed).unwrap_or_else(|why| panic!("{seed}: {why}"));
        let line = text.lines().find_map(|line| line.split("Summary").nth(1));
        line.unwrap_or_else(|| panic!("{seed}: no summary in {text}")).to_owned()
    };
    let seeds = [1, 2, 3, 7, 6011];
    let traces = seeds.map(trace);
    assert_eq!(traces, seeds.map(trace));
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]));
}

/// The name of the test below: it is run for each seed in a process of its own.
const EVERYTHING: &str = "what_is_agreed_survives_everything";

#[test]
fn what_is_agreed_survives_everything() {
    if let Some(seed) = number("KRG_SIM_SEED") {
        sim::run::end_if_it_hangs();
        if std::env::var_os("KRG_SIM_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_env("KRG_SIM_LOG");
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
        }
        match sim::run::one(seed) {
            Ok(summary) => println!("seed {seed}: {summary:?}"),
            Err(why) => panic!("seed {seed}: {why}"),
        }
        return;
    }
    let count = number("KRG_SIM_SEEDS");
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let seconds = number("KRG_SIM_S").unwrap_or(if in_ci { CI_S } else { BRIEF_S });
    let limit = Duration::from_secs(if count.is_some() { u32::MAX.into() } else { seconds });
    let first = number("KRG_SIM_FIRST").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let tally = sim::run::many(EVERYTHING, first, count.unwrap_or(u64::MAX), limit);
    println!("{} seeds from {first} on: {} s simulated", tally.runs, tally.simulated_s);
    if let Some((seed, why)) = tally.failed.first() {
        panic!("seed {seed}: {why}\nonce more: KRG_SIM_SEED={seed} make sim");
    }
    assert!(tally.runs > 0, "no seed was run");
}
