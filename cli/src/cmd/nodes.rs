//! `krg nodes`: who is there.

use crate::args::NodesCommand;
use crate::{daemon, table};
use anyhow::{Result, bail};
use krg_rpc::proto::control::Node;
use krg_types::{NodeId, NodeSet};
use serde::Serialize;

#[derive(Serialize)]
struct Row<'a> {
    id: u32,
    hostname: &'a str,
    address: &'a str,
    state: &'a str,
    seen_ms: Option<u64>,
    rtt_us: u32,
    this_node: bool,
    why: &'a str,
}

/// The nodes in `set`, or all; a number that no node has is an error.
pub fn chosen<'a>(all: &'a [Node], set: Option<&NodeSet>) -> Result<Vec<&'a Node>> {
    let Some(set) = set else { return Ok(all.iter().collect()) };
    let there = |id: NodeId| all.iter().find(|n| n.id == id.get());
    let mut nodes = Vec::new();
    for id in set.iter() {
        let Some(node) = there(id) else {
            let known: NodeSet = all.iter().filter_map(|n| NodeId::new(n.id)).collect();
            bail!("there is no node {id} (nodes: {known})");
        };
        nodes.push(node);
    }
    Ok(nodes)
}

/// Runs it.
pub fn run(command: Option<NodesCommand>) -> Result<u8> {
    let (set, json) = match command {
        Some(NodesCommand::Status { nodes, json }) => (nodes, json),
        None => (None, false),
    };
    let status = daemon::status()?;
    let nodes = chosen(&status.nodes, set.as_ref())?;
    let rows = nodes.into_iter().map(|n| Row {
        id: n.id,
        hostname: &n.hostname,
        address: &n.address,
        state: &n.state,
        seen_ms: n.seen_ms,
        rtt_us: n.rtt_us,
        this_node: n.id == status.node,
        why: &n.why,
    });
    if json {
        println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
        return Ok(0);
    }
    let cells: Vec<Vec<String>> = rows.map(|r| cells(&r)).collect();
    print!("{}", table::render(&["NODE", "HOSTNAME", "ADDRESS", "STATE", "SEEN", "WHY"], &cells));
    Ok(0)
}

fn cells(row: &Row<'_>) -> Vec<String> {
    let dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
    let seen = row.seen_ms.map_or("never".into(), |ms| format!("{:.1} s ago", ms as f64 / 1e3));
    let id = format!("{}{}", row.id, if row.this_node { "*" } else { "" });
    vec![id, dash(row.hostname), row.address.into(), row.state.into(), seen, row.why.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_node_is_named_with_those_there_are() {
        let all: Vec<Node> = [1, 2, 3, 7].map(|id| Node { id, ..Node::default() }).into();
        let set: NodeSet = "2,7".parse().unwrap();
        let ids: Vec<u32> = chosen(&all, Some(&set)).unwrap().iter().map(|n| n.id).collect();
        assert_eq!(ids, [2, 7]);
        let bad: NodeSet = "2-4".parse().unwrap();
        let error = chosen(&all, Some(&bad)).unwrap_err().to_string();
        assert_eq!(error, "there is no node 4 (nodes: 1-3,7)");
    }
}
