//! `krg nodes`: who is there, and who takes part.

mod add;
mod del;

use crate::args::nodes::{NodesArgs, NodesCommand, StatusArgs, WhichArgs};
use crate::{daemon, table, text};
use anyhow::{Result, bail};
use krg_rpc::proto::control::{Load, Node};
use krg_types::{NodeId, NodeSet};
use serde_json::json;

pub use add::add;
pub use del::del;

/// What the columns before the last one may take together; the last one is free text.
const COLUMNS_MAX: usize = 100;
/// Columns that are left out where they do not fit, the first one first.
const OPTIONAL: [&str; 3] = ["LOAD", "VERSION", "ROLE"];

/// Runs it; returns the exit code.
pub fn run(args: NodesArgs) -> Result<u8> {
    let with = |which: WhichArgs, change: &dyn Fn(_) -> Result<u8>| match which.which() {
        Ok(which) => change(which),
        Err(words) => {
            eprintln!("krg: {words}");
            Ok(2)
        }
    };
    match args.command {
        None => status(&args.status),
        Some(NodesCommand::Status(args)) => status(&args),
        Some(NodesCommand::Add { which, timeout }) => with(which, &|which| add(which, timeout)),
        Some(NodesCommand::Del { which, force }) => with(which, &|which| {
            let done = del(which, force)?;
            if done.absent && !force {
                eprintln!("krg: a node that is lost for good: krg nodes del --force -n LIST");
            }
            Ok(u8::from(!done.whole))
        }),
    }
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

/// Kerrighed's way to write nodes: `[1,2,3]`.
fn bracketed(nodes: &[u32]) -> String {
    let words: Vec<String> = nodes.iter().map(u32::to_string).collect();
    format!("[{}]", words.join(","))
}

fn status(args: &StatusArgs) -> Result<u8> {
    let status = daemon::status()?;
    let nodes = chosen(&status.nodes, args.nodes.as_ref())?;
    if args.json {
        let rows: Vec<_> = nodes.iter().map(|n| as_json(n, status.node)).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", render(&nodes, status.node));
    }
    Ok(0)
}

fn as_json(node: &Node, own: u32) -> serde_json::Value {
    let load = |l: &Load| {
        json!({
            "age_ms": l.age_ms,
            "load_percent": l.load_percent,
            "cpus": l.cpus,
            "mem_total_kib": l.mem_total_kib,
            "mem_available_kib": l.mem_available_kib,
            "processes": l.processes,
        })
    };
    json!({
        "id": node.id,
        "hostname": node.hostname,
        "address": node.address,
        "state": node.state,
        "role": (!node.role.is_empty()).then_some(&node.role),
        "release": (!node.release.is_empty()).then_some(&node.release),
        "load": node.load.as_ref().map(load),
        "seen_ms": node.seen_ms,
        "rtt_us": node.rtt_us,
        "skew_ms": node.skew_ms,
        "ssi_state": node.ssi_state,
        "this_node": node.id == own,
        "why": node.why,
    })
}

/// A column: its heading, and what it says of a node.
type Column = (&'static str, fn(&Node) -> String);

const COLUMNS: [Column; 8] = [
    ("HOSTNAME", |n| dash(&n.hostname)),
    ("ADDRESS", |n| dash(&n.address)),
    ("STATE", |n| n.state.clone()),
    ("ROLE", |n| dash(&n.role)),
    ("VERSION", |n| dash(&n.release)),
    ("LOAD", |n| n.load.as_ref().map_or("-".into(), load)),
    ("SEEN", |n| n.seen_ms.map_or("never".into(), |ms| format!("{} ago", text::duration(ms)))),
    ("WHY", |n| n.why.clone()),
];

fn dash(s: &str) -> String {
    if s.is_empty() { "-".to_owned() } else { s.to_owned() }
}

/// `0.52/4 (1.0 s)`: the load average, the cpus, and how old both are.
fn load(load: &Load) -> String {
    let average = f64::from(load.load_percent) / 100.0;
    format!("{average:.2}/{} ({})", load.cpus, text::duration(load.age_ms))
}

fn render(nodes: &[&Node], own: u32) -> String {
    let mut columns = COLUMNS.to_vec();
    for leave_out in OPTIONAL {
        if width(&columns, nodes) <= COLUMNS_MAX {
            break;
        }
        columns.retain(|(heading, _)| *heading != leave_out);
    }
    let number = |n: &Node| format!("{}{}", n.id, if n.id == own { "*" } else { "" });
    let row = |n: &&Node| [number(n)].into_iter().chain(columns.iter().map(|c| c.1(n))).collect();
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let headings: Vec<&str> = ["NODE"].into_iter().chain(columns.iter().map(|c| c.0)).collect();
    table::render(&headings, &rows)
}

/// The width of all columns but the last, with the number's.
fn width(columns: &[Column], nodes: &[&Node]) -> usize {
    let widest = |(heading, cell): &Column| {
        let cells = nodes.iter().map(|n| cell(n).chars().count());
        cells.chain([heading.len()]).max().unwrap_or(0) + "  ".len()
    };
    let shown = columns.len().saturating_sub(1);
    "NODE  ".len() + columns.iter().take(shown).map(widest).sum::<usize>()
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

    fn node(hostname: &str) -> Node {
        Node {
            id: 1,
            hostname: hostname.into(),
            address: "10.91.1.1:7600".into(),
            state: "online".into(),
            seen_ms: Some(200),
            role: "voter".into(),
            release: "0.1.0".into(),
            load: Some(Load { age_ms: 1000, load_percent: 52, cpus: 4, ..Load::default() }),
            ..Node::default()
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out() {
        let wanted = "\
NODE  HOSTNAME  ADDRESS         STATE   ROLE   VERSION  LOAD            SEEN       WHY
1*    node1     10.91.1.1:7600  online  voter  0.1.0    0.52/4 (1.0 s)  0.2 s ago
";
        assert_eq!(render(&[&node("node1")], 1), wanted);
        let long = node(&"n".repeat(30));
        let heading = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let line = heading(render(&[&long], 2));
        assert!(!line.contains("LOAD") && line.contains("VERSION"), "{line}");
        let longer = node(&"n".repeat(200));
        assert_eq!(
            heading(render(&[&longer], 2)).split_whitespace().collect::<Vec<_>>(),
            ["NODE", "HOSTNAME", "ADDRESS", "STATE", "SEEN", "WHY"]
        );
    }
}
