//! A job runs once, whatever dies: the plans of a move in simulated clusters.
//!
//! KRG_MOVES_SEED runs one seed and says what happened; KRG_MOVES_SEEDS runs so many of them, from
//! KRG_MOVES_FIRST on.

#[path = "moves/faults.rs"]
mod faults;
#[path = "moves/sides.rs"]
mod sides;
#[path = "moves/world.rs"]
mod world;

use faults::{FAULTS, Fault};
use krg_migrate::plan::{source, target};
use world::{HOME, Mutation, NODES, Outcome, World};

/// Without another word.
const SEEDS: u64 = 20_000;
/// A wrong plan is found within so many.
const FOUND_WITHIN: u64 = 20_000;
/// Steps in which anything may happen.
const WILD_STEPS: usize = 400;
/// Rounds after which all has come to rest.
const CALM_ROUNDS: usize = 600;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One thing happens, whatever it is.
fn wild_step(world: &mut World) {
    let node = 1 + world.chance.below(NODES as usize) as u32;
    let write = world.chance.below(world.writes.len().max(1));
    match world.chance.below(100) {
        0..48 => world.act(node),
        48..60 => world.apply(write),
        60..61 => world.lose(write),
        61..76 => (),
        76..82 => world.keeper(node),
        82..88 => {
            let to = 1 + world.chance.below(NODES as usize) as u32;
            world.order(node, to);
        }
        88..92 => world.mend(node),
        92..94 => {
            let stream = world.streams.len().saturating_sub(1 + world.chance.below(2));
            world.break_stream(stream);
        }
        _ if world.chance.below(3) > 0 => (),
        _ => {
            let fault = FAULTS[world.chance.below(FAULTS.len())];
            world.strike(node, fault);
        }
    }
}

fn look(world: &mut World) -> Outcome {
    world.check()?;
    for node in 1..=NODES {
        world.work(node)?;
    }
    Ok(())
}

/// Everybody does his next thing.
fn calm_round(world: &mut World) -> Outcome {
    for node in 1..=NODES {
        world.act(node);
        look(world)?;
    }
    for write in 0..world.writes.len() {
        world.apply(write);
    }
    (1..=NODES).for_each(|node| world.keeper(node));
    look(world)
}

fn settle(world: &mut World) -> Outcome {
    (1..=NODES).for_each(|node| world.mend(node));
    for _ in 0..CALM_ROUNDS {
        calm_round(world)?;
    }
    at_rest(world)
}

/// It runs where its record says, and nothing of it is anywhere else; or it is lost, and that is
/// told.
fn at_rest(world: &World) -> Outcome {
    let running = world.running();
    let copies = (1..=NODES).filter(|node| world.nodes[*node as usize].copy.is_some()).count();
    let busy = world.nodes[1..].iter().filter_map(|node| node.holder.as_ref());
    if busy.into_iter().any(|holder| holder.source.is_some() || holder.target.is_some()) {
        return Err("a move does not end".into());
    }
    let has_home = world.nodes[HOME as usize].holder.is_some();
    let holder = world.record.as_ref().map_or(HOME, |record| record.holder);
    match running[..] {
        [one] if copies == 1 && one == holder && has_home => Ok(()),
        [] if copies == 0 && !(world.home_died || world.holder_died) => {
            Err("it runs nowhere, and nothing has died".into())
        }
        // Before its first move nobody but its starter knows of it.
        [] if copies == 0 && world.home_died && world.record.is_none() => Ok(()),
        [] if copies == 0 && !has_home => {
            let recorded = world.record.as_ref().is_some_and(|record| record.lost.is_some());
            match world.told_lost || recorded {
                true => Ok(()),
                false => Err("it runs nowhere, and nobody is told".into()),
            }
        }
        _ => Err(format!(
            "at rest: runs on {running:?}, {copies} copies, home {has_home}, record {:?}",
            world.record
        )),
    }
}

fn run(seed: u64, mutation: Mutation) -> Result<u32, (String, Vec<String>)> {
    let mut world = World::new(seed, true, mutation);
    for _ in 0..WILD_STEPS {
        wild_step(&mut world);
        look(&mut world).map_err(|why| (why, std::mem::take(&mut world.log)))?;
    }
    settle(&mut world).map_err(|why| (why, std::mem::take(&mut world.log)))?;
    Ok(world.moves)
}

