//! Clients: each asks one question after the other and notes what it is told.

use super::history::{Op, Outcome};
use super::world::{World, lock, now};
use krg_meta::command::{Command, Reply};
use krg_meta::table::{config, leases, sequences};
use krg_meta::{Meta, MetaError};
use rand::Rng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Clients of one machine.
pub const CLIENTS: u64 = 2;
/// Keys that are in use at the same time, and for how long, ms: a key has few questions, so that
/// its history can be checked.
const KEYS: (u64, u64) = (3, 2_000);
/// Leases are taken for so long.
const LEASE_MS: u64 = 700;

/// Asks until the clients are to end, or the machine does.
pub async fn run(world: Arc<World>, machine: usize, life: u64, number: u64, meta: Meta) {
    let mut rng = world.rng(("client", machine, life, number));
    let client = machine as u64 * CLIENTS + number;
    while world.clients_on() {
        let pause_ms = rng.gen_range(10..250);
        sleep_until(Instant::now() + Duration::from_millis(pause_ms)).await;
        let op = choose(&mut rng, &meta, (client, life));
        let limit = Duration::from_millis(rng.gen_range(300..4_000));
        ask(&world, client, &meta, op, limit).await;
    }
}

fn choose(rng: &mut StdRng, meta: &Meta, (client, life): (u64, u64)) -> Op {
    let unique = format!("{client}.{life}.{}", rng.gen_range(0..u64::MAX));
    let key = format!("k{}.{}", now().as_millis() as u64 / KEYS.1, rng.gen_range(0..KEYS.0));
    match rng.gen_range(0..100) {
        0..25 => Op::Set { key, value: unique, if_revision: None },
        25..40 => {
            let known = meta.view().state.config.row(&key).map_or(0, |row| row.revision);
            Op::Set { key, value: unique, if_revision: Some(known) }
        }
        40..70 => Op::Read { key },
        70..80 => Op::Take { name: "shared".into() },
        80..90 => Op::Once { name: format!("once/{unique}") },
        _ => {
            let name = format!("lease{}", rng.gen_range(0..2));
            Op::Lease { name, owner: meta.own(), valid_ms: LEASE_MS }
        }
    }
}

fn command(op: &Op) -> Option<Command> {
    let take = |name: &String| sequences::Command::Take { name: name.clone(), count: 1 };
    Some(match op {
        Op::Read { .. } => return None,
        Op::Set { key, value, if_revision } => Command::Config(config::Command::Set {
            key: key.clone(),
            value: Some(value.clone()),
            if_revision: *if_revision,
        }),
        Op::Take { name } | Op::Once { name } => Command::Sequences(take(name)),
        Op::Lease { name, owner, valid_ms } => Command::Leases(leases::Command::Take {
            name: name.clone(),
            owner: *owner,
            valid_ms: *valid_ms,
        }),
    })
}

/// Asks one question and notes the answer.
pub async fn ask(world: &World, client: u64, meta: &Meta, op: Op, limit: Duration) -> Outcome {
    let index = lock(&world.history).invoke(client, op.clone(), now());
    let outcome = match (&op, command(&op)) {
        (_, Some(command)) => match meta.propose(command, limit).await {
            Ok(reply) => proposed(reply),
            Err(error) => not_proposed(error),
        },
        (Op::Read { key }, None) => match meta.view_linearizable().await {
            Ok(view) => {
                let row = view.state.config.row(key);
                let row = row.map(|row| (row.value.0.clone(), row.revision));
                Outcome::Read(view.state.revision, row)
            }
            Err(error) => Outcome::NotDone(error.to_string()),
        },
        (_, None) => unreachable!("only a read is no command"),
    };
    lock(&world.history).answer(index, outcome.clone(), now());
    if let Outcome::Done(revision) = outcome {
        own_write(world, meta, &op, revision).await;
    }
    outcome
}

fn proposed(reply: Reply) -> Outcome {
    match reply {
        Reply::Done(revision) => Outcome::Done(revision),
        Reply::NotNow(revision) => Outcome::NotNow(revision),
        Reply::Number(number) => Outcome::Number(number),
        Reply::Held { owner, left_ms, fence } => Outcome::Held { owner, left_ms, fence },
        other => Outcome::NotDone(format!("{other:?}")),
    }
}

fn not_proposed(error: MetaError) -> Outcome {
    match error {
        MetaError::NoMajority(_) | MetaError::Failed(_) => Outcome::Unknown(error.to_string()),
        _ => Outcome::NotDone(error.to_string()),
    }
}

/// Whoever waits for the revision of a write finds the write in this machine's own copy.
async fn own_write(world: &World, meta: &Meta, op: &Op, revision: u64) {
    let Op::Set { key, .. } = op else { return };
    if meta.wait_revision(revision, Duration::from_millis(500)).await.is_ok() {
        let found = meta.view().state.config.row(key).map_or(0, |row| row.revision);
        if found < revision {
            world.broke(format!("{key} was set at {revision}, is there at {found} after it"));
        }
    }
}
