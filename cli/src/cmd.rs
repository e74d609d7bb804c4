//! One file per command.

pub mod capset;
pub mod checkpoint;
mod cluster;
mod config;
mod hop;
pub mod ipc;
pub mod jobs;
mod join;
pub mod kill;
pub mod krgadm;
pub mod krgcr;
pub mod lab;
mod meta;
pub mod mosctl;
pub mod mount_helper;
mod nodemap;
mod nodes;
pub mod openssi;
mod papers;
pub mod ps;
mod run;
pub mod setpe;

use crate::args::{Cli, Command};
use crate::{doctor, session, top};
use anyhow::Result;
use clap::Parser;
use std::ffi::OsString;

/// The names that older systems gave these commands, and helpers that mount(8) looks for.
pub const NAMES: [&str; 23] = [
    "krgadm",
    "krgcapset",
    "krg_capset",
    "setpe",
    "mosctl",
    "mosmon",
    "mon",
    "mtop",
    "clusternode_num",
    "clusternode_getstate",
    "clustername",
    "where_pid",
    "migrate",
    "krgcr-run",
    "checkpoint",
    "restart",
    "ipccheckpoint",
    "ipcrestart",
    "ssi-start",
    "ssi-stop",
    "mount.krgproc",
    "mount.mfs",
    "umount.fuse.krgmfs",
];

/// `mtop` is `krg top`.
pub fn mtop(mut argv: Vec<OsString>) -> Result<u8> {
    argv.splice(..1, ["krg".into(), "top".into()]);
    run(argv)
}

/// Runs `krg`; returns its exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    match Cli::parse_from(argv).command {
        Command::Ps(args) => ps::run(&args.rest),
        Command::Exec(args) => session::run(args.view, &args.command),
        Command::Run(args) => run::run(args),
        Command::Hop(args) => hop::run(&args),
        Command::Jobs(args) => jobs::jobs(&args),
        Command::Attach(args) => run::attach(&args.job, false),
        Command::Logs(args) => run::attach(&args.job, true),
        Command::Migrate(args) => jobs::migrate(&args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&args),
        Command::Restart(args) => checkpoint::restart(&args),
        Command::Checkpoints(args) => checkpoint::checkpoints(&args),
        Command::Capset(args) => capset::run(&args),
        Command::Kill(args) => kill::kill(&args),
        Command::Renice(args) => kill::renice(&args),
        Command::Top(args) => top::run(&args),
        Command::Where(args) => kill::place(&args),
        Command::Nodes(args) => nodes::run(args),
        Command::Cluster { command } => cluster::run(command),
        Command::Join(args) => join::join(args),
        Command::Leave(args) => join::leave(args.force),
        Command::Config { command } => config::run(command),
        Command::Meta { command } => meta::run(command),
        Command::Metrics => meta::metrics(),
        Command::Lab(args) => lab::run("krg-lab", &args.rest),
        Command::Doctor { json } => doctor::run(json),
        Command::Names => {
            NAMES.iter().for_each(|name| println!("{name}"));
            Ok(0)
        }
        Command::Man { dir } => papers::man(&dir),
        Command::Completions { shell } => papers::completions(shell),
    }
}
