//! The command line of `krg nodes`, and the options that `krgadm nodes` shares with it.

use super::value;
use clap::{Args, Subcommand};
use krg_types::NodeSet;

/// What Kerrighed said to more than one of the options that tell which nodes are meant.
pub const ONE_ONLY: &str =
    "Only one of --all, --count, --total or --nodes option is supported. Aborting.";

const STATUS_EXAMPLES: &str =
    examples!("Examples:\n  krg nodes status\n  krg nodes status -n 2,4-6 --json\n");
const ADD_EXAMPLES: &str = "\
Examples:
  sudo krg nodes add --all              all that are present
  sudo krg nodes add -n 2,4-6           waits for these, then adds them
  sudo krg nodes add --total 4 --timeout 60s

A node that has joined is `present`; adding makes it `online`. Ctrl-C ends the waiting.

Exit codes:
  0  done, or there was nothing to do
  1  it failed: the reason is on standard output
  2  the command line is wrong
";
const DEL_EXAMPLES: &str = "\
Examples:
  sudo krg nodes del -n 3
  sudo krg nodes del -n 3 --force       node 3 was lost for good
  sudo krg nodes del --total 2          so many stay

The current node is never removed: `sudo krg leave` does that.

Exit codes:
  0  done, or there was nothing to do
  1  it failed, or a node of the list was not removed
  2  the command line is wrong
";

/// `krg nodes`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodesArgs {
    /// What about them.
    #[command(subcommand)]
    pub command: Option<NodesCommand>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub status: StatusArgs,
}

/// `krg nodes status`, and `krg nodes` alone.
#[derive(Args)]
pub struct StatusArgs {
    /// Only these nodes, such as 2,3,6-10
    #[arg(long, short, value_name = "LIST")]
    pub nodes: Option<NodeSet>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What about the nodes.
#[derive(Subcommand)]
pub enum NodesCommand {
    /// Who is there
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Let nodes that are present take part
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        #[command(flatten)]
        #[allow(missing_docs)]
        which: WhichArgs,
        /// Wait no longer: 90s, 15m, 24h, 7d [default: until Ctrl-C]
        #[arg(long, value_name = "TIME", value_parser = value::timeout_ms)]
        timeout: Option<u32>,
    },
    /// End the membership of nodes
    #[command(after_help = DEL_EXAMPLES)]
    Del {
        #[command(flatten)]
        #[allow(missing_docs)]
        which: WhichArgs,
        /// Also those of --nodes that do not answer
        #[arg(long, requires = "nodes")]
        force: bool,
    },
}

/// Exactly one of these tells which nodes are meant.
#[derive(Args, Clone, Default)]
pub struct WhichArgs {
    /// These, such as 2,3,6-10
    #[arg(long, short, value_name = "LIST")]
    pub nodes: Option<NodeSet>,
    /// So many
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub count: Option<u32>,
    /// As many as make a cluster of so many
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub total: Option<u32>,
    /// All of them
    #[arg(long, short)]
    pub all: bool,
}

/// Which nodes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    List(NodeSet),
    /// So many.
    Count(u32),
    /// As many as make a cluster of so many.
    Total(u32),
    /// All.
    All,
}

impl WhichArgs {
    /// The one that was given.
    ///
    /// # Errors
    /// Words for the user if it was none, or more than one.
    pub fn which(self) -> Result<Which, &'static str> {
        match (self.nodes, self.count, self.total, self.all) {
            (Some(set), None, None, false) => Ok(Which::List(set)),
            (None, Some(n), None, false) => Ok(Which::Count(n)),
            (None, None, Some(n), false) => Ok(Which::Total(n)),
            (None, None, None, true) => Ok(Which::All),
            (None, None, None, false) => {
                Err("One of --all, --count, --total or --nodes option is needed. Aborting.")
            }
            _ => Err(ONE_ONLY),
        }
    }
}
