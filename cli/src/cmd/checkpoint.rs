//! `krg checkpoint`, `krg restart` and `krg checkpoints`: jobs that are saved, and begun again.

use super::kill::number as signal_number;
use super::run::{RawMode, Session, blocked, window};
use crate::args::checkpoint::{CheckpointArgs, CheckpointsArgs, RestartArgs};
use crate::daemon::{self, said};
use crate::table;
use anyhow::{Context, Result, bail};
use krg_rpc::job::{Received, written};
use krg_rpc::local;
use krg_rpc::proto::job::checkpoints_client::CheckpointsClient;
use krg_rpc::proto::job::save_request::What;
use krg_rpc::proto::job::{
    self as wire, Freeze, FromJob, Restart, Restarted, Save, SaveRequest, Saved, ToJob, Version,
    VersionsReply, VersionsRequest, from_job, to_job,
};
use krg_rpc::tonic::transport::Channel;
use krg_sys::fd_passing;
use krg_sys::process::WindowSize;
use krg_types::GlobalPid;
use krg_types::limits::PROTOCOL_VERSION;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A large job takes long to be written; a disk or node that does not answer is noticed before.
const SAVE_MAX: Duration = Duration::from_secs(3_600);
/// All nodes look at once.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What krgd or a holder refuses: its words, and the errno.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    why: String,
    /// Of Kerrighed's own where it has one.
    pub errno: i32,
}

impl From<wire::Refused> for Refusal {
    fn from(refused: wire::Refused) -> Refusal {
        Refusal { why: refused.why, errno: refused.errno }
    }
}

async fn client() -> Result<CheckpointsClient<Channel>> {
    Ok(CheckpointsClient::new(local::connect(&daemon::socket()).await?))
}

/// Asks krgd, and whoever has the job, for one thing.
///
/// # Errors
/// [`Refusal`], among others.
pub fn order(pid: u32, what: What) -> Result<from_job::What> {
    let ask = SaveRequest { version: PROTOCOL_VERSION, pid, what: Some(what) };
    daemon::run(daemon::in_time(SAVE_MAX, async {
        let told = client().await?.order(ask).await.map_err(|s| said(&s))?;
        let first = told.into_inner().message().await.map_err(|s| said(&s))?;
        match first.and_then(|first| first.what) {
            Some(from_job::What::Refused(refused)) => Err(Refusal::from(refused).into()),
            Some(what) => Ok(what),
            None => bail!("krgd has broken it off"),
        }
    }))
}

fn dir(dir: Option<&Path>) -> Result<String> {
    let Some(dir) = dir else { return Ok(String::new()) };
    let dir = std::path::absolute(dir)?;
    Ok(dir.to_str().context("the directory's name is not UTF-8")?.to_owned())
}

/// A process, a job's number, or its name.
fn target(word: &str) -> Result<u32> {
    if let Some(number) = word.parse().ok().filter(|n: &u32| *n > 0) {
        return Ok(number);
    }
    let jobs = super::jobs::everywhere()?.jobs;
    let found: Vec<_> = jobs.iter().filter(|job| job.name == word).collect();
    match found[..] {
        [job] => Ok(job.id),
        [] => bail!("there is no job {word} (krg jobs shows them)"),
        _ => bail!("{} jobs are called {word}: take its number (krg jobs)", found.len()),
    }
}

/// `krg checkpoint`.
pub fn checkpoint(args: &CheckpointArgs) -> Result<u8> {
    match save_or_freeze(args) {
        Ok(()) => Ok(0),
        Err(e) => {
            eprintln!("krg checkpoint: {}: {e:#}", args.pid);
            Ok(1)
        }
    }
}

