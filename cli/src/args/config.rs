//! The command line of `krg config`, `krg meta` and `krg metrics`.

use super::value;
use clap::Subcommand;
use std::path::PathBuf;

const GET_EXAMPLES: &str = "\
Examples:
  krg config get sched/policy
  krg config get sched/policy --linearizable

A read is answered by this node at once. If it has no leader, the answer may be old: standard
error says `stale`. --linearizable sees everything acknowledged before, or fails.

Exit codes:
  0  printed
  1  there is no such key, or it failed
";
const LIST_EXAMPLES: &str = examples!(
    "\
Examples:
  krg config list
  krg config list sched/ --json

A line is REVISION KEY VALUE; line ends in values are written \\n.
"
);
const SET_EXAMPLES: &str = "\
Examples:
  sudo krg config set sched/policy balance
  sudo krg config set motd - < motd.txt           the last line end is not part of it
  sudo krg config set lock me --if-revision 0     only if the key is not there
  sudo krg config set mfs/2/read_only true        keys of mfs/ are krg's own: see OPERATING

Prints the revision.

Exit codes:
  0  set
  1  it failed: the outcome is unknown if krgd did not answer
  2  the command line is wrong
  3  --if-revision did not hold: nothing was set
";
const DELETE_EXAMPLES: &str = "\
Examples:
  sudo krg config delete sched/policy

Exit codes: as `krg config set`.
";
const WATCH_EXAMPLES: &str = examples!(
    "\
Examples:
  krg config watch sched/policy
  krg config watch sched/ --prefix --from 120
  krg config watch '' --prefix --json

What is there now, then every change: REVISION KEY VALUE, or REVISION KEY (deleted). Line ends in
values are written \\n, and a value that begins with a parenthesis is written \\( there.
"
);
const BACKUP_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg meta backup /var/backups/krg-$(date +%F)
  sudo krg meta backup - | ssh safe 'cat > krg.backup'

The file is for its owner only (0600): it holds the cluster's secrets.
"
);
const RESTORE_EXAMPLES: &str = examples!(
    "\
Examples:
  sudo krg meta restore /var/backups/krg-2026-01-31
"
);

/// `krg config`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the value of a key
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Which
        #[arg(value_parser = value::key)]
        key: String,
        /// See everything acknowledged before, or fail
        #[arg(long)]
        linearizable: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print keys and their values
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only keys that begin so
        #[arg(default_value = "", value_parser = value::prefix)]
        prefix: String,
        /// See everything acknowledged before, or fail
        #[arg(long)]
        linearizable: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a key
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Which
        #[arg(value_parser = value::key)]
        key: String,
        /// The text; `-`: read it from standard input
        #[arg(allow_hyphen_values = true, value_parser = value::config_value)]
        value: String,
        /// Only if the key was last set at this revision; 0: only if it is not there
        #[arg(long, value_name = "N")]
        if_revision: Option<u64>,
    },
    /// Delete a key
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Which
        #[arg(value_parser = value::key)]
        key: String,
        /// Only if the key was last set at this revision
        #[arg(long, value_name = "N")]
        if_revision: Option<u64>,
    },
    /// Print changes as they come
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        /// Which
        #[arg(value_parser = value::prefix)]
        key: String,
        /// All keys that begin so
        #[arg(long)]
        prefix: bool,
        /// The first revision wanted
        #[arg(long, value_name = "REV", default_value = "0", hide_default_value = true)]
        from: u64,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

/// `krg meta`.
#[derive(Subcommand)]
pub enum MetaCommand {
    /// Write all that the nodes have agreed on into a file
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        /// Where; `-`: standard output
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Put back what `krg meta backup` wrote
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// From where; `-`: standard input
        file: PathBuf,
    },
}
