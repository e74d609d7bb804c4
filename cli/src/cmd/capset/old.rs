//! `krgcapset`: Kerrighed's command, with its output.

use super::{ask, edits, is_sure, named, sets, wrapped};
use anyhow::Result;
use clap::{ArgAction, CommandFactory, Parser};
use krg_types::Capability;
use krg_types::capability::{Edits, Sets};
use std::ffi::OsString;

/// Shows and changes the capabilities of a process (Kerrighed): by default of the shell that calls
/// it.
#[derive(Parser)]
#[command(name = "krgcapset", version, disable_version_flag = true, after_help = EXAMPLES)]
#[command(arg_required_else_help = true)]
struct KrgCapset {
    /// Print the four sets
    #[arg(short, long)]
    show: bool,
    /// Do not ask before the capability to change capabilities is dropped
    #[arg(short, long)]
    force: bool,
    /// The process [default: the one that calls this command]
    #[arg(short = 'k', long = "pid", value_name = "PID")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// What it has
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    effective: Option<String>,
    /// What it may have
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    permitted: Option<String>,
    /// What its children have
    #[arg(short = 'd', long, value_name = "SET", allow_hyphen_values = true)]
    inheritable_effective: Option<String>,
    /// What its children may have
    #[arg(short, long, value_name = "SET", allow_hyphen_values = true)]
    inheritable_permitted: Option<String>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

const EXAMPLES: &str = "\
A SET is a number (octal after a 0) or names with commas between them; after a + they are added to
what there is, after a - taken from it.

Examples:
  krgcapset --show
  krgcapset -d +CAN_MIGRATE
  krgcapset -k 8388613 -e +CAN_MIGRATE,CHECKPOINTABLE

Exit codes:
  0  done
  1  it failed: the reason is on standard error
  2  the command line is wrong
";

/// The description that its man page is made from.
pub fn command() -> clap::Command {
    KrgCapset::command()
}

/// `krgcapset`.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let args = KrgCapset::parse_from(argv);
    let words = [
        &args.permitted,
        &args.effective,
        &args.inheritable_permitted,
        &args.inheritable_effective,
    ];
    let edits = match edits(words) {
        Ok(edits) => edits,
        Err(words) => {
            eprintln!("{words}");
            return Ok(1);
        }
    };
    let pid = args.pid.unwrap_or(0);
    let shown = args.pid.unwrap_or_else(std::os::unix::process::parent_id);
    let mut reply = ask(pid, None)?;
    if reply.errno != 0 {
        eprintln!("{}", unable("get", shown, reply.errno));
        eprintln!("krgcapset: {}", reply.why);
        return Ok(1);
    }
    if edits != Edits::default() {
        if !args.force && !is_sure(&sets(&reply)?, &edits)? {
            return Ok(1);
        }
        reply = ask(pid, Some(&edits))?;
        if reply.errno != 0 {
            eprintln!("{}", unable("set", shown, reply.errno));
            eprintln!("krgcapset: {}", reply.why);
            return Ok(1);
        }
    }
    if args.show {
        print!("{}", show(&sets(&reply)?));
    }
    Ok(0)
}

fn unable(what: &str, pid: u32, errno: i32) -> String {
    format!("Unable to {what} capabilities of process {pid} (res: -1, errno: {errno}))")
}

fn show(sets: &Sets) -> String {
    let text = named(sets).map(|(name, set)| {
        let names: Vec<&str> = set.members().map(Capability::name).collect();
        format!("{name} Capabilities: 0{:o}\n{}", set.bits(), wrapped(&names))
    });
    text.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::capset::parse;
    use krg_types::capability::{CapSet, Edit};

    #[test]
    fn the_sets_are_shown_as_by_kerrighed() {
        assert_eq!(show(&Sets::INITIAL), include_str!("initial.txt"));
        let all = CapSet::from_bits(0o7777).unwrap();
        let none = CapSet::EMPTY;
        let other = Sets {
            permitted: all,
            effective: none,
            inheritable_permitted: all,
            inheritable_effective: none,
        };
        assert_eq!(show(&other), include_str!("all_and_none.txt"));
        assert!(show(&other).lines().all(|line| line.replace('\t', "        ").len() < 80));
    }

    #[test]
    fn what_is_no_capability_is_said_as_by_kerrighed() {
        assert_eq!(parse("+NOSUCH").unwrap_err() + "\n", include_str!("unrecognized.txt"));
        assert_eq!(parse("0"), Ok(Edit::Set(CapSet::EMPTY)));
        assert_eq!(
            unable("get", 77, 3),
            "Unable to get capabilities of process 77 (res: -1, errno: 3))"
        );
    }

    #[test]
    fn options_are_those_of_kerrighed() {
        let parsed = |line: &str| {
            let words = line.split_whitespace().map(OsString::from);
            KrgCapset::try_parse_from(words)
        };
        for line in [
            "krgcapset -s",
            "krgcapset -k 7 -e -CAN_MIGRATE",
            "krgcapset --pid 7 --effective +CAN_MIGRATE --permitted 0 -f",
            "krgcapset -d +CHECKPOINTABLE -i -DISTANT_FORK",
            "krgcapset --inheritable-effective 1 --inheritable-permitted 01 --force --show",
        ] {
            assert!(parsed(line).is_ok(), "{line}");
        }
        for line in ["krgcapset", "krgcapset -k 0 -s", "krgcapset -k x -s", "krgcapset -e"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
