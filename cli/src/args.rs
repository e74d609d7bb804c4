//! The command line of `krg`.

/// Examples, and the exit codes that most commands have.
macro_rules! examples {
    ($text:literal) => {
        concat!(
            $text,
            "\nExit codes:\n  0  done\n  1  it failed: the reason is on standard error\n",
            "  2  the command line is wrong\n"
        )
    };
}

pub mod cluster;
pub mod config;
pub mod nodes;
pub mod value;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Makes a handful of Linux machines look like one.
#[derive(Parser)]
#[command(name = "krg", version, after_help = EXAMPLES, subcommand_required = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  krg ps --simulate 3          a first look: needs no root, no daemon
  sudo krg lab start           three nodes on this machine
  sudo krg lab exec 1 -- krg ps aux
  krg ps -eo pid,psr,user,args     ps on the whole cluster
  krg exec -- top                  any command on the whole cluster
  krg nodes status
  krg cluster status
  krg doctor
";

/// Every command.
#[derive(Subcommand)]
pub enum Command {
    /// ps on the whole cluster (without options: ps aux)
    #[command(disable_help_flag = true, after_help = PS_EXAMPLES)]
    Ps(PsArgs),
    /// Run any command with the cluster's /proc on /proc
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Send a signal to processes of any node
    #[command(after_help = KILL_EXAMPLES)]
    Kill(KillArgs),
    /// Print the node on which a process runs
    #[command(after_help = WHERE_EXAMPLES)]
    Where(WhereArgs),
    /// The nodes of the cluster
    #[command(after_help = NODES_EXAMPLES)]
    Nodes(nodes::NodesArgs),
    /// The cluster as a whole
    Cluster {
        /// What about it.
        #[command(subcommand)]
        command: cluster::ClusterCommand,
    },
    /// Make this machine a member of a cluster
    Join(cluster::JoinArgs),
    /// End this machine's membership
    Leave(cluster::LeaveArgs),
    /// The configuration that all nodes share
    Config {
        /// What about it.
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Backups of what the nodes have agreed on
    Meta {
        /// What about them.
        #[command(subcommand)]
        command: config::MetaCommand,
    },
    /// Print krgd's metrics in the Prometheus text format
    #[command(after_help = METRICS_EXAMPLES)]
    Metrics,
    /// A whole cluster on this machine, to learn and to test (krg lab --help)
    #[command(disable_help_flag = true, disable_help_subcommand = true)]
    Lab(Rest),
    /// What this machine lacks, and the command that mends it
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the old names of these commands, one a line
    #[command(hide = true)]
    Names,
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// Where.
        dir: PathBuf,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

const NODES_EXAMPLES: &str = "\
Examples:
  krg nodes
  krg nodes status -n 2,4-6
  sudo krg nodes add --all
";

const KILL_EXAMPLES: &str = "\
Examples:
  krg kill 8388613
  krg kill -9 8388613 12582917
  krg kill -s HUP 8388613

The numbers are those that krg ps shows; one below 4194304 is a process of this machine. The kernel
of the process's node decides whether you may, as for kill(1) there.

Exit codes:
  0  sent to all of them
  1  not to some: the reasons are on standard error
  2  the command line is wrong
";

const WHERE_EXAMPLES: &str = "\
Examples:
  krg where 8388613
  krg where --json 8388613

Exit codes:
  0  printed
  1  there is no such process, or its node does not answer
  2  the command line is wrong
";

const METRICS_EXAMPLES: &str = examples!(
    "\
Examples:
  krg metrics
  krg metrics > /var/lib/node_exporter/krg.prom.$$
"
);

const PS_EXAMPLES: &str = "\
Examples:
  krg ps aux
  krg ps -eo pid,ppid,psr,user,args --sort=-pcpu
  krg ps axf
  krg ps --simulate 3
";

const EXEC_EXAMPLES: &str = "\
Examples:
  krg exec -- top
  krg exec -- pstree -p
  krg exec -- sh -c 'free -h; uptime; nproc --all'

The command runs on this machine, in a mount namespace of its own: only what it sees under
/proc and /sys/devices/system/cpu is the cluster's. Its exit code is passed on.
";

/// `krg ps`.
#[derive(Args)]
pub struct PsArgs {
    /// Options and arguments of ps(1); or `--simulate N`: the processes of N simulated nodes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS-OPTIONS")]
    pub rest: Vec<OsString>,
}

/// `krg exec`.
#[derive(Args)]
pub struct ExecArgs {
    /// Where the cluster's /proc is mounted [default: where krgd says]
    #[arg(long, value_name = "DIR")]
    pub view: Option<PathBuf>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// Arguments that another program reads.
#[derive(Args)]
pub struct Rest {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Of `krg kill`.
#[derive(Args)]
pub struct KillArgs {
    /// The signal, by name or number [default: TERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Print the names of the signals
    #[arg(short, long)]
    pub list: bool,
    /// Processes; the first word may be a signal, as in -9
    #[arg(value_name = "PID", allow_hyphen_values = true, required_unless_present = "list")]
    pub words: Vec<String>,
}

/// Of `krg where`.
#[derive(Args)]
pub struct WhereArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The process
    #[arg(value_name = "PID")]
    pub pid: String,
}
