//! `mosctl`: what MOSIX's command says about nodes, whom it lets at their files, and whose jobs.

use super::{config, nodemap, setpe};
use crate::daemon;
use anyhow::{Result, anyhow, bail};
use clap::{CommandFactory, Parser, Subcommand};
use krg_rpc::proto::control::{Node, StatusReply};
use krg_types::{NodeId, NodeState};
use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs};

/// Tells about nodes, and lets others at this node's files or not (MOSIX's mosctl).
#[derive(Parser)]
#[command(name = "mosctl", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mosctl whois                This is MOSIX #1
  mosctl whois 10.0.0.32
  mosctl isup 3
  sudo mosctl nomfs           the other nodes have nothing of /mfs/1 from now on
  sudo mosctl mfs             and have it again
  krg config list mfs/        how it stands: mfs/1/off
  sudo mosctl block           no jobs of other nodes come here from now on; those here stay
  sudo mosctl noblock         and may come again
  krg config list guests/     how it stands: guests/1/off

Exit codes:
  0  printed (isup: also `no`), or done
  1  it failed: the reason is on standard error
  2  the command line is wrong
";

#[derive(Subcommand)]
enum Command {
    /// Print the number of a node
    Whois {
        /// Its number, address or host name [default: this node]
        #[arg(value_name = "ID|IP|HOST")]
        who: Option<String>,
    },
    /// Print yes or no: is the node up?
    Isup {
        /// Its number [default: this node]
        id: Option<NodeId>,
    },
    /// Give other nodes this node's files (sets mfs/ID/off to false)
    Mfs,
    /// Give other nodes none of this node's files (sets mfs/ID/off to true)
    Nomfs,
    /// Let no jobs of other nodes come here (sets guests/ID/off to true)
    Block,
    /// Let them come again (sets guests/ID/off to false)
    Noblock,
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

/// The description that its man page is made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs it; returns the exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    match Cli::parse_from(argv).command {
        Command::Whois { who } => {
            let status = daemon::status()?;
            let id = match who {
                None => status.node,
                Some(who) => whois(&status, &who)?.get(),
            };
            println!("This is MOSIX #{id}");
            Ok(0)
        }
        Command::Isup { id } => {
            let status = daemon::status()?;
            let id = id.map_or(status.node, NodeId::get);
            let up = |n: &Node| n.id == id && n.state == NodeState::Online.word();
            println!("{}", if status.nodes.iter().any(up) { "yes" } else { "no" });
            Ok(0)
        }
        Command::Mfs => refuse("mfs", false),
        Command::Nomfs => refuse("mfs", true),
        Command::Block => refuse("guests", true),
        Command::Noblock => refuse("guests", false),
        Command::Unknown(words) => {
            let word = words.first().map(|w| w.to_string_lossy()).unwrap_or_default();
            eprintln!("mosctl: there is no `{word}` here; there are:");
            eprintln!("  mosctl whois [ID|IP|HOST]\n  mosctl isup [ID]");
            eprintln!("  mosctl mfs\n  mosctl nomfs\n  mosctl block\n  mosctl noblock");
            Ok(2)
        }
    }
}

/// Both words are set, none is deleted: whatever is agreed for all nodes, this one does as told.
fn refuse(what: &str, off: bool) -> Result<u8> {
    let key = format!("{what}/{}/off", daemon::status()?.node);
    config::put(key, Some(off.to_string()), None)?;
    Ok(0)
}

fn whois(status: &StatusReply, who: &str) -> Result<NodeId> {
    if who.bytes().all(|b| b.is_ascii_digit()) {
        let id: NodeId = who.parse()?;
        let known = status.nodes.iter().any(|n| n.id == id.get());
        return if known { Ok(id) } else { Err(anyhow!("there is no node {id}")) };
    }
    let named = |who: &str| {
        let node = status.nodes.iter().find(|n| is_called(n, who));
        node.and_then(|n| NodeId::new(n.id))
    };
    if let Some(id) = named(who) {
        return Ok(id);
    }
    // The map knows of nodes that were never seen; without an answer it knows of none.
    let map = setpe::entries().unwrap_or_default();
    let mut names = vec![who.to_owned()];
    if who.parse::<IpAddr>().is_err() {
        let found = (who, 0).to_socket_addrs().into_iter().flatten();
        names.extend(found.map(|address| address.ip().to_string()));
    }
    let found = names.iter().find_map(|n| named(n).or_else(|| nodemap::number_of(&map, n)));
    match found {
        Some(id) => Ok(id),
        None => bail!("{who}: no node has this name or address"),
    }
}

/// Is this the node's host name, or its address, with or without its port?
fn is_called(node: &Node, who: &str) -> bool {
    let host = node.address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let same = match (host.parse::<IpAddr>(), who.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => host.eq_ignore_ascii_case(who),
    };
    !who.is_empty() && (node.address == who || same || node.hostname.eq_ignore_ascii_case(who))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_goes_by_its_name_and_address() {
        let node = |address: &str| Node {
            address: address.into(),
            hostname: "attic".into(),
            ..Node::default()
        };
        let v4 = node("10.0.0.1:7600");
        for who in ["10.0.0.1", "10.0.0.1:7600", "attic", "Attic"] {
            assert!(is_called(&v4, who), "{who}");
        }
        assert!(is_called(&node("[2001:db8::1]:7600"), "2001:db8:0::1"));
        assert!(is_called(&node("cellar:7600"), "cellar"));
        for who in ["", "10.0.0.2", "10.0.0.1:", "att"] {
            assert!(!is_called(&v4, who), "{who}");
        }
    }
}
