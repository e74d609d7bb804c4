//! The command line of `krg`.

/// The exit codes that most commands have.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0  done
  1  it failed: the reason is on standard error
  2  the command line is wrong
"
    };
}
pub(crate) use exit_codes;

/// Examples, and those.
macro_rules! examples {
    ($text:literal) => {
        concat!($text, "\n", exit_codes!())
    };
}

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod nodes;
pub mod top;
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
    /// ps on the whole cluster (without options: ps aux, with the column NODE)
    #[command(disable_help_flag = true, after_help = PS_EXAMPLES)]
    Ps(PsArgs),
    /// The processes of all nodes, live (mtop)
    #[command(after_help = top::TOP_EXAMPLES)]
    Top(top::TopArgs),
    /// Run any command with the cluster's /proc on /proc
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Start a program as a job
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// A demonstration: a counter in this terminal that goes from node to node
    #[command(after_help = HOP_EXAMPLES)]
    Hop(HopArgs),
    /// The jobs of the cluster
    #[command(after_help = JOBS_EXAMPLES)]
    Jobs(JobsArgs),
    /// Connect this terminal with a job of this node
    Attach(JobArgs),
    /// Print what a job of this node has written last
    Logs(JobArgs),
    /// Move a job to another node while it runs
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(MigrateArgs),
    /// Save a job to disk while it runs
    #[command(after_help = checkpoint::CHECKPOINT_EXAMPLES)]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Begin a saved job again
    #[command(after_help = checkpoint::RESTART_EXAMPLES)]
    Restart(checkpoint::RestartArgs),
    /// What is saved of jobs
    #[command(after_help = checkpoint::CHECKPOINTS_EXAMPLES)]
    Checkpoints(checkpoint::CheckpointsArgs),
    /// Show and change what a process may do and have done to it
    #[command(after_help = CAPSET_EXAMPLES)]
    Capset(CapsetArgs),
    /// Send a signal to processes of any node
    #[command(after_help = KILL_EXAMPLES)]
    Kill(KillArgs),
    /// Set the nice value of processes of any node
    #[command(after_help = top::RENICE_EXAMPLES)]
    Renice(top::ReniceArgs),
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

const RUN_EXAMPLES: &str = "\
Examples:
  krg run -- ./simulate --steps 1000000
  krg run --background --name night -- make all
  krg run --cap -CAN_MIGRATE -- ./stays-here

The exit code is the program's; 128 and the signal's number if one ended it; 127 or 126 if it could
not be started.
";

const CAPSET_EXAMPLES: &str = "\
A SET is a number (octal after a 0) or names with commas between them; after a + they are added to
what there is, after a - taken from it. Its owner and root change what a process has, as long as it
has CHANGE_KERRIGHED_CAP; what it is not permitted any more it never is again.

Names: CHANGE_KERRIGHED_CAP, CAN_MIGRATE, DISTANT_FORK, CHECKPOINTABLE, USE_REMOTE_MEMORY,
SEE_LOCAL_PROC_STAT.

Examples:
  krg capset 32769
  krg capset 32769 --effective -CAN_MIGRATE
  krg capset -d +SEE_LOCAL_PROC_STAT     of what this shell starts from now on

Exit codes:
  0  done
  1  it failed, and nothing was changed: the reason is on standard error
  2  the command line is wrong
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

/// Of `krg ps`, which reads its command line itself.
pub const PS_EXAMPLES: &str = "\
A process's PID is node * 4194304 + its own pid; PSR is the cluster's cpu. Two columns are the
cluster's: node, and age, how old what is shown of that node is, in seconds.
  --json        all that is known of the selected processes, and the nodes that did not answer
  --simulate N  the processes of N simulated nodes

procps's common options are answered from what the view holds: -A -a -d -e -N -C -G -g -p -s -U -u
--ppid, a g r x U p, the formats -f -F -l -j -y -c -P -o -O u l j, -H f --forest, --sort, -w n and
the widths and headings. For all others ps itself runs on the view.

Examples:
  krg ps axf
  krg ps -eo pid,psr,user,args --sort=-pcpu
  krg ps -eo node,age,pid,comm
  krg ps --json -C sshd | jq '.[].node'
  krg ps --simulate 3

Exit codes:
  0  done
  1  nothing was selected, or it failed: the reason is on standard error
  3  a node did not answer: standard error names it and says what is shown of it
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

const HOP_EXAMPLES: &str = "\
Examples:
  krg hop
  krg run -- krg hop --inside      the same, step by step

Keys:
  1 to 9   to that node
  h        home
  Enter    to nodes at random, until a key is pressed
  q        end

Exit codes:
  0  it was ended by q
  1  it could not be started: the reason is on standard error
  2  the command line is wrong
";

/// Of `krg hop`.
#[derive(Args)]
pub struct HopArgs {
    /// Do not start a job: this is one
    #[arg(long)]
    pub inside: bool,
}

const JOBS_EXAMPLES: &str = "\
Examples:
  krg jobs
  krg jobs --json | jq '.jobs[] | select(.node != .home)'
";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  krg migrate 32769 3
  krg migrate 32769 home
  krg migrate --verbose 32769 2
  krg migrate --dry-run 32769 2    what is in the way, and how long it would take
  krg migrate self 2

`self` is the job that the command itself is of: that one moves when the command has ended.

Exit codes:
  0  it runs there now; with --dry-run: nothing is in the way
  1  it has not moved, and runs where it was: what was in the way is printed
  2  the command line is wrong
";

/// Of `krg jobs`.
#[derive(Args)]
pub struct JobsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of commands on one job.
#[derive(Args)]
pub struct JobArgs {
    /// Its number or its name
    #[arg(value_name = "JOB")]
    pub job: String,
}

/// Of `krg migrate`.
#[derive(Args)]
pub struct MigrateArgs {
    /// Move nothing: print what is in the way, or how long it would stand still
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print how long each phase took
    #[arg(short, long)]
    pub verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A process of the job, the job's number, or `self`
    #[arg(value_name = "PID")]
    pub pid: String,
    /// A node's number, or `home`
    #[arg(value_name = "NODE")]
    pub node: String,
}

/// Of `krg capset`.
#[derive(Args)]
pub struct CapsetArgs {
    /// A process of any node, or a job, by its number or its name [default: the one that calls]
    #[arg(value_name = "PID")]
    pub process: Option<String>,
    /// What it has
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    pub effective: Option<String>,
    /// What it may have
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    pub permitted: Option<String>,
    /// What its children have
    #[arg(short = 'd', long, value_name = "SET", allow_hyphen_values = true)]
    pub inheritable_effective: Option<String>,
    /// What its children may have
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    pub inheritable_permitted: Option<String>,
    /// Do not ask before the capability to change capabilities is dropped
    #[arg(short, long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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

/// Of `krg run`.
#[derive(Args)]
pub struct RunArgs {
    /// What it is called [default: after its program]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What it may do and have done to it, and its children (krg capset --help)
    #[arg(long, value_name = "SET", allow_hyphen_values = true)]
    pub cap: Option<String>,
    /// Do not wait for it; it goes on without a terminal
    #[arg(short, long)]
    pub background: bool,
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}
