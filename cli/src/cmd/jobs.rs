//! `krg jobs` and `krg migrate`: what there is, and where it is to be.

use crate::args::{JobsArgs, MigrateArgs};
use crate::daemon::{self, said};
use crate::table;
use anyhow::{Result, anyhow, bail};
use clap::{CommandFactory, Parser};
use krg_rpc::local;
use krg_rpc::proto::job::jobs_client::JobsClient;
use krg_rpc::proto::job::{
    EverywhereRequest, JobInfo, ListReply, MigrateRequest, Moved, from_job,
};
use krg_rpc::tonic::transport::Channel;
use krg_types::limits::PROTOCOL_VERSION;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::time::Duration;

/// All nodes are asked at once, each for a second.
const JOBS_MAX: Duration = Duration::from_secs(3);
/// The first sign of a move: it may take long from then on.
const MOVE_MAX: Duration = Duration::from_secs(120);

async fn client() -> Result<JobsClient<Channel>> {
    Ok(JobsClient::new(local::connect(&daemon::socket()).await?))
}

/// All jobs of the cluster.
pub fn everywhere() -> Result<ListReply> {
    daemon::run(async {
        let asked = async {
            let ask = EverywhereRequest { version: PROTOCOL_VERSION };
            client().await?.everywhere(ask).await.map_err(|s| said(&s))
        };
        Ok(daemon::in_time(JOBS_MAX, asked).await?.into_inner())
    })
}

/// `krg jobs`.
pub fn jobs(args: &JobsArgs) -> Result<u8> {
    let ListReply { jobs, silent } = everywhere()?;
    if args.json {
        let jobs: Vec<Value> = jobs.iter().map(as_json).collect();
        println!("{}", json!({ "jobs": jobs, "silent": silent }));
    } else {
        let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
        let headings = ["JOB", "NAME", "UID", "HOME", "NODE", "MOVES", "AGE", "STATE", "COMMAND"];
        print!("{}", table::render(&headings, &rows));
    }
    for node in silent {
        eprintln!("krg jobs: node {node} does not answer: its jobs are not shown");
    }
    Ok(0)
}

fn row(job: &JobInfo) -> Vec<String> {
    let state = job.state.clone();
    let numbers = [job.uid, job.home, job.node, job.moves].map(|n| n.to_string());
    let [uid, home, node, moves] = numbers;
    let command: String = job.command.chars().filter(|c| !c.is_control()).collect();
    let age = age(job.age_s);
    vec![job.id.to_string(), job.name.clone(), uid, home, node, moves, age, state, command]
}

