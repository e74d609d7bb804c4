//! Kerrighed's commands for jobs that are saved, in its words: `krgcr-run`, `checkpoint`,
//! `restart`.

use super::checkpoint::{Refusal, begin, begin_and_stay, order};
use super::kill::number as signal_number;
use crate::args::RunArgs;
use crate::args::exit_codes;
use crate::text;
use anyhow::{Result, bail};
use clap::{CommandFactory, Parser};
use krg_rpc::proto::job::save_request::What;
use krg_rpc::proto::job::{Freeze, Restart, Restarted, Save, Saved, from_job};
use krg_types::limits::PROTOCOL_VERSION;
use std::ffi::OsString;
use std::path::PathBuf;

/// Of an application that is running already.
pub const E_CR_APPBUSY: i32 = 1000;
/// Of numbers that are somebody else's.
pub const E_CR_PIDBUSY: i32 = 1001;
/// Of processes that have ended.
pub const E_CR_TASKDEAD: i32 = 1002;
/// Of what was saved, and is not what was written.
pub const E_CR_BADDATA: i32 = 1003;

/// Starts a program that can be saved (Kerrighed).
#[derive(Parser)]
#[command(name = "krgcr-run", version, disable_version_flag = true, after_help = exit_codes!())]
struct KrgcrRun {
    /// Do not wait for it
    #[arg(short, long)]
    background: bool,
    /// Write its number into this file
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say nothing
    #[arg(short)]
    quiet: bool,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    #[arg(value_name = "PROG")]
    command: Vec<OsString>,
}

/// Saves an application (Kerrighed).
#[derive(Parser)]
#[command(name = "checkpoint", version, disable_version_flag = true, after_help = exit_codes!())]
struct Checkpoint {
    /// Only have it stand still
    #[arg(short, long, conflicts_with_all = ["unfreeze", "ckpt_only", "kill"])]
    freeze: bool,
    /// Only have it go on, after a signal if one is named
    #[arg(short, long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "0", conflicts_with_all = ["ckpt_only", "kill"])]
    unfreeze: Option<String>,
    /// Only save it: it is frozen
    #[arg(short, long)]
    ckpt_only: bool,
    /// Send it a signal once it is saved (default 15)
    #[arg(short, long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "15")]
    kill: Option<String>,
    /// The number is that of an application, not of a process
    #[arg(short = 'a', long)]
    from_appid: bool,
    /// Taken, and without effect: nothing that is not supported is left out
    #[arg(short, long)]
    ignore_unsupported_files: bool,
    /// Words that are kept with it
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Taken, and without effect: there are no callbacks
    #[arg(short = 'b', long)]
    no_callbacks: bool,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// A process of it, or with -a its number
    #[arg(value_name = "PID")]
    pid: u32,
}

/// Begins an application again that was saved (Kerrighed).
#[derive(Parser)]
#[command(name = "restart", version, disable_version_flag = true, after_help = exit_codes!())]
struct OldRestart {
    /// It does not run before `checkpoint -u`
    #[arg(short = 'U', long)]
    no_unfreeze: bool,
    /// With this terminal; as -f
    #[arg(short, long)]
    tty: bool,
    /// Stay with it
    #[arg(short, long)]
    foreground: bool,
    /// With its numbers, as always
    #[arg(short, long)]
    pids: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Not supported: every file of it is saved, or it is not
    #[arg(short, value_name = "FILE_ID,FD")]
    substitute: Vec<String>,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Its number
    #[arg(value_name = "APPID")]
    app: u32,
    /// Which version
    #[arg(value_name = "VERSION")]
    number: u32,
}

/// The descriptions that their man pages are made from.
pub fn commands() -> [clap::Command; 3] {
    [KrgcrRun::command(), Checkpoint::command(), OldRestart::command()]
}

/// `krgcr-run`.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let KrgcrRun { background, output, quiet, command, .. } = KrgcrRun::parse_from(argv);
    let args = RunArgs { name: None, background, cap: None, command };
    super::run::run_told(args, move |job, ending| {
        if !quiet {
            print!("Running application {job}{ending}");
        }
        match &output {
            Some(path) => Ok(std::fs::write(path, format!("{job}\n"))?),
            None => Ok(()),
        }
    })
}

/// `checkpoint`.
pub fn checkpoint(argv: Vec<OsString>) -> Result<u8> {
    let args = Checkpoint::parse_from(argv.into_iter().map(with_equals));
    if let Err(e) = save(&args) {
        eprintln!("checkpoint: {}", words(&e, args.pid));
        return Ok(1);
    }
    Ok(0)
}

/// `-k9` as getopt(3) has it, for who wants `-k=9`.
fn with_equals(word: OsString) -> OsString {
    let text = word.to_string_lossy();
    match text.split_at_checked(2) {
        Some((option @ ("-k" | "-u"), value)) if !value.is_empty() && !value.starts_with('=') => {
            format!("{option}={value}").into()
        }
        _ => word,
    }
}

/// Which application is meant, in its words.
fn of(args: &Checkpoint) -> String {
    let pid = args.pid;
    match args.from_appid {
        true => format!("application {pid}"),
        false => format!("application in which process {pid} is involved"),
    }
}

