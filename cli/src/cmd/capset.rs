//! `krg capset`, and `krgcapset`: what processes may do and have done to them.

mod old;

pub use old::{command as old_command, run as old_run};

use crate::args::CapsetArgs;
use crate::daemon::{self, AGREE_MAX, said};
use crate::table;
use anyhow::{Result, anyhow, bail};
use krg_rpc::local;
use krg_rpc::proto::capability as wire;
use krg_rpc::proto::capability::capability_commands_client::CapabilityCommandsClient;
use krg_types::Capability::{self, ChangeKerrighedCap};
use krg_types::capability::{CapSet, Edit, Edits, Sets};
use krg_types::limits::PROTOCOL_VERSION;
use serde_json::json;
use std::io::{self, BufRead, Write};

/// What Kerrighed asks.
const SURE: &str = "Are you sure you want to loose the capability to change your capabilities \
                    (y/N)";
/// No line of a list is as long as this.
const COLUMNS: usize = 80;
/// Between tab stops.
const TAB: usize = 8;

/// `krg capset`.
pub fn run(args: &CapsetArgs) -> Result<u8> {
    let edits = match edits([
        &args.permitted,
        &args.effective,
        &args.inheritable_permitted,
        &args.inheritable_effective,
    ]) {
        Ok(edits) => edits,
        Err(words) => {
            eprintln!("krg capset: {words}");
            return Ok(2);
        }
    };
    let pid = args.process.as_deref().map_or(Ok(0), process)?;
    let told = |reply: wire::Reply| match reply.errno {
        0 => Ok(reply),
        _ => Err(anyhow!("{}", reply.why)),
    };
    let mut reply = told(ask(pid, None)?)?;
    if edits != Edits::default() {
        if !args.force && !is_sure(&sets(&reply)?, &edits)? {
            eprintln!("krg capset: nothing was changed");
            return Ok(1);
        }
        reply = told(ask(pid, Some(&edits))?)?;
    } else if !args.json {
        print!("{}", rows(&sets(&reply)?));
    }
    if args.json {
        println!("{}", as_json(&reply)?);
    }
    Ok(0)
}

/// A process by its number, or a job by its name.
fn process(word: &str) -> Result<u32> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        let pid = word.parse().ok().filter(|pid| *pid > 0);
        return pid.ok_or_else(|| anyhow!("{word} is not the number of a process"));
    }
    let jobs = super::jobs::everywhere()?.jobs;
    let named: Vec<_> = jobs.iter().filter(|job| job.name == word).collect();
    match named[..] {
        [job] => Ok(job.id),
        [] => bail!("there is no job {word} (krg jobs shows them)"),
        _ => bail!("{} jobs are called {word}: take its number (krg jobs)", named.len()),
    }
}

/// What is to be done to the sets: permitted, effective, and the inheritable ones.
fn edits(words: [&Option<String>; 4]) -> Result<Edits, String> {
    let mut parsed = [None; 4];
    for (edit, word) in parsed.iter_mut().zip(words) {
        *edit = word.as_deref().map(parse).transpose()?;
    }
    let [permitted, effective, inheritable_permitted, inheritable_effective] = parsed;
    Ok(Edits { permitted, effective, inheritable_permitted, inheritable_effective })
}

/// What is to be done to one set, or why that is nothing, in Kerrighed's words.
pub fn parse(word: &str) -> Result<Edit, String> {
    let names: Vec<&str> = Capability::all().map(Capability::name).collect();
    let all = || format!("Authorized capability names are:\n{}", wrapped(&names));
    Edit::parse(word).map_err(|e| format!("{e}\n{}", all().trim_end()))
}

/// Asks krgd: what a process has, after this change if there is one.
fn ask(pid: u32, edits: Option<&Edits>) -> Result<wire::Reply> {
    let edits = edits.map(|edits| wire::Edits {
        permitted: edits.permitted.map(edit),
        effective: edits.effective.map(edit),
        inheritable_permitted: edits.inheritable_permitted.map(edit),
        inheritable_effective: edits.inheritable_effective.map(edit),
    });
    let question = wire::CapsetRequest { version: PROTOCOL_VERSION, pid, edits };
    daemon::run(async {
        let asked = async {
            let channel = local::connect(&daemon::socket()).await?;
            let mut client = CapabilityCommandsClient::new(channel);
            client.capset(question).await.map_err(|s| said(&s))
        };
        Ok(daemon::in_time(AGREE_MAX, asked).await?.into_inner())
    })
}

fn edit(edit: Edit) -> wire::Edit {
    let (how, set) = match edit {
        Edit::Set(set) => (0, set),
        Edit::Add(set) => (1, set),
        Edit::Remove(set) => (2, set),
    };
    wire::Edit { how, bits: set.bits() }
}

fn sets(reply: &wire::Reply) -> Result<Sets> {
    let told = reply.sets.unwrap_or_default();
    let set = |bits| CapSet::from_bits(bits).ok_or_else(|| anyhow!("krgd tells what is no set"));
    Ok(Sets {
        permitted: set(told.permitted)?,
        effective: set(told.effective)?,
        inheritable_permitted: set(told.inheritable_permitted)?,
        inheritable_effective: set(told.inheritable_effective)?,
    })
}

/// Asks whether to go on, if there is no way back.
fn is_sure(old: &Sets, edits: &Edits) -> Result<bool> {
    let new = edits.effective.map_or(old.effective, |edit| edit.apply(old.effective));
    if !old.effective.has(ChangeKerrighedCap) || new.has(ChangeKerrighedCap) {
        return Ok(true);
    }
    print!("{SURE} ");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_start().starts_with(['y', 'Y']))
}

/// Each with its name, as Kerrighed has them.
fn named(sets: &Sets) -> [(&'static str, CapSet); 4] {
    [
        ("Permitted", sets.permitted),
        ("Effective", sets.effective),
        ("Inheritable Permitted", sets.inheritable_permitted),
        ("Inheritable Effective", sets.inheritable_effective),
    ]
}

fn rows(sets: &Sets) -> String {
    let row = |(name, set): (&str, CapSet)| {
        let names: Vec<&str> = set.members().map(Capability::name).collect();
        let names = if names.is_empty() { "-".to_owned() } else { names.join(" ") };
        vec![name.to_ascii_lowercase(), names]
    };
    table::render(&["SET", "CAPABILITIES"], &named(sets).map(row))
}

fn as_json(reply: &wire::Reply) -> Result<serde_json::Value> {
    let sets = sets(reply)?;
    let names = |set: CapSet| set.members().map(Capability::name).collect::<Vec<_>>();
    Ok(json!({
        "node": reply.node,
        "pid": reply.pid,
        "permitted": names(sets.permitted),
        "effective": names(sets.effective),
        "inheritable_permitted": names(sets.inheritable_permitted),
        "inheritable_effective": names(sets.inheritable_effective),
    }))
}

/// Names with commas between them, behind a tab.
fn wrapped(names: &[&str]) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (i, name) in names.iter().enumerate() {
        let comma = if i + 1 < names.len() { "," } else { "" };
        let width = name.len() + comma.len();
        if column > 0 && column + 1 + width >= COLUMNS {
            text.push('\n');
            column = 0;
        }
        match column {
            0 => {
                text.push('\t');
                column = TAB;
            }
            _ => {
                text.push(' ');
                column += 1;
            }
        }
        text += name;
        text += comma;
        column += width;
    }
    if column > 0 {
        text.push('\n');
    }
    text
}