fn age(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

fn as_json(job: &JobInfo) -> Value {
    json!({
        "job": job.id,
        "name": job.name,
        "uid": job.uid,
        "home": job.home,
        "node": job.node,
        "moves": job.moves,
        "age_s": job.age_s,
        "state": job.state,
        "terminal": job.has_terminal,
        "command": job.command,
        "refusal": job.refusal,
    })
}

/// How it went.
pub enum Went {
    /// It is there.
    Moved(Moved),
    /// It is this process's own job: it moves when the connection with krgd, by which this was
    /// asked, is gone.
    Later,
    /// krgd was ended before it has said.
    Unknown,
}

/// Moves processes between nodes (MOSIX, Kerrighed).
#[derive(Parser)]
#[command(name = "migrate", version, disable_version_flag = true, after_help = EXIT_CODES)]
struct OldMigrate {
    /// A process of the job
    #[arg(value_name = "PID")]
    pid: String,
    /// A node's number, or `home`
    #[arg(value_name = "NODE")]
    node: String,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
}

/// How these commands end.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  it runs there now
  1  it has not moved, and runs where it was: what was in the way is printed
  2  the command line is wrong
  3  krgd was ended meanwhile: the move goes on without it, and has ended or will; the job runs on
     one of the two nodes, and `krg where` tells on which when krgd is there again
";
/// The last of them.
const UNKNOWN: u8 = 3;
const KRGD_ENDED: &str = "krgd was ended before it has said whether this has moved: it runs on \
                          one of the two nodes all the same; when krgd is there again, `krg where";

/// The description that its man page is made from.
pub fn migrate_command() -> clap::Command {
    OldMigrate::command()
}

/// `migrate`.
pub fn old_migrate(argv: Vec<OsString>) -> Result<u8> {
    let OldMigrate { pid, node, verbose } = OldMigrate::parse_from(argv);
    let moved = move_it(&pid, &node, false);
    match moved {
        Ok(Went::Moved(moved)) if verbose => print!("{}", phases(&moved)),
        Ok(Went::Unknown) => {
            eprintln!("migrate: {KRGD_ENDED} {pid}` tells on which");
            return Ok(UNKNOWN);
        }
        Ok(_) => {}
        Err(e) => {
            eprintln!("migrate: {e:#}");
            return Ok(1);
        }
    }
    Ok(0)
}

/// `krg migrate`.
pub fn migrate(args: &MigrateArgs) -> Result<u8> {
    let moved = match move_it(&args.pid, &args.node, args.dry_run) {
        Ok(Went::Moved(moved)) => moved,
        Ok(Went::Later) => {
            if args.json {
                println!("{}", json!({ "later": true }));
            } else if args.verbose {
                println!("it moves when this command has ended");
            }
            return Ok(0);
        }
        Ok(Went::Unknown) => {
            let pid = &args.pid;
            eprintln!("krg migrate: {pid}: {KRGD_ENDED} {pid}` tells on which");
            return Ok(UNKNOWN);
        }
        Err(e) => {
            eprintln!("krg migrate: {}: {e:#}", args.pid);
            return Ok(1);
        }
    };
    if args.dry_run {
        return Ok(foretell(args, &moved));
    }
    if args.json {
        let phases: Vec<Value> =
            moved.phases.iter().map(|p| json!({ "phase": p.name, "us": p.us })).collect();
        let report = json!({
            "node": moved.node,
            "phases": phases,
            "image_bytes": moved.image_bytes,
            "frozen_us": moved.frozen_us,
        });
        println!("{report}");
    } else if args.verbose {
        print!("{}", phases(&moved));
    }
    Ok(0)
}

/// What a dry run has found.
fn foretell(args: &MigrateArgs, moved: &Moved) -> u8 {
    let free = moved.obstacles.is_empty();
    if args.json {
        let report = json!({
            "node": moved.node,
            "home": moved.home,
            "moves": moved.moves,
            "obstacles": moved.obstacles,
            "expected_frozen_us": moved.frozen_us,
            "memory_bytes": moved.image_bytes,
        });
        println!("{report}");
    } else if free {
        let (ms, mib) = (moved.frozen_us.div_ceil(1_000), moved.image_bytes >> 20);
        println!("nothing is in the way: it would stand still for about {ms} ms ({mib} MiB)");
    }
    for obstacle in moved.obstacles.iter().filter(|_| !args.json) {
        println!("{}", crate::text::printable(obstacle));
    }
    u8::from(!free)
}

fn phases(moved: &Moved) -> String {
    let ms = |us: u64| format!("{:.1} ms", us as f64 / 1_000.0);
    let phase = |phase: &krg_rpc::proto::job::Phase| vec![phase.name.clone(), ms(phase.us)];
    let mut rows: Vec<Vec<String>> = moved.phases.iter().map(phase).collect();
    rows.push(vec!["frozen".into(), ms(moved.frozen_us)]);
    rows.push(vec!["images".into(), format!("{} KiB", moved.image_bytes >> 10)]);
    table::render(&["PHASE", "TIME"], &rows)
}

/// `self` is the job that this process is of.
pub fn move_it(pid: &str, node: &str, dry_run: bool) -> Result<Went> {
    let number = |word: &str| word.parse().ok().filter(|n: &u32| *n > 0);
    let pid = match pid {
        "self" => 0,
        word => number(word).ok_or_else(|| anyhow!("{word} is not the number of a process"))?,
    };
    let node = match node {
        "home" => 0,
        word => number(word).ok_or_else(|| anyhow!("{word} is not the number of a node"))?,
    };
    let version = PROTOCOL_VERSION;
    let ask = MigrateRequest { version, pid, node, dry_run, ..MigrateRequest::default() };
    daemon::run(async {
        let moved = async {
            let told = client().await?.migrate(ask).await.map_err(|s| said(&s))?;
            let mut told = told.into_inner();
            // What krgd has to say against it, it says in a message: a connection that breaks is
            // krgd's own end.
            while let Ok(Some(message)) = told.message().await {
                match message.what {
                    Some(from_job::What::Moved(moved)) => return Ok(Went::Moved(moved)),
                    Some(from_job::What::Later(_)) => return Ok(Went::Later),
                    Some(from_job::What::Refused(refused)) => bail!("{}", refused.why),
                    _ => {}
                }
            }
            if dry_run { Err(anyhow!("krgd was ended")) } else { Ok(Went::Unknown) }
        };
        daemon::in_time(MOVE_MAX, moved).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ages = [0, 59, 61, 3_661, 90_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m01s", "1h01m", "1d01h"]);
    }
}