fn save(args: &Checkpoint) -> Result<()> {
    let version = PROTOCOL_VERSION;
    let say = |doing: &str| {
        if !args.quiet {
            println!("{doing} {}...", of(args));
        }
    };
    let freeze = |thaw, signal| {
        order(args.pid, What::Freeze(Freeze { version, thaw, signal })).map(|_| ())
    };
    if args.freeze {
        say("Freezing");
        return freeze(false, 0);
    }
    if let Some(signal) = &args.unfreeze {
        say("Unfreezing");
        return freeze(true, signal_number(signal)?);
    }
    if !args.ckpt_only {
        say("Freezing");
    }
    say("Checkpointing");
    let signal = args.kill.as_deref().map_or(Ok(0), signal_number)?;
    let save = Save {
        version,
        description: args.description.clone(),
        signal,
        only_frozen: args.ckpt_only,
        ..Save::default()
    };
    let from_job::What::Saved(saved) = order(args.pid, What::Save(save))? else {
        bail!("krgd says what makes no sense");
    };
    if !args.quiet {
        print!("{}", described(&saved));
    }
    if !args.ckpt_only {
        say("Unfreezing");
    }
    Ok(())
}

fn described(saved: &Saved) -> String {
    format!(
        "Identifier: {}\nVersion: {}\nDescription: {}\nDate: {}\n",
        saved.app,
        saved.checkpoint,
        text::one_line(&saved.description),
        krg_sys::clock::ctime(saved.date)
    )
}

/// `restart`.
pub fn restart(argv: Vec<OsString>) -> Result<u8> {
    let args = OldRestart::parse_from(argv);
    if !args.substitute.is_empty() {
        eprintln!(
            "restart: -s: no file is left out of what is saved, so none can be put in place"
        );
        return Ok(1);
    }
    if !args.quiet {
        println!("Restarting application {} (v{}) ...", args.app, args.number);
    }
    let stay = args.foreground || args.tty;
    let wanted = Restart {
        version: PROTOCOL_VERSION,
        app: args.app,
        checkpoint: args.number,
        frozen: args.no_unfreeze,
        background: !stay,
        alone: true,
        ..Restart::default()
    };
    let told = |begun: &Restarted| {
        if !args.quiet {
            println!("{}", begun_words(begun));
        }
    };
    let begun = match stay {
        true => begin_and_stay(wanted, told),
        false => begin(wanted).map(|begun| {
            told(&begun);
            0
        }),
    };
    begun.or_else(|e| {
        eprintln!("restart: {}", words(&e, args.app));
        Ok(1)
    })
}

fn begun_words(begun: &Restarted) -> String {
    let app = begun.app;
    match begun.frozen {
        true => format!(
            "Application {app} has been restored in *FROZEN* state. You can unfreeze it using \
             'checkpoint -u'"
        ),
        false => format!("Application {app} has been successfully restarted"),
    }
}

/// Kerrighed's words where it had any for this; what is behind them follows.
fn words(e: &anyhow::Error, number: u32) -> String {
    let errno = e.downcast_ref::<Refusal>().map(|refusal| refusal.errno);
    match errno {
        Some(E_CR_APPBUSY) => format!("an application using appid {number} is already running"),
        Some(E_CR_PIDBUSY) => "one PID (including session id or group id) of the application is \
                               already in use"
            .into(),
        Some(E_CR_TASKDEAD) => {
            "can not checkpoint an application with dead/zombie process".into()
        }
        Some(E_CR_BADDATA) => {
            format!("invalid checkpoint files (corrupted or wrong kernel version)\n{e:#}")
        }
        _ => format!("{e:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::proto::job::Refused;

    #[test]
    fn its_words_are_kerrigheds() {
        let saved = Saved {
            app: 4_561_235,
            checkpoint: 1,
            description: "No description".into(),
            date: 1_238_510_040,
            ..Saved::default()
        };
        let golden = include_str!("../../tests/golden/checkpoint.txt");
        // Whatever the time zone is.
        let date = |text: &str| text.lines().last().map(|line| line.len());
        assert_eq!(date(&described(&saved)), date(golden));
        let head = |text: &str| text.split("Date: ").next().map(str::to_owned);
        assert_eq!(head(&described(&saved)), head(golden));
        let begun =
            |frozen| begun_words(&Restarted { app: 4_561_235, frozen, ..Restarted::default() });
        let golden = include_str!("../../tests/golden/restart.txt");
        assert_eq!(format!("{}\n{}\n", begun(false), begun(true)), golden);
        let args = |line: &str| {
            Checkpoint::parse_from(line.split(' ').map(|word| with_equals(word.into())))
        };
        assert_eq!(
            of(&args("checkpoint 4561236")),
            "application in which process 4561236 is involved"
        );
        assert_eq!(of(&args("checkpoint -a 4561235")), "application 4561235");
        assert_eq!(args("checkpoint -k 7").kill.as_deref(), Some("15"));
        assert_eq!(args("checkpoint -k9 7").kill.as_deref(), Some("9"));
        assert_eq!(args("checkpoint --kill=KILL 7").kill.as_deref(), Some("KILL"));
        assert_eq!(args("checkpoint -u 7").unfreeze.as_deref(), Some("0"));
        assert_eq!(args("checkpoint -u10 7").unfreeze.as_deref(), Some("10"));
    }

    #[test]
    fn errors_have_its_words() {
        let said = |errno| {
            let refusal = Refusal::from(Refused { why: "pages-1.img".into(), errno });
            words(&refusal.into(), 7)
        };
        let golden = include_str!("../../tests/golden/cr-errors.txt");
        let all = [E_CR_APPBUSY, E_CR_PIDBUSY, E_CR_TASKDEAD, E_CR_BADDATA].map(said);
        assert_eq!(all.join("\n") + "\n", golden);
        assert_eq!(said(5), "pages-1.img");
    }
}
