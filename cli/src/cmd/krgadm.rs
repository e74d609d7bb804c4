//! `krgadm`: Kerrighed's command, its words and its output.

use super::nodes::chosen;
use crate::daemon;
use anyhow::Result;
use clap::{Parser, Subcommand};
use krg_rpc::proto::control::{Node, StatusReply};
use krg_types::{NodeSet, NodeState};
use std::ffi::OsString;

/// Administrates the cluster (Kerrighed's krgadm).
#[derive(Parser)]
#[command(name = "krgadm", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The cluster as a whole
    Cluster {
        #[command(subcommand)]
        command: Option<ClusterCommand>,
    },
    /// Its nodes
    #[command(args_conflicts_with_subcommands = true)]
    Nodes {
        #[command(subcommand)]
        command: Option<NodesCommand>,
        /// Only these nodes, such as 2,3,6-10
        #[arg(long, short, value_name = "LIST")]
        nodes: Option<NodeSet>,
    },
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Print how many nodes are up
    Status,
}

#[derive(Subcommand)]
enum NodesCommand {
    /// Print the state of each node
    Status {
        /// Only these nodes, such as 2,3,6-10
        #[arg(long, short, value_name = "LIST")]
        nodes: Option<NodeSet>,
    },
}

/// Runs it; returns the exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let cli = Cli::parse_from(argv);
    match cli.command {
        Command::Cluster { .. } => {
            let status = daemon::status();
            let code = u8::from(status.is_err());
            println!("{}", cluster_line(status.as_ref().ok()));
            Ok(code)
        }
        Command::Nodes { command, nodes } => {
            let set = match command {
                Some(NodesCommand::Status { nodes }) => nodes,
                None => nodes,
            };
            let status = daemon::status()?;
            print!("{}", node_lines(&chosen(&status.nodes, set.as_ref())?, set.is_some()));
            Ok(0)
        }
    }
}

fn cluster_line(status: Option<&StatusReply>) -> String {
    match status {
        Some(status) => {
            let online = |n: &&Node| n.state == NodeState::Online.word();
            format!("status: up on {} nodes", status.nodes.iter().filter(online).count())
        }
        None => "status: down".to_owned(),
    }
}

/// `ID:STATE` a line; without a list, only nodes that are at least present.
fn node_lines(nodes: &[&Node], listed: bool) -> String {
    let shown = nodes.iter().filter(|n| listed || n.state != NodeState::Possible.word());
    shown.map(|n| format!("{}:{}\n", n.id, n.state)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_old_format() {
        let node = |id, state: &str| Node { id, state: state.into(), ..Node::default() };
        let nodes = [node(1, "online"), node(2, "present"), node(3, "possible")];
        let all: Vec<&Node> = nodes.iter().collect();
        assert_eq!(node_lines(&all, false), "1:online\n2:present\n");
        assert_eq!(node_lines(&all, true), "1:online\n2:present\n3:possible\n");
        let status = StatusReply { nodes: nodes.to_vec(), ..StatusReply::default() };
        assert_eq!(cluster_line(Some(&status)), "status: up on 1 nodes");
        assert_eq!(cluster_line(None), "status: down");
    }
}
