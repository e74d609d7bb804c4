//! krgd: the daemon of one node.

mod caps;
mod config;
mod control;
mod export;
mod jobs;
mod kerrighed;
mod life;
mod live_mount;
mod load;
mod local_caller;
mod local_proc;
mod member_feed;
mod metrics;
mod mount_mfs;
mod mount_node;
mod mount_proc;
mod mount_process;
mod mounts;
mod orders;
mod papers;
mod serve_files;
mod shutdown;
mod simulate;
mod view_door;
mod wire;

use clap::{Parser, Subcommand};
use krg_types::NodeId;
use krg_types::mfs::Patience;
use std::path::PathBuf;
use std::process::ExitCode;

/// A commit makes and frees a great many small things: the C library's allocator takes a third of
/// its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The daemon of one node of a krg cluster.
///
/// It needs no configuration file: without one it is a cluster of one, and shows this machine's
/// processes under /cluster/proc and its files under /mfs. It stays in the foreground; SIGTERM
/// ends it and its mounts.
#[derive(Parser)]
#[command(name = "krgd", version, after_help = EXAMPLES)]
struct Args {
    /// The configuration file; it may be absent if this is not given.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Says more: `info`, `debug`, or filters such as `krg_procview=debug`.
    #[arg(long, env = "KRG_LOG", default_value = "warn,fuser=error,openraft=off", global = true)]
    log: String,
    /// Logs as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    /// Reads the configuration, prints it in full, and ends.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves one mount of the cluster's /proc (krgd starts these itself).
    #[command(hide = true)]
    MountProc {
        /// Where.
        path: PathBuf,
    },
    /// Serves one mount of the directory with an entry for each node (the same).
    #[command(hide = true)]
    MountMfs {
        /// Where.
        path: PathBuf,
        /// Who uses files of a node that does not answer waits for it.
        #[arg(long)]
        hard: bool,
    },
    /// Serves the mount of one node's file tree (the same).
    #[command(hide = true)]
    MountNode {
        /// Where.
        path: PathBuf,
        /// Whose.
        node: NodeId,
        /// Who uses files of a node that does not answer waits for it.
        #[arg(long)]
        hard: bool,
    },
    /// Serves this node's files to the others (the same).
    #[command(hide = true)]
    ServeFiles,
    /// Holds one job, for who is connected on standard input (the same).
    #[command(hide = true, name = jobs::COMMAND)]
    Job,
    /// Holds one that comes from another node (the same).
    #[command(hide = true, name = jobs::GUEST)]
    JobGuest,
    /// Is the first process of one (its holder starts it).
    #[command(hide = true, name = jobs::INIT)]
    JobInit {
        /// Has the specification.
        asked: i32,
        /// Hears how it goes.
        reports: i32,
        /// Standard input is a terminal of its own.
        #[arg(long)]
        terminal: bool,
    },
    /// Prints the processes of simulated nodes (behind `krg ps --simulate`).
    #[command(hide = true)]
    Simulate {
        /// How many nodes.
        nodes: u32,
    },
    /// Serves simulated nodes, for measurements.
    #[command(hide = true)]
    SimulateNodes {
        /// How many nodes.
        nodes: u32,
        /// A directory as /proc, whose processes each of them shows.
        #[arg(long)]
        proc: PathBuf,
    },
    /// Looks at them, for who asks at a socket.
    #[command(hide = true)]
    SimulateView {
        /// The socket.
        door: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  krgd                          a cluster of one
  krgd --config /etc/krg/krg.toml --log info
  krgd --check                  what would be used

Files:
  /etc/krg/krg.toml             configuration, see packaging/krg.toml
  /etc/kerrighed_nodes          session, number of nodes and node numbers, if it is there
  /var/lib/krg                  this node's papers, and what the cluster agreed on
  /run/krg/krgd.sock            where `krg` reaches it
";

fn main() -> ExitCode {
    if let Some(code) = krg_migrate::helper::hooked() {
        return ExitCode::from(code);
    }
    let args = Args::parse();
    start_log(&args);
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("krgd: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(args: &Args) {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // That an answer has come too late for who was ended meanwhile is no error.
    let filter = match "fuser::reply=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match args.log_json {
        true => log.json().init(),
        false => log.with_target(false).init(),
    }
}

/// Does it; the exit code.
fn run(args: Args) -> anyhow::Result<u8> {
    match &args.command {
        Some(Command::Simulate { nodes }) => return simulate::print(*nodes).map(|()| 0),
        Some(Command::SimulateNodes { nodes, proc }) => {
            return simulate::nodes::serve(*nodes, proc).map(|()| 0);
        }
        Some(Command::SimulateView { door }) => return simulate::view::serve(door).map(|()| 0),
        _ => {}
    }
    if let Some(Command::JobInit { asked, reports, terminal }) = args.command {
        return Ok(krg_migrate::helper::first(asked, reports, terminal).map(|()| 0)?);
    }
    let config = config::Config::load(args.config.as_deref())?;
    if args.check {
        config.check_machine()?;
        print!("{}", wire::complete(config)?.to_toml()?);
        return Ok(0);
    }
    match args.command {
        Some(Command::MountProc { path }) => mount_proc::run(&config, &path).map(|()| 0),
        Some(Command::MountMfs { path, hard }) => {
            mount_mfs::run(&config, &path, Patience::hard(hard)).map(|()| 0)
        }
        Some(Command::MountNode { path, node, hard }) => {
            mount_node::run(&config, &path, node, Patience::hard(hard)).map(|()| 0)
        }
        Some(Command::Job) => jobs::hold(&config).map(|()| 0),
        Some(Command::JobGuest) => jobs::hold_guest(&config, args.config.as_deref()).map(|()| 0),
        Some(Command::ServeFiles) => serve_files::run(&config).map(|()| 0),
        _ => {
            config.check_machine()?;
            wire::run(wire::complete(config)?, args.config)
        }
    }
}
