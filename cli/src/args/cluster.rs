//! The command line of `krg cluster`, `krg join` and `krg leave`.

use super::value;
use clap::{Args, Subcommand};
use krg_types::NodeId;

const STATUS_EXAMPLES: &str = "\
Examples:
  krg cluster status
  krg cluster status --json | jq .replicas

`stale` in the first line: no leader is known, nothing can be agreed now, and what is read may
be behind what others have acknowledged.

Exit codes:
  0  krgd answered, whatever the state
  1  it did not
";
const INIT_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg cluster init --name attic
  sudo krg cluster init --name attic --nodes-min 3
"
);
const POWEROFF_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg cluster poweroff
  sudo krg cluster poweroff --reboot
"
);
const ROTATE_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg cluster rotate-ca
  sudo krg cluster rotate-ca --force      also if a node does not answer

Every node gets a certificate from a new authority; then the old one is trusted no more.
Ctrl-C ends the display, not the rotation.
"
);
const RECOVER_EXAMPLES: &str = "\
Examples:
  krg cluster recover             says what it would do
  sudo krg cluster recover --force

Exit codes:
  0  done
  1  it failed: the reason is on standard error
  2  --force is missing: nothing was done
";
const TOKEN_CREATE_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg cluster token create
  sudo krg cluster token create --valid 15m --note 'the new machine'
  TOKENS=$(sudo krg cluster token create --count 3)

Only tokens are on standard output, one a line. Each admits one node.
"
);
const TOKEN_EXAMPLES: &str = "\
Examples:
  sudo krg cluster token create
  sudo krg cluster token list
  sudo krg cluster token revoke ID
";
const JOIN_EXAMPLES: &str = "\
Examples:
  sudo krg join 192.0.2.1 --token -           the token comes on standard input
  sudo KRG_TOKEN=... krg join node1:7600
  sudo krg join '[2001:db8::1]:7600' --token TOKEN --node 5

On a member, `sudo krg cluster token create` prints a token. What is written after --token is
seen by every user in the process list.

Exit codes:
  0  this machine is a member
  1  it failed: the reason is on standard error
  2  the command line is wrong
";
const LEAVE_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg leave
  sudo krg leave --force      also if the others do not answer: they must be told then
                              (krg nodes del)
"
);

/// `krg cluster`.
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// What the nodes have agreed on, and whether they can
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make or name the cluster that this node is the first of
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Stop all nodes of the cluster
    #[command(after_help = POWEROFF_EXAMPLES)]
    Poweroff {
        /// Start them again
        #[arg(long)]
        reboot: bool,
    },
    /// Replace the certificate authority
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateCa {
        /// Take out nodes that do not answer: they will have to join again
        #[arg(long)]
        force: bool,
    },
    /// Go on alone after most voters were lost for good
    #[command(after_help = RECOVER_EXAMPLES)]
    Recover {
        /// Do it
        #[arg(long)]
        force: bool,
    },
    /// What a machine needs to join
    #[command(after_help = TOKEN_EXAMPLES)]
    Token {
        /// What about them.
        #[command(subcommand)]
        command: TokenCommand,
    },
}

/// `krg cluster init`.
#[derive(Args)]
pub struct InitArgs {
    /// The cluster's name
    #[arg(long, value_parser = value::cluster_name)]
    pub name: Option<String>,
    /// Kerrighed's number of it, 1 to 9999
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub session: Option<u32>,
    /// This node's number, 1 to 255
    #[arg(long, value_name = "ID")]
    pub node: Option<NodeId>,
    /// The cluster starts when so many nodes are there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub nodes_min: Option<u32>,
}

/// `krg cluster token`.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make tokens
    #[command(after_help = TOKEN_CREATE_EXAMPLES)]
    Create {
        /// For how long: 90s, 15m, 24h, 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = value::token_ms)]
        valid: u64,
        /// How many, 1 to 255
        #[arg(long, value_name = "N", default_value = "1")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=255))]
        count: u32,
        /// Words to know it by in the list
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = value::note)]
        note: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the tokens there are (not their secrets)
    #[command(after_help = examples!("Examples:\n  sudo krg cluster token list\n"))]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a token useless
    #[command(after_help = examples!("Examples:\n  sudo krg cluster token revoke ID\n"))]
    Revoke {
        /// As in the list
        #[arg(value_parser = value::token_id)]
        id: String,
    },
}

/// `krg join`.
#[derive(Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub struct JoinArgs {
    /// A member: HOST, HOST:PORT or [IPV6]:PORT; without a port 7600
    #[arg(value_parser = value::address)]
    pub address: String,
    /// What `krg cluster token create` printed; `-`: read it from standard input
    #[arg(long, env = "KRG_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The number wanted, 1 to 255 [default: the configured one, or any]
    #[arg(long, value_name = "ID")]
    pub node: Option<NodeId>,
    /// Leave another cluster for this one, even if this node has data of it
    #[arg(long)]
    pub force: bool,
}

/// `krg leave`.
#[derive(Args)]
#[command(after_help = LEAVE_EXAMPLES)]
pub struct LeaveArgs {
    /// Leave even if the others do not answer
    #[arg(long)]
    pub force: bool,
}