fn save_or_freeze(args: &CheckpointArgs) -> Result<()> {
    let pid = target(&args.pid)?;
    let signal = |word: &Option<String>| word.as_deref().map_or(Ok(0), signal_number);
    let version = PROTOCOL_VERSION;
    let what = if args.freeze || args.unfreeze.is_some() {
        let (thaw, signal) = (!args.freeze, signal(&args.unfreeze)?);
        What::Freeze(Freeze { version, thaw, signal })
    } else {
        What::Save(Save {
            version,
            description: args.description.clone(),
            files: args.files,
            signal: signal(&args.kill)?,
            dir: dir(args.dir.as_deref())?,
            ..Save::default()
        })
    };
    match order(pid, what)? {
        from_job::What::Saved(saved) if args.json => println!("{}", saved_json(&saved)),
        from_job::What::Saved(saved) => {
            let (app, number, path) = (saved.app, saved.checkpoint, &saved.path);
            println!(
                "{app} version {number}: node {}, {path}, {}",
                saved.home,
                size(saved.bytes)
            );
        }
        from_job::What::FreezeDone(done) if args.json => {
            println!("{}", json!({ "app": done.app, "frozen": done.frozen }));
        }
        from_job::What::FreezeDone(_) => {}
        _ => bail!("krgd says what makes no sense"),
    }
    Ok(())
}

