//! The agreement holds in simulated clusters, whatever fails: as many seeds as there is time for.
//!
//! KRG_SIM_SEED runs one seed and says what it was like; KRG_SIM_SEEDS so many of them; KRG_SIM_S
//! for so many seconds. `make sim` builds tokio so that its choices follow from the seed, too.

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

fn again(seed: u64) -> String {
    format!("KRG_SIM_SEED={seed} make sim")
}

#[test]
fn what_is_agreed_survives_everything() {
    if std::env::var_os("KRG_SIM_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env("KRG_SIM_LOG");
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
    }
    if let Some(seed) = number("KRG_SIM_SEED") {
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
    let first = number("KRG_SIM_FIRST").unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    let tally = sim::run::many(first, count.unwrap_or(u64::MAX), limit);
    println!(
        "{} seeds from {first} on: {} s simulated, {} questions",
        tally.runs,
        tally.simulated.as_secs(),
        tally.asked
    );
    if let Some((seed, why)) = tally.failed.first() {
        panic!("seed {seed}: {why}\nonce more: {}", again(*seed));
    }
    assert!(tally.runs > 0, "no seed was run");
}
