//! The command line.

use crate::name::LabName;
use crate::rate::{Bound, rate_or_none};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;

/// A whole cluster on this machine: nodes with processes, files, network and clocks of their own.
#[derive(Parser, Debug)]
#[command(
    name = "krg-lab",
    bin_name = "krg lab",
    version,
    after_help = "\
Examples:
  krg lab start            three nodes: node1, node2, node3
  krg lab exec 2 -- ps ax  a command on node 2
  krg lab kill 3           node 3 loses power
  krg lab heal 3           and is switched on again
  krg lab add              node 4 joins the others
  krg lab stop             nothing is left"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a lab and wait until all its nodes see each other
    Start(StartArgs),
    /// End a lab, in whatever state it is
    #[command(after_help = "\
Examples:
  krg lab stop
  krg lab stop --name two
  krg lab stop --all")]
    Stop(StopArgs),
    /// Show the nodes of a lab
    #[command(after_help = "\
Examples:
  krg lab status
  krg lab status --json | jq '.nodes[].state'")]
    Status {
        #[command(flatten)]
        lab: LabArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all labs of this machine
    #[command(after_help = "Example:\n  krg lab list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a node; its exit code is the command's
    #[command(after_help = "\
Examples:
  krg lab exec 2 -- hostname
  krg lab exec node1 -- sh -c 'echo $HOME; exit 3'
  krg lab exec --all -- uptime")]
    Exec(ExecArgs),
    /// Open a shell in a node, on a terminal of its own
    #[command(after_help = "Example:\n  krg lab shell 2")]
    Shell(NodeArg),
    /// Switch a node off: all its processes end at once
    #[command(after_help = "Example:\n  krg lab kill 3")]
    Kill(NodeArg),
    /// Stop every process of a node where it is
    #[command(after_help = "Example:\n  krg lab pause 3")]
    Pause(NodeArg),
    /// Let a paused node go on
    #[command(after_help = "Example:\n  krg lab resume 3")]
    Resume(NodeArg),
    /// Pull a node's network cable
    #[command(after_help = "Example:\n  krg lab cut 3")]
    Cut(NodeArg),
    /// Let a node's link carry only so much, either way
    #[command(after_help = "\
Examples:
  krg lab slow 3 --rate 1mbit
  krg lab slow 3 --rate 64kbit
  krg lab slow 3 --rate none     as fast as it can again (so does krg lab heal 3)")]
    Slow {
        #[command(flatten)]
        node: NodeArg,
        /// Bits per second, with a unit (bit, kbit, mbit, gbit), or `none`
        #[arg(long, value_parser = rate_or_none)]
        rate: Bound,
    },
    /// Fill a node's disk (/var/lib/krg) to the last block
    #[command(after_help = "\
Examples:
  krg lab fill 3
  krg lab fill 3 --undo          empty again (so does krg lab heal 3)")]
    Fill {
        #[command(flatten)]
        node: NodeArg,
        /// Empty it again
        #[arg(long)]
        undo: bool,
    },
    /// Cut a node's power: its disk (/var/lib/krg) keeps what had been synced to it
    ///
    /// Unlike after `kill`, what was written and not synced is lost, as far as the kernel had not
    /// written it by itself. The node stays down; `krg lab heal` starts it on that disk.
    #[command(after_help = "\
Examples:
  krg lab powercut 3
  krg lab powercut --all         every node, at the same moment
  krg lab heal 3")]
    Powercut {
        #[command(flatten)]
        lab: LabArg,
        /// Every node that is up
        #[arg(long, conflicts_with = "node")]
        all: bool,
        /// The node: `2` or `node2`
        #[arg(required_unless_present = "all")]
        node: Option<String>,
    },
    /// Start further nodes and let them join the cluster; prints their numbers
    #[command(after_help = "\
Examples:
  krg lab add
  krg lab add --count 2
  krg lab add --json | jq '.added[]'")]
    Add {
        #[command(flatten)]
        lab: LabArg,
        /// How many
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Return when the nodes run; they join by themselves
        #[arg(long)]
        no_wait: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a node out of the cluster and end it; its number is free again
    #[command(after_help = "\
Examples:
  krg lab remove 3
  krg lab remove 3 && krg lab add     node 3 again, with an empty disk")]
    Remove(NodeArg),
    /// Undo every fault of a node and wait until its krgd is ready
    ///
    /// A dead node is switched on again and finds its files as they were.
    #[command(after_help = "Examples:\n  krg lab heal 3\n  krg lab heal --no-wait node3")]
    Heal {
        #[command(flatten)]
        node: NodeArg,
        /// Do not wait for krgd
        #[arg(long)]
        no_wait: bool,
    },
    #[command(hide = true)]
    Keeper {
        #[command(flatten)]
        lab: LabArg,
        #[arg(long)]
        no_wait: bool,
    },
    #[command(hide = true)]
    Boot(PartArgs),
    #[command(hide = true)]
    Init(PartArgs),
}

/// Which lab.
#[derive(Args, Debug)]
pub struct LabArg {
    /// The lab's name
    #[arg(long, default_value = "lab")]
    pub name: LabName,
}

/// Which node of which lab.
#[derive(Args, Debug)]
pub struct NodeArg {
    #[command(flatten)]
    pub lab: LabArg,
    /// The node: `2` or `node2`
    pub node: String,
}

/// How a lab's own processes are called.
#[derive(Args, Debug)]
pub struct PartArgs {
    #[command(flatten)]
    pub lab: LabArg,
    #[arg(long)]
    pub node: u32,
}

/// How a lab is to be.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  krg lab start
  krg lab start 5 --link 2
  krg lab start 2 --name two --node-env RUST_LOG=debug
  ssi-start 3")]
pub struct StartArgs {
    /// How many nodes, up to 64
    #[arg(default_value_t = 3)]
    pub nodes: u32,
    /// The lab's name
    #[arg(long, default_value = "lab")]
    pub name: LabName,
    /// Links: one for all nodes, or two that route to each other, odd and even nodes apart
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub link: u32,
    /// Put this into krgd's environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub node_env: Vec<(String, String)>,
    /// Return when the nodes run; do not wait for krgd
    #[arg(long)]
    pub no_wait: bool,
    /// Print the lab as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which labs to end.
#[derive(Args, Debug)]
pub struct StopArgs {
    /// The lab's name
    #[arg(long, default_value = "lab", conflicts_with = "all")]
    pub name: LabName,
    /// End all labs of this machine
    #[arg(long)]
    pub all: bool,
}

/// What to run where.
#[derive(Args, Debug)]
pub struct ExecArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Run it on every node in turn, output after the node's name
    #[arg(long, conflicts_with = "node")]
    pub all: bool,
    /// The node: `2` or `node2`
    #[arg(required_unless_present = "all")]
    pub node: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// The arguments with the old names `ssi-start` and `ssi-stop` put into today's words.
pub fn modern(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().map(std::path::Path::new).and_then(|p| p.file_name());
    let word = match called.and_then(|n| n.to_str()) {
        Some("ssi-start") => "start",
        Some("ssi-stop") => "stop",
        _ => return args,
    };
    args.insert(1, word.into());
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        let args = modern(line.split(' ').map(OsString::from));
        Cli::try_parse_from(args).map(|c| c.command).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_names_are_commands() {
        assert!(matches!(parse("/usr/bin/ssi-start 4"), Ok(Command::Start(a)) if a.nodes == 4));
        assert!(matches!(parse("ssi-stop --all"), Ok(Command::Stop(a)) if a.all));
    }

    #[test]
    fn exec_takes_a_node_or_all() {
        let Ok(Command::Exec(a)) = parse("krg-lab exec 2 -- ls -l --all") else { panic!() };
        assert_eq!((a.node.as_deref(), a.all, a.command.len()), (Some("2"), false, 3));
        let Ok(Command::Exec(a)) = parse("krg-lab exec --all -- ls") else { panic!() };
        assert_eq!((a.node, a.all, a.command.len()), (None, true, 1));
        for bad in ["krg-lab exec 2", "krg-lab exec -- ls", "krg-lab exec --all 2 -- ls"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_take_what_they_need() {
        for good in ["slow 3 --rate 1mbit", "slow 3 --rate none", "fill 3 --undo", "remove node2"]
        {
            assert!(parse(&format!("krg-lab {good}")).is_ok(), "{good}");
        }
        for good in ["powercut 3", "powercut --all", "powercut --name x node1", "add --count 2"] {
            assert!(parse(&format!("krg-lab {good}")).is_ok(), "{good}");
        }
        for bad in ["slow 3", "slow 3 --rate fast", "powercut", "powercut --all 3", "fill"] {
            assert!(parse(&format!("krg-lab {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_checked() {
        for bad in ["--link 3", "--name a/b", "--node-env x", "--node-env =x", "three"] {
            assert!(parse(&format!("krg-lab start {bad}")).is_err(), "{bad}");
        }
        let Ok(Command::Start(a)) = parse("krg-lab start --node-env A=b=c") else { panic!() };
        assert_eq!(a.node_env, [("A".to_owned(), "b=c".to_owned())]);
    }
}
