//! Measures the gossip: bytes a second of one node, and how old a load vector is when it is read.
//! All nodes run in this process, on a network in memory and a clock that skips idle time, so a
//! minute of theirs takes seconds: `cargo run -p krg-cluster --example gossip_sim`.

use krg_cluster::seal::Keys;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use world::{Hub, Node, Person};

#[allow(dead_code)] // The tests use more of it.
#[path = "../tests/world/mod.rs"]
mod world;

/// Nobody measures while nodes find each other.
const WARM_UP: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(30);
/// Between looks at the ages; a prime, so that looks and rounds drift past each other.
const LOOK_EVERY: Duration = Duration::from_millis(1_009);

fn main() -> std::io::Result<()> {
    println!(
        "{:>5} {:>12} {:>10} {:>12} {:>10} {:>10} {:>8}",
        "nodes", "bytes/s/node", "packets/s", "bytes/packet", "mean age", "worst age", "suspects"
    );
    for nodes in [8, 16, 32, 64] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(measure(nodes));
    }
    Ok(())
}

async fn measure(count: u32) {
    let hub = Hub::default();
    let sockets: Vec<_> = (1..=count).map(|n| (n, hub.open(n))).collect();
    let people: Vec<_> = sockets.iter().map(|(n, (at, _))| Person::new(*n, *at)).collect();
    let keys = Keys { current: world::key(1), previous: None };
    let mut nodes = Vec::new();
    for (i, (person, (_, (_, wire)))) in people.iter().zip(sockets).enumerate() {
        // Daemons do not start at one instant, and their rounds stay apart.
        sleep_until(Instant::now() + Duration::from_millis(7 * (i as u64 % 71))).await;
        let members = world::list(person, &people, keys.clone());
        nodes.push(Node::start(person, members, wire).await);
    }
    sleep_until(Instant::now() + WARM_UP).await;
    nodes.iter_mut().for_each(|n| while n.suspects.try_recv().is_ok() {});
    let sent = |nodes: &[Node]| {
        let totals = nodes.iter().map(|n| n.gossip.totals());
        totals.fold((0, 0), |sum, t| (sum.0 + t.sent_packets, sum.1 + t.sent_bytes))
    };
    let (before, end) = (sent(&nodes), Instant::now() + MEASURED);
    let (mut ages, mut sum, mut worst) = (0u64, Duration::ZERO, Duration::ZERO);
    while Instant::now() < end {
        sleep_until(Instant::now() + LOOK_EVERY).await;
        for (node, person) in nodes.iter().zip(&people) {
            for (_, heard) in node.gossip.view().iter().filter(|v| *v.0 != person.id) {
                // Who was never heard of must not make the figures better.
                let age = heard.age.unwrap_or(WARM_UP + MEASURED);
                (ages, sum, worst) = (ages + 1, sum + age, worst.max(age));
            }
        }
    }
    let seconds =
        (MEASURED.as_secs_f64() / LOOK_EVERY.as_secs_f64()).ceil() * LOOK_EVERY.as_secs_f64();
    let (packets, bytes) = (sent(&nodes).0 - before.0, sent(&nodes).1 - before.1);
    let share = |n: u64| n as f64 / seconds / f64::from(count);
    let suspects: usize =
        nodes.iter_mut().map(|n| std::iter::from_fn(|| n.suspects.try_recv().ok()).count()).sum();
    println!(
        "{count:>5} {:>12.0} {:>10.1} {:>12.0} {:>8.2} s {:>8.2} s {suspects:>8}",
        share(bytes),
        share(packets),
        bytes as f64 / packets as f64,
        sum.as_secs_f64() / ages as f64,
        worst.as_secs_f64(),
    );
}