#[test]
fn a_job_runs_once_whatever_happens() {
    if let Some(seed) = number("KRG_MOVES_SEED") {
        match run(seed, Mutation::None) {
            Ok(moves) => println!("seed {seed}: {moves} moves"),
            Err((why, log)) => panic!("seed {seed}: {why}\n{}", log.join("\n")),
        }
        return;
    }
    let first = number("KRG_MOVES_FIRST").unwrap_or(1);
    let seeds = number("KRG_MOVES_SEEDS").unwrap_or(SEEDS);
    let mut moves = 0u64;
    for seed in first..first + seeds {
        match run(seed, Mutation::None) {
            Ok(some) => moves += u64::from(some),
            Err((why, log)) => {
                panic!("seed {seed}: {why}\n{}\nonce more: KRG_MOVES_SEED={seed}", log.join("\n"))
            }
        }
    }
    println!("{seeds} seeds from {first} on: {moves} moves");
    assert!(moves > seeds, "hardly anything has moved");
}

#[test]
fn a_wrong_plan_is_found() {
    for mutation in [
        Mutation::NoFence,
        Mutation::ResumeUnwritten,
        Mutation::RunBeforeGo,
        Mutation::ClaimAnyRevision,
        Mutation::StayHomeless,
    ] {
        let found = (1..FOUND_WITHIN).find_map(|seed| Some((seed, run(seed, mutation).err()?)));
        let (seed, (why, _)) = found.unwrap_or_else(|| panic!("{mutation:?} is not found"));
        println!("{mutation:?}: seed {seed}: {why}");
    }
}

/// Which side of the move is struck, and had the other all of it by then?
fn must_run(world: &World, from: u32, to: u32, node: u32, fault: Fault) -> bool {
    let holder = |node: u32| world.nodes[node as usize].holder.as_ref();
    let target = holder(to).and_then(|holder| Some(holder.target.as_ref()?.plan.step()));
    let source = holder(from).and_then(|holder| Some(holder.source.as_ref()?.plan.step()));
    let has_all = !matches!(target, None | Some(target::Step::Prepare | target::Step::Receive));
    let is_sure = match source {
        Some(step) => matches!(
            step,
            source::Step::Announce
                | source::Step::Dump
                | source::Step::Fence
                | source::Step::TakeBack
                | source::Step::Send
        ),
        None => false,
    };
    let begun = source.is_some() || target.is_some();
    match fault {
        Fault::Pause | Fault::Cut | Fault::Krgd => true,
        // CRIU at the source is not needed any more when it has been stopped there.
        Fault::Criu => node == from || is_sure,
        Fault::Holder | Fault::Power if node == HOME => false,
        Fault::Holder | Fault::Power if node == from => begun && has_all && source.is_some(),
        Fault::Holder | Fault::Power if node == to => is_sure,
        Fault::Holder | Fault::Power => true,
    }
}

/// Each fault on each node at each step of each kind of move: it is lost only with its home, or
/// with who had all that there was of it.
#[test]
fn one_fault_loses_a_job_only_with_who_has_it() {
    let mut runs = 0;
    for (ways, struck) in [(&[2][..], 2), (&[2, 3], 3), (&[2, 1], 3)] {
        let (from, to) = match ways {
            [one] => (HOME, *one),
            [.., from, to] => (*from, *to),
            [] => unreachable!(),
        };
        for fault in FAULTS {
            for node in 1..=NODES {
                for at in 0..30 {
                    let why = |why: String, world: &World| {
                        panic!(
                            "{from}->{to}, {fault:?} of {node} at {at}: {why}\n{:#?}",
                            world.log
                        )
                    };
                    let mut world = World::new(1, false, Mutation::None);
                    world.order(HOME, 2);
                    calm_round(&mut world).unwrap();
                    if struck > 2 {
                        world.order(HOME, 2);
                        (0..40).for_each(|_| calm_round(&mut world).unwrap());
                    }
                    world.order(from, to);
                    (0..at).for_each(|_| calm_round(&mut world).unwrap());
                    let must = must_run(&world, from, to, node, fault);
                    world.strike(node, fault);
                    for _ in 0..30 {
                        calm_round(&mut world).unwrap_or_else(|e| why(e, &world));
                    }
                    settle(&mut world).unwrap_or_else(|e| why(e, &world));
                    if must && world.running().is_empty() {
                        why("it is lost".into(), &world);
                    }
                    runs += 1;
                }
            }
        }
    }
    println!("{runs} runs");
}
