//! `krg ps`: ps(1) on the whole cluster.

use super::lab::sibling;
use crate::session;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Without options: every process, as one wants to see a cluster.
const DEFAULT: &str = "aux";

/// Runs ps on the view; or shows simulated nodes.
pub fn run(options: &[OsString]) -> Result<u8> {
    let word = |i: usize| options.get(i).and_then(|o| o.to_str());
    match word(0) {
        Some("--simulate") => simulate(word(1).unwrap_or("3")),
        Some(first) if first.starts_with("--simulate=") => {
            simulate(first.trim_start_matches("--simulate="))
        }
        Some("--help") if options.len() == 1 => {
            println!("Usage: krg ps [PS-OPTIONS]\n       krg ps --simulate N\n");
            println!("ps(1) on the whole cluster; without options, ps {DEFAULT}.");
            println!(
                "A process's PID is node * 4194304 + its own pid; PSR is the cluster's cpu.\n"
            );
            println!("Examples:\n  krg ps axf\n  krg ps -eo pid,psr,user,args --sort=-pcpu");
            Ok(0)
        }
        _ => {
            let mut command = vec![OsString::from("ps")];
            match options {
                [] => command.push(DEFAULT.into()),
                given => command.extend_from_slice(given),
            }
            session::run(None, &command)
        }
    }
}

fn simulate(nodes: &str) -> Result<u8> {
    let Some(count) = nodes.parse::<u32>().ok().filter(|n| (1..=255).contains(n)) else {
        bail!("--simulate {nodes}: a number of nodes, 1 to 255");
    };
    let krgd = sibling("krgd");
    let error = Command::new(&krgd).arg("simulate").arg(count.to_string()).exec();
    Err(error).with_context(|| format!("cannot start {}", krgd.display()))
}
