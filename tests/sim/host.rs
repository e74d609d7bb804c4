//! What runs on a machine: its part in the agreement, the service for the others, clients, a
//! watcher and an administrator.

use super::world::{Heard, Papers, World, address};
use super::{client, net, orders};
use krg_meta::meta::{Farewell, Tuning};
use krg_meta::open::open_memory;
use krg_meta::watch::Notice;
use krg_meta::{Meta, Options};
use krg_types::MemberId;
use krg_types::limits::GROUP_MAIN;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use turmoil::net::TcpStream;

/// Telling one member that it is none any more may take so long.
const TELL_MAX: Duration = Duration::from_millis(800);
/// One try of a command that a machine needs to take part.
const TRY_MAX: Duration = Duration::from_secs(2);

/// Between tries.
const PAUSE: Duration = Duration::from_millis(100);

/// One life of the machine's daemon. Does nothing while it has no papers.
pub async fn live(world: Arc<World>, machine: usize) -> turmoil::Result {
    let (papers, store, life) = {
        let mut slot = world.slot(machine);
        let Some(papers) = slot.papers else { return Ok(()) };
        slot.lives += 1;
        (slot.ended, slot.told) = (None, false);
        slot.store.set_sync_time(sync_time(&world, machine, slot.lives));
        (papers, slot.store.clone(), slot.lives)
    };
    let opened = match open_memory(store, GROUP_MAIN) {
        Ok(opened) => opened,
        Err(e) => {
            world.broke(format!("machine {machine} cannot open what it synced: {e}"));
            return Ok(());
        }
    };
    let options = options(&world, papers.member, life);
    let (entries_per_snapshot, entries_kept) = world.snapshots;
    let tuning = Tuning { entries_per_snapshot, entries_kept };
    let meta = match Meta::start_tuned(opened, options, tuning).await {
        Ok(meta) => meta,
        Err(e) => {
            world.slot(machine).ended = Some(e.to_string());
            return Ok(());
        }
    };
    let (orders, taken) = mpsc::unbounded_channel();
    {
        let mut slot = world.slot(machine);
        (slot.meta, slot.orders) = (Some(meta.clone()), Some(orders));
    }
    tokio::spawn(net::serve(meta.clone()));
    tokio::spawn(watch(world.clone(), machine, life, meta.clone()));
    tokio::spawn(begin(world.clone(), machine, papers, life, meta.clone()));
    let why = tokio::select! {
        biased;
        why = meta.failure() => why,
        () = orders::run(world.clone(), machine, meta.clone(), taken) => {
            meta.stop().await;
            "stopped".into()
        }
    };
    let mut slot = world.slot(machine);
    (slot.meta, slot.orders, slot.ended) = (None, None, Some(why));
    Ok(())
}

/// Some disks take no time, most a little, some very long.
fn sync_time(world: &World, machine: usize, life: u64) -> Duration {
    let mut rng = world.rng(("sync", machine, life));
    let max_us = [0, 1_000, 5_000, 50_000, 300_000][rng.gen_range(0..5)];
    Duration::from_micros(rng.gen_range(0..=max_us))
}

fn options(world: &Arc<World>, member: MemberId, life: u64) -> Options {
    let (seed, keys) = (world.seed, AtomicU64::new(0));
    Options {
        member,
        group: GROUP_MAIN,
        epoch: life,
        dial: Arc::new(net::Wire(member)),
        new_key: Arc::new(move || {
            let number = keys.fetch_add(1, Ordering::Relaxed);
            orders::hex32((seed, member, life, number))
        }),
        authority_keys: Arc::new(Vec::new),
        farewell: farewell(world.clone()),
    }
}

/// Who can be reached hears that it is a member no more.
fn farewell(world: Arc<World>) -> Farewell {
    Arc::new(move |leaving| {
        let world = world.clone();
        Box::pin(async move {
            for (member, address) in leaving {
                let Some(machine) = world.machine_of(member) else { continue };
                let reached = timeout(TELL_MAX, TcpStream::connect(address)).await;
                if matches!(reached, Ok(Ok(_))) {
                    world.slot(machine).told = true;
                }
            }
        })
    })
}

/// Founds the cluster, or describes itself to it; then the clients begin.
async fn begin(world: Arc<World>, machine: usize, papers: Papers, life: u64, meta: Meta) {
    let new = || meta.view().state.info().newest_serial == 0;
    if papers.founder && new() {
        if let Err(e) = meta.found(&address(machine)).await {
            world.slot(machine).ended = Some(e.to_string());
            return;
        }
        while new() {
            let _ = meta.propose(orders::found(), TRY_MAX).await;
            sleep_until(Instant::now() + PAUSE).await;
        }
    }
    for number in 0..client::CLIENTS {
        tokio::spawn(client::run(world.clone(), machine, life, number, meta.clone()));
    }
    let describe = orders::describe(machine, papers.member);
    while meta.propose(describe.clone(), TRY_MAX).await.is_err() {
        sleep_until(Instant::now() + PAUSE).await;
    }
}

/// Notes everything that a watcher hears; after a restart it goes on where it was.
async fn watch(world: Arc<World>, machine: usize, life: u64, meta: Meta) {
    let from = world.slot(machine).watched + 1;
    let mut changes = meta.watch(from);
    world.hear(machine, life, Heard::Began(from));
    while let Some(notice) = changes.next().await {
        let heard = match notice {
            Notice::Event(event) => Heard::Event(event),
            Notice::Gap { resume } => Heard::Gap(resume.state.revision),
        };
        if let Heard::Event(krg_meta::watch::Event { revision, .. }) | Heard::Gap(revision) =
            &heard
        {
            world.slot(machine).watched = *revision;
        }
        world.hear(machine, life, heard);
    }
}