fn saved_json(saved: &Saved) -> Value {
    json!({
        "app": saved.app,
        "version": saved.checkpoint,
        "home": saved.home,
        "description": saved.description,
        "date": saved.date,
        "path": saved.path,
        "bytes": saved.bytes,
        "files": saved.files,
        "frozen_us": saved.frozen_us,
        "total_us": saved.total_us,
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1_024)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Where a job of this number was started.
fn home_of(app: u32) -> u32 {
    GlobalPid::from_raw(app).map_or(app >> 15, |pid| pid.node().get())
}

/// `krg restart`.
pub fn restart(args: &RestartArgs) -> Result<u8> {
    let wanted = Restart {
        version: PROTOCOL_VERSION,
        app: args.app,
        checkpoint: args.version.unwrap_or(0),
        dir: dir(args.dir.as_deref())?,
        node: args.node.map_or(0, krg_types::NodeId::get),
        frozen: args.frozen,
        files: args.files,
        background: !args.foreground,
        ..Restart::default()
    };
    let begun = match args.foreground {
        true => begin_and_stay(wanted, |_| {}),
        false => begin(wanted).map(|begun| {
            match args.json {
                true => println!("{}", begun_json(&begun)),
                false => println!("{}", begun.job),
            }
            0
        }),
    };
    begun.or_else(|e| {
        eprintln!("krg restart: {}: {e:#}", args.app);
        Ok(1)
    })
}

fn begun_json(begun: &Restarted) -> Value {
    json!({
        "app": begun.app,
        "version": begun.checkpoint,
        "job": begun.job,
        "node": begun.node,
        "frozen": begun.frozen,
        "name": begun.name,
    })
}

/// In the background.
///
/// # Errors
/// Why it has not begun.
pub fn begin(wanted: Restart) -> Result<Restarted> {
    match order(0, What::Restart(wanted))? {
        from_job::What::Restarted(begun) => Ok(begun),
        _ => bail!("krgd says what makes no sense"),
    }
}

/// With what this command has; its exit code is the program's.
///
/// # Errors
/// Why it has not begun.
pub fn begin_and_stay(wanted: Restart, told: impl Fn(&Restarted)) -> Result<u8> {
    let (home, own) = (home_of(wanted.app), daemon::status()?.node);
    if home != own {
        let app = wanted.app;
        bail!("{app} was started on node {home}: in the foreground it begins there only");
    }
    let socket = daemon::socket().with_file_name("jobs.sock");
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("no job can be begun at {}", socket.display()))?;
    let bytes = written(&ToJob { what: Some(to_job::What::Restart(wanted)) });
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let fds = [input.as_fd(), output.as_fd(), error.as_fd()];
    let sent = fd_passing::send(&stream, &bytes, &fds)?;
    stream.write_all(&bytes[sent..])?;
    let mut received = Received::default();
    let begun = first_answer(&mut stream, &mut received)?;
    told(&begun);
    let on_terminal =
        begun.has_terminal && io::stdin().is_terminal() && io::stdout().is_terminal();
    if on_terminal {
        let size = window(WindowSize::of(io::stdin())?);
        stream.write_all(&written(&ToJob { what: Some(to_job::What::Size(size)) }))?;
    }
    let signals = blocked()?;
    let raw = on_terminal.then(RawMode::set).flatten();
    let session = Session::new(stream, received, on_terminal, begun.name);
    let ended = session.follow(&signals);
    drop(raw);
    ended
}

fn first_answer(stream: &mut UnixStream, received: &mut Received) -> Result<Restarted> {
    let mut buf = vec![0; 16 << 10];
    stream.set_read_timeout(Some(SAVE_MAX))?;
    let first = loop {
        if let Some(message) = received.take::<FromJob>()? {
            break message.what;
        }
        match stream.read(&mut buf)? {
            0 => bail!("its holder has ended"),
            n => received.add(&buf[..n]),
        }
    };
    stream.set_read_timeout(None)?;
    match first {
        Some(from_job::What::Restarted(begun)) => Ok(begun),
        Some(from_job::What::Refused(refused)) => Err(Refusal::from(refused).into()),
        _ => bail!("its holder says what makes no sense"),
    }
}

/// `krg checkpoints`.
pub fn checkpoints(args: &CheckpointsArgs) -> Result<u8> {
    let (app, remove) = match args.remove.as_deref() {
        Some([_, 0]) => bail!("versions are numbered from 1"),
        Some([app, version]) => (*app, *version),
        _ => (args.app.unwrap_or(0), 0),
    };
    let ask = VersionsRequest {
        version: PROTOCOL_VERSION,
        app,
        remove,
        dir: dir(args.dir.as_deref())?,
    };
    let told = daemon::run(daemon::in_time(LOOK_MAX, async {
        Ok(client().await?.versions(ask).await.map_err(|s| said(&s))?.into_inner())
    }))?;
    let VersionsReply { versions, silent } = told;
    if args.json {
        let versions: Vec<Value> = versions.iter().map(as_json).collect();
        println!("{}", json!({ "checkpoints": versions, "silent": silent }));
    } else if remove == 0 {
        let rows: Vec<Vec<String>> = versions.iter().map(row).collect();
        let headings =
            ["APP", "VERSION", "HOME", "UID", "DATE", "SIZE", "FILES", "NAME", "DESCRIPTION"];
        print!("{}", table::render(&headings, &rows));
    }
    for node in silent {
        eprintln!("krg checkpoints: node {node} does not answer: its versions are not shown");
    }
    Ok(0)
}

fn row(version: &Version) -> Vec<String> {
    let Version { app, checkpoint, home, uid, date, bytes, files, .. } = version;
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let words = match version.broken.as_str() {
        "" => clean(&version.description),
        why => format!("(unusable: {})", clean(why)),
    };
    let numbers = [app, checkpoint, home, uid].map(u32::to_string);
    let rest =
        [crate::text::minute(*date), size(*bytes), files.to_string(), clean(&version.name)];
    numbers.into_iter().chain(rest).chain([words]).collect()
}

fn as_json(version: &Version) -> Value {
    json!({
        "app": version.app,
        "version": version.checkpoint,
        "home": version.home,
        "uid": version.uid,
        "name": version.name,
        "command": version.command,
        "date": version.date,
        "bytes": version.bytes,
        "files": version.files,
        "description": version.description,
        "path": version.path,
        "broken": (!version.broken.is_empty()).then_some(&version.broken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_homes_are_in_numbers() {
        let sizes = [1, 2_048, 5 << 20, 3 << 30].map(size);
        assert_eq!(sizes, ["1 KiB", "2 KiB", "5.0 MiB", "3.0 GiB"]);
        assert_eq!([home_of(32_769), home_of(2 << 22 | 7)], [1, 2]);
    }
}
