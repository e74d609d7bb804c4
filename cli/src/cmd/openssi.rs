//! OpenSSI's commands that tell about nodes: `clusternode_num`, `clusternode_getstate`,
//! `clustername`.

use crate::daemon;
use anyhow::{Result, bail};
use clap::{CommandFactory, Parser};
use krg_types::NodeId;
use std::ffi::OsString;

const EXIT_CODES: &str = "\
Exit codes:
  0  printed
  1  krgd does not run, or cannot tell
  2  the command line is wrong
";

/// Prints this node's number (OpenSSI).
#[derive(Parser)]
#[command(name = "clusternode_num", version, after_help = EXIT_CODES)]
struct Num;

/// Prints a node's state (OpenSSI): NEVERUP, COMINGUP, UP, SHUTDOWN, GOINGDOWN, KCLEANUP,
/// UCLEANUP or DOWN.
#[derive(Parser)]
#[command(name = "clusternode_getstate", version, after_help = EXIT_CODES)]
struct GetState {
    /// The node's number
    #[arg(value_name = "N")]
    node: NodeId,
}

/// Prints the cluster's name (OpenSSI).
#[derive(Parser)]
#[command(name = "clustername", version, after_help = EXIT_CODES)]
struct Name;

/// The descriptions that their man pages are made from.
pub fn commands() -> [clap::Command; 3] {
    [Num::command(), GetState::command(), Name::command()]
}

/// `clusternode_num`.
pub fn num(argv: Vec<OsString>) -> Result<u8> {
    Num::parse_from(argv);
    println!("{}", daemon::status()?.node);
    Ok(0)
}

/// `clusternode_getstate`.
pub fn get_state(argv: Vec<OsString>) -> Result<u8> {
    let id = GetState::parse_from(argv).node;
    let status = daemon::status()?;
    let Some(node) = status.nodes.iter().find(|n| n.id == id.get()) else {
        bail!("there is no node {id}");
    };
    if node.ssi_state.is_empty() {
        bail!("krgd does not tell the state of node {id}");
    }
    println!("{}", node.ssi_state);
    Ok(0)
}

/// `clustername`.
pub fn name(argv: Vec<OsString>) -> Result<u8> {
    Name::parse_from(argv);
    let cluster = daemon::status()?.cluster;
    if cluster.is_empty() {
        bail!("the cluster has no name (give it one: krg cluster init --name NAME)");
    }
    println!("{cluster}");
    Ok(0)
}
