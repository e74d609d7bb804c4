//! `krg ps`: ps(1) on the whole cluster. What procps's common options ask for is answered from
//! what the view holds; all else by ps itself, in a session.

mod cell;
mod column;
mod escape;
mod json;
mod look;
mod names;
mod options;
mod print;
mod select;

use super::lab::sibling;
use crate::args::PS_EXAMPLES;
use crate::session;
use anyhow::{Context, Result, bail};
use cell::Printer;
use escape::TEXT_BYTES_MAX;
use krg_sys::{clock, tty};
use look::Look;
use options::{Options, Refusal};
use select::Asker;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Without options: every process, as one wants to see a cluster.
const DEFAULT: [&str; 2] =
    ["axo", "node,user,pid,pcpu,pmem,vsz,rss,tname,stat,start_time,bsdtime,args"];
/// Somebody's data are missing, or old: a node did not answer.
const INCOMPLETE: u8 = 3;
/// Nothing was selected.
const NOTHING: u8 = 1;
/// What makes ps another program.
const PERSONALITIES: [&str; 4] = ["PS_PERSONALITY", "CMD_ENV", "I_WANT_A_BROKEN_PS", "PS_FORMAT"];
/// What is only answered here.
const JSON: &str = "--json";
/// On a terminal, and with `w`.
const WIDE_CELLS: usize = 132;

/// Answers; or runs ps on the view; or shows simulated nodes.
pub fn run(options: &[OsString]) -> Result<u8> {
    let word = |i: usize| options.get(i).and_then(|o| o.to_str());
    match word(0) {
        Some("--simulate") => return simulate(word(1).unwrap_or("3")),
        Some(first) if first.starts_with("--simulate=") => {
            return simulate(first.trim_start_matches("--simulate="));
        }
        Some("--help") if options.len() == 1 => {
            println!("Usage: krg ps [OPTIONS OF PS] [--json]\n       krg ps --simulate N\n");
            println!("ps(1) on the whole cluster; without options, ps aux with the column NODE.");
            print!("{PS_EXAMPLES}");
            return Ok(0);
        }
        _ => {}
    }
    let words: Option<Vec<String>> =
        options.iter().map(|o| o.to_str().map(str::to_owned)).collect();
    let Some(mut words) = words else { return in_session(options) };
    let json = words.iter().any(|word| word == JSON);
    words.retain(|word| word != JSON);
    let only_here = json || words.is_empty() || options::is_of_cluster_only(&words);
    if words.is_empty() {
        words = DEFAULT.map(str::to_owned).into();
    }
    let other = PERSONALITIES.iter().any(|name| std::env::var_os(name).is_some());
    match options::parse(&words) {
        Ok(asked) if only_here || !other => answer(&asked, json, options, only_here),
        Err(Refusal::Wrong | Refusal::Beyond) if only_here => {
            let what = "with --json, node or age";
            bail!("{}: not known {what} (krg ps --help)", words.join(" "))
        }
        _ => in_session(options),
    }
}

/// ps itself.
fn in_session(options: &[OsString]) -> Result<u8> {
    let mut command = vec![OsString::from("ps")];
    match options {
        [] => command.push("aux".into()),
        given => command.extend_from_slice(given),
    }
    session::run(None, &command)
}

/// From what the view holds.
fn answer(asked: &Options, json: bool, options: &[OsString], only_here: bool) -> Result<u8> {
    let terse = !json && !asked.needs_commands();
    let Some(look) = look::look(terse, false)? else {
        // An older krgd's view has no door. ps says what is wrong if there is none at all.
        let view = session::mounted();
        if only_here && !options.is_empty() && view.is_some() {
            bail!("this machine's view does not answer: restart krgd if krg was upgraded");
        }
        return in_session(options);
    };
    let view = if asked.needs_view() { session::mounted() } else { None };
    let printer = Printer::new(&look, asked, view, clock::wall_ns() / 1_000_000_000);
    let chosen = printer.chosen(&look.processes, &asker());
    if json {
        let processes = chosen.iter().map(|(p, _)| printer.process_json(p));
        let all: Vec<_> = processes.chain(look.silent().map(json::silent)).collect();
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        serde_json::to_writer_pretty(&mut out, &all)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        let mut lines = print::Lines::new(&printer, screen(asked));
        lines.header()?;
        for (p, branch) in &chosen {
            lines.process(p, branch)?;
        }
        lines.flush()?;
    }
    let complete = !complain(&look);
    Ok(match chosen.is_empty() {
        _ if !complete => INCOMPLETE,
        true => NOTHING,
        false => 0,
    })
}

/// Names the nodes that did not answer. Is there one?
fn complain(look: &Look) -> bool {
    let with: BTreeSet<u32> = look.processes.iter().map(|p| p.node).collect();
    for node in look.silent() {
        let name = crate::text::printable(&node.hostname);
        let shown = match with.contains(&node.node) {
            true => {
                let age = crate::text::duration(node.age_ms.into());
                format!("its processes are shown as they were {age} ago")
            }
            false => "its processes are not shown".to_owned(),
        };
        eprintln!("krg: node {} ({name}) does not answer: {shown}", node.node);
    }
    look.silent().next().is_some()
}

fn asker() -> Asker {
    let euid = nix::unistd::geteuid().as_raw();
    Asker { euid, tty: krg_sys::process::own_tty() }
}

/// Cells of a line.
fn screen(asked: &Options) -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|n| n.parse().ok());
    let said = said.filter(|n| (1..TEXT_BYTES_MAX).contains(n));
    let cells = said.unwrap_or_else(|| match tty::is_terminal(std::io::stdout()) {
        true => tty::columns().unwrap_or(80),
        false => TEXT_BYTES_MAX,
    });
    match asked.wide {
        0 => asked.width.unwrap_or(cells),
        1 => asked.width.unwrap_or(cells).max(WIDE_CELLS),
        _ => TEXT_BYTES_MAX,
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
