//! The long forms: the same blows, on new clusters, for hours. `make soak` runs them.

use krg_tests::storms::{
    a_disk_hangs, a_disk_is_full, a_minority_is_cut_off, leaders_die, the_leader_is_paused,
    the_power_fails, three,
};
use std::time::{Duration, Instant};

/// All of it, if `KRG_SOAK_S` says nothing.
const SOAK_S: u64 = 7_200;
/// How long leaders are killed in one round.
const KILLING: Duration = Duration::from_secs(120);
/// Power cuts of one round.
const CUTS: usize = 10;

fn soak_time() -> Duration {
    let said = std::env::var("KRG_SOAK_S").ok();
    Duration::from_secs(said.map_or(SOAK_S, |s| s.parse().expect("KRG_SOAK_S is seconds")))
}

#[test]
#[ignore = "takes hours: make soak"]
fn what_is_acknowledged_stays_for_hours() {
    let (begun, limit) = (Instant::now(), soak_time());
    let mut rounds = 0;
    while begun.elapsed() < limit {
        let Some(lab) = three("soak") else { return };
        leaders_die(&lab, KILLING.min(limit));
        a_minority_is_cut_off(&lab);
        the_leader_is_paused(&lab);
        a_disk_is_full(&lab);
        a_disk_hangs(&lab);
        (0..CUTS).for_each(|_| the_power_fails(&lab));
        rounds += 1;
        println!("round {rounds}: {} s of {} s", begun.elapsed().as_secs(), limit.as_secs());
    }
}
