//! `krg checkpoint`, `krg restart`, `krg checkpoints`.

use clap::Args;
use std::path::PathBuf;

/// Of `krg checkpoint`.
pub const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  krg checkpoint 32769 --description 'before the upgrade'
  krg checkpoint night --kill            end it once it is saved
  krg checkpoint night --files           with the files that it writes
  krg checkpoint night --freeze          it stands still, and uses no processor
  krg checkpoint night --unfreeze

A version is a directory below /var/chkpt on the node where the job was started. It is there whole,
or not at all; the job runs on while it is written.

Exit codes:
  0  done
  1  it is not saved, and runs as before: the reason is on standard error
  2  the command line is wrong
";

/// Of `krg restart`.
pub const RESTART_EXAMPLES: &str = "\
Examples:
  krg restart 32769                      the newest version, in the background
  krg restart 32769 2 --foreground       with this terminal, or these pipes
  krg restart 32769 --node 3             begin it on node 3
  krg restart 32769 --frozen             krg checkpoint JOB --unfreeze has it go on

Its files are those of the node where it was started, wherever it begins. Beside the job that was
saved, if that still runs, it is another one with another number.

Exit codes:
  0  it runs; in the foreground the program's code (as of krg run)
  1  it does not, and nothing was changed: the reason is on standard error
  2  the command line is wrong
";

/// Of `krg checkpoints`.
pub const CHECKPOINTS_EXAMPLES: &str = "\
Examples:
  krg checkpoints
  krg checkpoints 32769 --json
  krg checkpoints --remove 32769 1
";

/// Of `krg checkpoint`.
#[derive(Args)]
pub struct CheckpointArgs {
    /// Words that are kept with it
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// When it is saved, send this signal to all of its processes, before they do anything else
    #[arg(short, long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "TERM", conflicts_with_all = ["freeze", "unfreeze"])]
    pub kill: Option<String>,
    /// Do not save it: have it stand still
    #[arg(short, long, conflicts_with = "unfreeze")]
    pub freeze: bool,
    /// Do not save it: have it go on, after this signal if one is named
    #[arg(short, long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "0")]
    pub unfreeze: Option<String>,
    /// Save the files that it has open for writing too
    #[arg(long)]
    pub files: bool,
    /// Where, on the node where it was started: a directory of root's [default: /var/chkpt]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A process of the job, the job's number, or its name
    #[arg(value_name = "PID")]
    pub pid: String,
}

/// Of `krg restart`.
#[derive(Args)]
pub struct RestartArgs {
    /// Begin it on this node [default: where it was started]
    #[arg(long, value_name = "N")]
    pub node: Option<krg_types::NodeId>,
    /// It does not run before it is told to
    #[arg(short = 'U', long)]
    pub frozen: bool,
    /// Stay with it
    #[arg(short, long, conflicts_with = "background")]
    pub foreground: bool,
    /// Do not wait for it (this is what is done if nothing is said)
    #[arg(short, long)]
    pub background: bool,
    /// Put the files back that were saved with it
    #[arg(long)]
    pub files: bool,
    /// Where it is saved [default: /var/chkpt]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "foreground")]
    pub json: bool,
    /// The number of the job that was saved
    #[arg(value_name = "APP")]
    pub app: u32,
    /// Which version [default: the newest]
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
}

/// Of `krg checkpoints`.
#[derive(Args)]
pub struct CheckpointsArgs {
    /// Remove this version
    #[arg(long, value_names = ["APP", "VERSION"], num_args = 2, conflicts_with = "app")]
    pub remove: Option<Vec<u32>>,
    /// Where [default: /var/chkpt]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only of this job
    #[arg(value_name = "APP")]
    pub app: Option<u32>,
}
