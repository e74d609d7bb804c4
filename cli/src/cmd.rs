//! One file per command.

pub mod krgadm;
pub mod lab;
pub mod mount_helper;
mod nodes;
mod papers;
mod ps;

use crate::args::{Cli, Command};
use crate::{doctor, session};
use anyhow::Result;
use clap::Parser;
use std::ffi::OsString;

/// The names that older systems gave these commands, and helpers that mount(8) looks for.
pub const NAMES: [&str; 4] = ["krgadm", "ssi-start", "ssi-stop", "mount.krgproc"];

/// Runs `krg`; returns its exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    match Cli::parse_from(argv).command {
        Command::Ps(args) => ps::run(&args.rest),
        Command::Exec(args) => session::run(args.view, &args.command),
        Command::Nodes { command } => nodes::run(command),
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
