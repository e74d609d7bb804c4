//! `krgadm`: Kerrighed's command, its words and its output.

use super::{cluster, nodes};
use crate::args::nodes::WhichArgs;
use crate::daemon::{self, STATUS_MAX};
use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use krg_rpc::proto::control::{Node, StatusReply, StatusRequest};
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::{NodeSet, NodeState};
use std::ffi::OsString;
use std::io::Write;

/// Administrates the cluster (Kerrighed's krgadm).
#[derive(Parser)]
#[command(name = "krgadm", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  krgadm cluster status
  krgadm nodes status
  krgadm nodes add --total 4
  krgadm nodes del -n 2,3

Exit codes:
  0  done
  1  it failed, or krgd does not run
  2  the command line is wrong
";

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
    /// Stop all nodes of the cluster
    Poweroff,
    /// Stop all nodes of the cluster and start them again
    Reboot,
}

#[derive(Subcommand)]
enum NodesCommand {
    /// Print the state of each node
    Status {
        /// Only these nodes, such as 2,3,6-10
        #[arg(long, short, value_name = "LIST")]
        nodes: Option<NodeSet>,
    },
    /// Add nodes to the running cluster
    Add(WhichArgs),
    /// Remove nodes from the running cluster
    Del(WhichArgs),
}

/// The description that its man page is made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs it; returns the exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let ran = match Cli::parse_from(argv).command {
        Command::Cluster { command } => match command {
            None | Some(ClusterCommand::Status) => cluster_status(),
            Some(ClusterCommand::Poweroff) => stop("Shutting down cluster... ", false),
            Some(ClusterCommand::Reboot) => stop("Rebooting cluster... ", true),
        },
        Command::Nodes { command, nodes } => match command {
            None => nodes_status(nodes),
            Some(NodesCommand::Status { nodes }) => nodes_status(nodes),
            Some(NodesCommand::Add(which)) => change(which, true),
            Some(NodesCommand::Del(which)) => change(which, false),
        },
    };
    match ran {
        Err(e) if daemon::is_absent(&e) => {
            eprintln!("Kerrighed is not running: {e:#}");
            Ok(1)
        }
        ran => ran,
    }
}

/// Who is there, if the cluster has started.
fn started() -> Result<Option<StatusReply>> {
    let status = daemon::status()?;
    let question = StatusRequest { version: PROTOCOL_VERSION };
    let cluster = daemon::ask(STATUS_MAX, async |mut krgd| krgd.cluster_status(question).await);
    // A krgd that cannot tell is not one that waits.
    Ok((!cluster.is_ok_and(|cluster| cluster.waiting)).then_some(status))
}

fn cluster_status() -> Result<u8> {
    let status = started();
    println!("{}", cluster_line(status.as_ref().ok().and_then(Option::as_ref)));
    status.map(|_| 0)
}

fn stop(words: &str, reboot: bool) -> Result<u8> {
    print!("{words}");
    std::io::stdout().flush()?;
    let done = match started() {
        Err(e) if daemon::is_absent(&e) => Err("cluster not running".to_owned()),
        Ok(None) => Err("cluster not running".to_owned()),
        Err(e) => Err(format!("{e:#}")),
        Ok(Some(_)) => cluster::poweroff(reboot).map(drop).map_err(|e| format!("{e:#}")),
    };
    match &done {
        Ok(()) => println!("done"),
        Err(why) => println!("fail ({why})"),
    }
    Ok(u8::from(done.is_err()))
}

fn nodes_status(set: Option<NodeSet>) -> Result<u8> {
    let status = daemon::status()?;
    print!("{}", node_lines(&nodes::chosen(&status.nodes, set.as_ref())?, set.is_some()));
    Ok(0)
}

fn change(which: WhichArgs, add: bool) -> Result<u8> {
    let which = match which.which() {
        Ok(which) => which,
        Err(words) => {
            println!("{words}");
            return Ok(1);
        }
    };
    if add { nodes::add(which, None) } else { Ok(u8::from(nodes::del(which, false)?.failed)) }
}

fn cluster_line(status: Option<&StatusReply>) -> String {
    let online = |n: &&Node| n.state == NodeState::Online.word();
    match status.map_or(0, |status| status.nodes.iter().filter(online).count()) {
        0 => "status: down".to_owned(),
        online => format!("status: up on {online} nodes"),
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
