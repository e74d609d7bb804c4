//! One run from one seed, and many of them on all cores.

use super::cluster::{Cluster, PANICKED};
use super::faults::Faults;
use super::liveness;
use super::world::lock;
use rand::Rng;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first machines are members after so long, simulated.
const GATHER_MAX: Duration = Duration::from_secs(30);
/// Faults last so long, simulated, s.
const SAFETY_S: (u64, u64) = (10, 40);

/// What a run was like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// A hash of all that was seen: the same seed gives the same.
    pub trace: u64,
    /// Simulated.
    pub elapsed: Duration,
    /// Questions, and those with an answer.
    pub asked: usize,
    pub answered: usize,
    /// The state's last revision, and the last term.
    pub revision: u64,
    pub term: u64,
}

/// Runs one seed.
///
/// # Errors
/// What did not hold, and when.
pub fn one(seed: u64) -> Result<Summary, String> {
    catch_panics();
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(seed);
        let done = both_phases(&mut cluster);
        let now = cluster.now();
        done.map_err(|why| format!("after {now:?} simulated: {why}"))
    }));
    run.unwrap_or_else(|payload| Err(format!("panic: {}", words(payload.as_ref()))))
}

fn both_phases(cluster: &mut Cluster) -> Result<Summary, String> {
    let mut faults = Faults::new(cluster);
    let mut rng = cluster.world.rng("run");
    faults.gather(rng.gen_range(1..=6));
    while !faults.is_gathered() {
        cluster.step()?;
        faults.upkeep(cluster);
        if cluster.now() > GATHER_MAX {
            return Err(format!("liveness: no cluster comes about\n{}", cluster.standing()));
        }
    }
    let until = cluster.now() + Duration::from_secs(rng.gen_range(SAFETY_S.0..SAFETY_S.1));
    while cluster.now() < until {
        cluster.step()?;
        faults.step(cluster);
    }
    liveness::run(cluster, &mut faults)?;
    let history = lock(&cluster.world.history);
    let answered = history.all.iter().filter(|asked| asked.returned.is_some()).count();
    let newest = cluster.newest();
    Ok(Summary {
        trace: cluster.oracle.trace,
        elapsed: cluster.now(),
        asked: history.all.len(),
        answered,
        revision: newest.as_ref().map_or(0, |view| view.state.revision),
        term: newest.and_then(|view| view.applied).map_or(0, |id| id.leader_id.term),
    })
}

/// A panic in a task of a host is a failure of the run, even if nobody waits for the task.
fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let what = format!("{} at {place}", words(info.payload()));
            PANICKED.with_borrow_mut(|panicked| *panicked = Some(what));
            usual(info);
        }));
    });
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "no words".into())
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub simulated_s: u64,
    /// Seeds that failed, and why.
    pub failed: Vec<(u64, String)>,
}

/// Runs one seed in a process of its own: what tokio counts for a whole process begins anew there,
/// so the same seed gives the same, and a run that never ends can be ended. `test` is the name of
/// the test that runs KRG_SIM_SEED and prints its summary.
///
/// # Errors
/// What the run said when it failed.
pub fn apart(test: &str, seed: u64) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env("KRG_SIM_SEED", seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}\n{}", output.status, text(&output.stderr))),
    }
}

/// Runs seeds from `first` on, on all cores, until so many are done, the time is over, or one has
/// failed.
pub fn many(test: &str, first: u64, count: u64, limit: Duration) -> Tally {
    let (begun, next) = (Instant::now(), AtomicU64::new(0));
    let tally = Mutex::new(Tally::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while begun.elapsed() < limit && lock(&tally).failed.is_empty() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let seed = first.wrapping_add(n);
                    let ran = apart(test, seed);
                    let mut tally = lock(&tally);
                    tally.runs += 1;
                    match ran {
                        Ok(text) => tally.simulated_s += simulated_s(&text),
                        Err(why) => tally.failed.push((seed, why)),
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(|e| e.into_inner())
}

fn simulated_s(summary: &str) -> u64 {
    let number = summary.split("elapsed: ").nth(1).and_then(|rest| rest.split(['.', 's']).next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A run that takes longer, in real time, will never end.
const HANG: Duration = Duration::from_secs(300);

/// Ends this process when a run in it hangs.
pub fn end_if_it_hangs() {
    std::thread::spawn(|| {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(HANG);
        eprintln!("it hangs: {HANG:?} and no end");
        std::process::exit(124);
    });
}
