//! `krg lab`: a virtual cluster on one machine, with faults on demand.

mod args;
mod boot;
mod config;
mod control;
mod disk;
mod exec;
mod explain;
mod fault;
mod fill;
mod grow;
mod image;
mod init;
mod inside;
mod keeper;
mod memory;
mod message;
mod name;
mod net;
mod online;
mod plan;
mod powercut;
mod print;
mod rate;
mod restart;
mod root;
mod scan;
mod shell;
mod start;
mod state;
mod status;
mod stop;
mod unstick;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse_from(args::modern(std::env::args_os()));
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("krg lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does it; the exit code.
fn run(command: Command) -> anyhow::Result<u8> {
    let done = match command {
        Command::Start(args) => start::run(&args),
        Command::Stop(args) => stop::run(&args.name, args.all),
        Command::Status { lab, json } => status::one(&lab.name, json),
        Command::List { json } => status::list(json),
        Command::Exec(args) => {
            return match &args.node {
                Some(node) => exec::one(&args.lab.name, node, &args.command),
                None => exec::all(&args.lab.name, &args.command),
            };
        }
        Command::Shell(args) => return shell::run(&args.lab.name, &args.node),
        Command::Kill(args) => fault::kill(&args.lab.name, &args.node),
        Command::Pause(args) => fault::pause(&args.lab.name, &args.node),
        Command::Resume(args) => fault::resume(&args.lab.name, &args.node),
        Command::Cut(args) => fault::cut(&args.lab.name, &args.node),
        Command::Slow { node, rate } => fault::slow(&node.lab.name, &node.node, rate.0),
        Command::Fill { node, undo } => fill::run(&node.lab.name, &node.node, undo),
        Command::Powercut { lab, node, .. } => powercut::run(&lab.name, node.as_deref()),
        Command::Add { lab, count, no_wait, json } => grow::add(&lab.name, count, !no_wait, json),
        Command::Remove(args) => grow::remove(&args.lab.name, &args.node),
        Command::Heal { node, no_wait } => fault::heal(&node.lab.name, &node.node, !no_wait),
        Command::Keeper { lab, no_wait } => keeper::run(&lab.name, !no_wait),
        Command::Boot(args) => boot::run(&args.lab.name, args.node),
        Command::Init(_) => init::run(),
    };
    done.map(|()| 0)
}
