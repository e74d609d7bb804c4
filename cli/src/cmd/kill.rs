//! `krg kill` and `krg where`: signals to processes of any node, and where they run.

use crate::args::top::ReniceArgs;
use crate::args::{KillArgs, WhereArgs};
use crate::daemon::{self, SIGNAL_MAX};
use anyhow::{Result, anyhow, bail};
use clap::{CommandFactory, Parser};
use krg_rpc::proto::control::{ReniceRequest, SignalReply, SignalRequest};
use krg_sys::priority::NICE;
use krg_sys::process::Signal;
use krg_types::limits::{PROTOCOL_VERSION, SIGNAL_NUMBER_MAX};
use std::ffi::OsString;

/// `krg kill`.
pub fn kill(args: &KillArgs) -> Result<u8> {
    if args.list {
        let names: Vec<&str> = Signal::iterator().map(|s| &s.as_str()[3..]).collect();
        println!("{}", names.join(" "));
        return Ok(0);
    }
    let (signal, pids) = match wanted(args) {
        Ok(wanted) => wanted,
        Err(e) => {
            eprintln!("krg kill: {e:#}");
            return Ok(2);
        }
    };
    let mut code = 0;
    for word in pids {
        let sent = pid(word).and_then(|pid| send(pid, signal, None));
        if let Err(e) = sent.and_then(|reply| told(reply.errno)) {
            eprintln!("krg kill: {word}: {e:#}");
            code = 1;
        }
    }
    Ok(code)
}

/// Which signal, and to whom.
fn wanted(args: &KillArgs) -> Result<(i32, &[String])> {
    let (signal, pids) = match (&args.signal, args.words.split_first()) {
        (Some(signal), _) => (number(signal)?, &args.words[..]),
        // As kill(1) has it: -9, -KILL, -SIGKILL.
        (None, Some((first, rest))) if first.starts_with('-') => (number(&first[1..])?, rest),
        _ => (Signal::SIGTERM as i32, &args.words[..]),
    };
    match pids.is_empty() {
        true => bail!("which process? krg ps shows them"),
        false => Ok((signal, pids)),
    }
}

/// `krg renice`.
pub fn renice(args: &ReniceArgs) -> Result<u8> {
    let (nice, pids) = match (args.nice, args.words.split_first()) {
        (Some(nice), _) => (Some(nice), &args.words[..]),
        (None, Some((first, rest))) => (first.parse().ok(), rest),
        (None, None) => (None, &[][..]),
    };
    let Some(nice) = nice.filter(|nice| NICE.contains(nice)) else {
        eprintln!("krg renice: a nice value is a number from -20 to 19");
        return Ok(2);
    };
    if pids.is_empty() {
        eprintln!("krg renice: of which process? krg ps shows them");
        return Ok(2);
    }
    let mut code = 0;
    for word in pids {
        if let Err(e) = pid(word).and_then(|pid| renice_one(pid, nice)) {
            eprintln!("krg renice: {word}: {e:#}");
            code = 1;
        }
    }
    Ok(code)
}

/// Sets a nice value.
///
/// # Errors
/// When the node was not reached, did not answer, or its kernel does not let this user.
pub fn renice_one(pid: u32, nice: i32) -> Result<()> {
    let ask = ReniceRequest { version: PROTOCOL_VERSION, pid, nice };
    told(daemon::ask(SIGNAL_MAX, async |mut krgd| krgd.renice(ask).await)?.errno)
}

/// `krg where`.
pub fn place(args: &WhereArgs) -> Result<u8> {
    let place = place_of(&args.pid)?;
    match args.json {
        true => println!("{}", serde_json::json!({ "pid": place.0, "node": place.1 })),
        false => println!("{}", place.1),
    }
    Ok(0)
}

/// Prints the node on which a process runs (OpenSSI).
#[derive(Parser)]
#[command(name = "where_pid", version, after_help = WHERE_EXIT_CODES)]
struct WherePid {
    /// The process
    #[arg(value_name = "PID")]
    pid: String,
}

const WHERE_EXIT_CODES: &str = "\
Exit codes:
  0  printed
  1  there is no such process, or its node does not answer
  2  the command line is wrong
";

/// The description that its man page is made from.
pub fn where_pid_command() -> clap::Command {
    WherePid::command()
}

/// `where_pid`.
pub fn where_pid(argv: Vec<OsString>) -> Result<u8> {
    println!("{}", place_of(&WherePid::parse_from(argv).pid)?.1);
    Ok(0)
}

/// A process that there is, and its node.
fn place_of(word: &str) -> Result<(u32, u32)> {
    let pid = pid(word)?;
    let SignalReply { errno, node } = send(pid, 0, None)?;
    match errno {
        // It is somebody else's.
        0 | libc::EPERM => Ok((pid, node)),
        errno => Err(anyhow!("{word}: {}", words(errno))),
    }
}

fn pid(word: &str) -> Result<u32> {
    let good = word.bytes().all(|b| b.is_ascii_digit());
    let pid = good.then(|| word.parse().ok()).flatten().filter(|pid| *pid > 0);
    pid.ok_or_else(|| anyhow!("not the number of a process"))
}

/// A signal, by its name or number.
///
/// # Errors
/// When there is none.
pub fn number(word: &str) -> Result<i32> {
    let name = word.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let named = || format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32);
    let number = name.parse().ok().filter(|n| (0..=SIGNAL_NUMBER_MAX).contains(n)).or_else(named);
    number.ok_or_else(|| anyhow!("{word}: no such signal (krg kill --list)"))
}

/// Sends one, for another user if one is named: where to, and 0 or the errno of the node's kernel.
///
/// # Errors
/// When the node was not reached, or did not answer.
pub fn send(pid: u32, signal: i32, uid: Option<u32>) -> Result<SignalReply> {
    let version = PROTOCOL_VERSION;
    let ask = SignalRequest { version, pid, signal, uid };
    daemon::ask(SIGNAL_MAX, async |mut krgd| krgd.signal(ask).await)
}

/// What a node's kernel said.
///
/// # Errors
/// Its errno, in words.
pub fn told(errno: i32) -> Result<()> {
    if errno == 0 { Ok(()) } else { Err(anyhow!(words(errno))) }
}

fn words(errno: i32) -> String {
    nix::errno::Errno::from_raw(errno).desc().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for word in ["9", "KILL", "SIGKILL", "kill", "sigkill"] {
            assert_eq!(number(word).unwrap(), 9, "{word}");
        }
        assert_eq!((number("0").unwrap(), number("64").unwrap()), (0, 64));
        for word in ["", "65", "-1", "SIG", "NOSUCH", "9x"] {
            assert!(number(word).is_err(), "{word}");
        }
    }

    #[test]
    fn pids_are_digits() {
        assert_eq!(pid("8388613").unwrap(), 8_388_613);
        for word in ["", "0", "-1", "+1", "1 ", "99999999999", "x"] {
            assert!(pid(word).is_err(), "{word}");
        }
    }
}
