//! Every node of the cluster, as the view of this machine holds it.

use super::Number;
use krg_rpc::local;
use krg_rpc::proto::view::view_client::ViewClient;
use krg_rpc::proto::view::{SnapshotRequest, ViewNode};
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::view;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::timeout;

/// A view that does not answer within this is left out.
const VIEW_MAX: Duration = Duration::from_millis(1_500);
/// What is so old will do, ms.
const MAX_AGE_MS: u32 = 1_000;

type Labels<const N: usize> = [(&'static str, String); N];
type Gauges = Family<Labels<1>, Number>;
type Counters = Family<Labels<1>, Counter<f64, AtomicU64>>;

/// Adds them; nothing if no view is there.
pub async fn add(registry: &mut Registry, run_dir: &Path) {
    let nodes = timeout(VIEW_MAX, ask(&run_dir.join(view::DOOR))).await;
    let nodes = nodes.ok().flatten().unwrap_or_default();
    if nodes.is_empty() {
        return;
    }
    about(registry, &nodes);
    memory(registry, &nodes);
    work(registry, &nodes);
}

async fn ask(door: &Path) -> Option<Vec<ViewNode>> {
    let channel = local::connect(door).await.ok()?;
    let mut client = ViewClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let asked = SnapshotRequest {
        version: PROTOCOL_VERSION,
        max_age_ms: MAX_AGE_MS,
        count_states: true,
        ..SnapshotRequest::default()
    };
    let mut parts = client.snapshot(asked).await.ok()?.into_inner();
    parts.message().await.ok()?.map(|part| part.nodes)
}

fn label(node: &ViewNode) -> Labels<1> {
    [("node", node.node.to_string())]
}

/// One of them for each node that has it.
fn gauge(
    registry: &mut Registry,
    (name, help): (&str, &str),
    nodes: &[ViewNode],
    value: impl Fn(&ViewNode) -> Option<f64>,
) {
    let gauges = Gauges::default();
    for node in nodes {
        if let Some(value) = value(node) {
            gauges.get_or_create(&label(node)).set(value);
        }
    }
    registry.register(name, help, gauges);
}

/// The same of what only grows.
fn counter(
    registry: &mut Registry,
    (name, help): (&str, &str),
    nodes: &[ViewNode],
    value: impl Fn(&ViewNode) -> f64,
) {
    let counters = Counters::default();
    for node in nodes.iter().filter(|node| is_known(node)) {
        counters.get_or_create(&label(node)).inc_by(value(node));
    }
    registry.register(name, help, counters);
}

/// Is anything known of it but its name?
fn is_known(node: &ViewNode) -> bool {
    node.state != "down" && node.age_ms != u32::MAX
}

fn known(node: &ViewNode, value: f64) -> Option<f64> {
    is_known(node).then_some(value)
}

fn about(registry: &mut Registry, nodes: &[ViewNode]) {
    let up = |node: &ViewNode| Some(f64::from(u8::from(node.answered)));
    gauge(registry, ("cluster_node_up", "1 while the node answers the view"), nodes, up);
    let age = |node: &ViewNode| (node.age_ms != u32::MAX).then(|| f64::from(node.age_ms) / 1e3);
    let name = ("cluster_node_age_seconds", "How old what is told of the node is, at most");
    gauge(registry, name, nodes, age);
    let uptime = |node: &ViewNode| known(node, node.uptime_ms as f64 / 1e3);
    gauge(registry, ("cluster_node_uptime_seconds", "Since it was booted"), nodes, uptime);
    let cpus = |node: &ViewNode| known(node, f64::from(node.cpus));
    gauge(registry, ("cluster_node_cpus", "Its processors"), nodes, cpus);
    let names = ["cluster_node_load1", "cluster_node_load5", "cluster_node_load15"];
    for (place, name) in names.into_iter().enumerate() {
        let load = |node: &ViewNode| {
            let hundredths = node.load_hundredths.get(place)?;
            known(node, f64::from(*hundredths) / 100.0)
        };
        gauge(registry, (name, "Its load average"), nodes, load);
    }
}

fn memory(registry: &mut Registry, nodes: &[ViewNode]) {
    type Kib = fn(&ViewNode) -> u64;
    let all: [(&str, &str, Kib); 5] = [
        ("cluster_node_memory_total_bytes", "Its memory", |n| n.mem_total_kib),
        ("cluster_node_memory_available_bytes", "Of it available", |n| n.mem_available_kib),
        ("cluster_node_memory_free_bytes", "Of it free", |n| n.mem_free_kib),
        ("cluster_node_swap_total_bytes", "Its swap space", |n| n.swap_total_kib),
        ("cluster_node_swap_free_bytes", "Of it free", |n| n.swap_free_kib),
    ];
    for (name, help, kib) in all {
        gauge(registry, (name, help), nodes, |node| known(node, kib(node) as f64 * 1024.0));
    }
}

fn work(registry: &mut Registry, nodes: &[ViewNode]) {
    let seconds = |node: &ViewNode, ticks: u64| ticks as f64 / f64::from(node.ticks_per_s.max(1));
    let name = ("cluster_node_cpu_busy_seconds", "Time its processors worked");
    counter(registry, name, nodes, |node| seconds(node, node.cpu_busy_ticks));
    let name = ("cluster_node_cpu_seconds", "Time of its processors");
    counter(registry, name, nodes, |node| seconds(node, node.cpu_all_ticks));
    let name = ("cluster_node_network_receive_bytes", "Received, but for loopback");
    counter(registry, name, nodes, |node| node.rx_bytes as f64);
    let name = ("cluster_node_network_transmit_bytes", "Sent, but for loopback");
    counter(registry, name, nodes, |node| node.tx_bytes as f64);
    let processes = Family::<Labels<2>, Number>::default();
    for node in nodes {
        for state in &node.states {
            let letter = u8::try_from(state.state).map_or('?', char::from);
            let labels = [("node", node.node.to_string()), ("state", letter.to_string())];
            processes.get_or_create(&labels).set(f64::from(state.processes));
        }
    }
    let help = "Its processes by the letter of their state, as in ps";
    registry.register("cluster_node_processes", help, processes);
}
