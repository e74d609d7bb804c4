//! Numbers for a monitoring system, in the OpenMetrics text format: through the unix socket, and
//! over HTTP where the configuration says so.

mod cluster;

use crate::life::Station;
use anyhow::{Context, Result};
use krg_types::{MemberId, NodeId, NodeState};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Requests at once.
const REQUESTS_MAX: usize = 16;
/// One request may take so long.
const REQUEST_MAX: Duration = Duration::from_secs(2);
/// Bytes of a request that are read.
const REQUEST_BYTES_MAX: usize = 4096;

type Number = Gauge<f64, AtomicU64>;
type ByNode = Family<[(&'static str, String); 1], Number>;

/// All of them, now. Made when asked for: nothing is counted while nobody asks.
pub async fn text(station: &Station) -> String {
    let mut registry = Registry::with_prefix("krg");
    agreement(&mut registry, station);
    nodes(&mut registry, station);
    gossip(&mut registry, station);
    cluster::add(&mut registry, &station.config.run_dir).await;
    let mut out = String::new();
    // Writing into a text does not fail.
    let _ = encode(&mut out, &registry);
    out
}

fn put(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Number::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn agreement(registry: &mut Registry, station: &Station) {
    let (view, standing) = (station.meta.view(), station.meta.standing());
    let raft = &standing.raft;
    let leader = standing.leader.and_then(MemberId::node).map_or(0, NodeId::get);
    let age = standing.leader_age.map_or(f64::INFINITY, |age| age.as_secs_f64());
    let left_s = station.home.identity().not_after_unix_s() as f64 - station.home.wall_s() as f64;
    let list = raft.membership_config.membership();
    let numbers = [
        ("raft_term", "The current term", raft.current_term as f64),
        ("raft_last_log", "The last entry of the log", raft.last_log_index.unwrap_or(0) as f64),
        ("raft_applied", "The last applied entry", view.applied_index() as f64),
        (
            "raft_snapshot",
            "The last entry of the snapshot",
            raft.snapshot.map_or(0, |i| i.index) as f64,
        ),
        ("raft_leader", "The node that leads; 0: none is known", f64::from(leader)),
        (
            "raft_leads",
            "1 on the leader",
            f64::from(u8::from(standing.leader == Some(station.meta.own()))),
        ),
        ("raft_stale", "1 while reads may be behind", f64::from(u8::from(standing.stale))),
        ("raft_leader_age_seconds", "Since the leader was heard", age),
        ("raft_voters", "Members that vote", list.voter_ids().count() as f64),
        ("state_revision", "Changes of the state", view.state.revision as f64),
        ("state_version", "The version of the state", f64::from(view.state.info().state_version)),
        ("certificate_left_seconds", "Until this node's certificate ends", left_s),
    ];
    for (name, help, value) in numbers {
        put(registry, name, help, value);
    }
}

fn nodes(registry: &mut Registry, station: &Station) {
    let (online, rtt, age) = (ByNode::default(), ByNode::default(), ByNode::default());
    for node in crate::control::nodes_of(station) {
        let label = || [("node", node.id.to_string())];
        let up = node.state == NodeState::Online.word();
        online.get_or_create(&label()).set(f64::from(u8::from(up)));
        rtt.get_or_create(&label()).set(f64::from(node.rtt_us) / 1e6);
        if let Some(load) = &node.load {
            age.get_or_create(&label()).set(load.age_ms as f64 / 1e3);
        }
    }
    registry.register("node_online", "1 while the node answers and takes part", online);
    registry.register("node_rtt_seconds", "The last probe's round trip", rtt);
    registry.register("node_load_age_seconds", "How old the node's load vector is", age);
}

fn gossip(registry: &mut Registry, station: &Station) {
    let Some(totals) = station.gossip.get().map(|gossip| gossip.totals()) else { return };
    let numbers = [
        ("gossip_sent_packets", "Packets sent", totals.sent_packets),
        ("gossip_sent_bytes", "Their bytes", totals.sent_bytes),
        ("gossip_received_packets", "Packets believed", totals.received_packets),
        ("gossip_received_bytes", "Their bytes", totals.received_bytes),
        (
            "gossip_foreign_entries",
            "Entries about nobody who is a member",
            totals.foreign_entries,
        ),
    ];
    for (name, help, value) in numbers {
        put(registry, name, help, value as f64);
    }
    let refused = Family::<[(&'static str, String); 1], Number>::default();
    for (why, count) in &totals.refused {
        refused.get_or_create(&[("why", why.to_string())]).set(*count as f64);
    }
    registry.register("gossip_refused_packets", "Packets refused, by reason", refused);
}

/// Serves them over HTTP, if a place is configured; else waits for the end.
///
/// # Errors
/// When nothing can listen there.
pub async fn serve(station: Arc<Station>) -> Result<()> {
    let Some(at) = station.config.metrics else { return std::future::pending().await };
    let listener = TcpListener::bind(at).await;
    let listener = listener.with_context(|| format!("cannot serve metrics on {at}"))?;
    let free = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let permit = free.clone().acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else { continue };
        let station = station.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let _ = timeout(REQUEST_MAX, answer(stream, &station)).await;
        });
    }
}

/// The same text is read as OpenMetrics and as Prometheus' own format: who asks says which one he
/// knows.
fn kind(request: &[u8]) -> &'static str {
    const OPEN: &[u8] = b"application/openmetrics-text";
    let head = request.to_ascii_lowercase();
    let accepts = head.split(|b| *b == b'\n').find(|line| line.starts_with(b"accept:"));
    match accepts.is_some_and(|line| line.windows(OPEN.len()).any(|at| at == OPEN)) {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    }
}

/// One request, whatever it is: there is one page.
async fn answer(mut stream: TcpStream, station: &Station) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let good = request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ");
    let (status, body) = match good {
        true => ("200 OK", text(station).await),
        false => ("404 Not Found", "only GET /metrics is here\n".to_owned()),
    };
    let kind = kind(&request);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_format_is_named_as_it_is_asked_for() {
        let of = |accept: &str| {
            let request = format!("GET / HTTP/1.1\r\n{accept}\r\n");
            super::kind(request.as_bytes())
        };
        assert!(of("").starts_with("text/plain"));
        assert!(of("Accept: text/plain;version=0.0.4").starts_with("text/plain"));
        let prometheus = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert!(of(prometheus).starts_with("application/openmetrics-text; version=1.0.0"));
    }
}
