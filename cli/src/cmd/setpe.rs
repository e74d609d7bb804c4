//! `setpe`: MOSIX's command that gives the nodes their numbers.

use super::nodemap::{self, Entry};
use super::{cluster, join};
use crate::daemon::{self, AGREE_MAX};
use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgGroup, CommandFactory, Parser};
use krg_rpc::proto::control::{Map, MapEntry, MapRequest};
use krg_types::NodeId;
use krg_types::limits::{MAP_ENTRIES_MAX, PROTOCOL_VERSION};
use std::ffi::OsString;
use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Where a map is, the first that is there.
const FILES: [&str; 2] = ["/etc/mosix.map", "/etc/openmosix.map"];
/// A map has 256 short lines; comments may be longer.
const MAP_BYTES_MAX: u64 = 1 << 20;

/// Gives the nodes their numbers (MOSIX's setpe).
#[derive(Parser)]
#[command(name = "setpe", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["set", "set_all", "read", "off"]))]
struct Cli {
    /// Set the map from the file
    #[arg(short = 'w')]
    set: bool,
    /// The same
    #[arg(short = 'W')]
    set_all: bool,
    /// Print the map, or write it to the file of -f
    #[arg(short = 'r')]
    read: bool,
    /// Leave the cluster (also written -off)
    #[arg(long)]
    off: bool,
    /// The file with the map; `-`: standard input or output
    /// [default: /etc/mosix.map, then /etc/openmosix.map]
    #[arg(short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// No effect here: there is no network mask to tell
    #[arg(short = 'n', value_name = "INET")]
    net: Option<String>,
    /// No effect here: a map is always checked
    #[arg(short = 'c')]
    check: bool,
    /// No effect here: a node's number is given by krg join --node
    #[arg(short = 'p', value_name = "ID")]
    own: Option<String>,
    /// No effect here: there are no gateways to count
    #[arg(short = 'g', value_name = "0|1|2")]
    gateways: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  sudo setpe -w -f /etc/mosix.map
  setpe -r
  sudo setpe -off

Lines of a map:
  FIRST-ID HOST COUNT     COUNT nodes, at consecutive addresses from HOST on
  ID ALT-ADDRESS ALIAS    a further address of a node; no effect here
  # ...                   a comment

Exit codes:
  0  done
  1  it failed: the reason is on standard error
  2  the command line is wrong
";

/// The description that its man page is made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs it; returns the exit code.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let long = |arg: OsString| if arg == "-off" { "--off".into() } else { arg };
    let cli = Cli::parse_from(argv.into_iter().map(long));
    let idle = [
        ("-n", cli.net.is_some()),
        ("-c", cli.check),
        ("-p", cli.own.is_some()),
        ("-g", cli.gateways.is_some()),
    ];
    for (option, _) in idle.iter().filter(|(_, given)| *given) {
        eprintln!("setpe: {option} has no effect here");
    }
    if cli.off {
        return join::leave(false);
    }
    if cli.read { read(cli.file.as_deref()) } else { set(cli.file) }
}

fn set(file: Option<PathBuf>) -> Result<u8> {
    let first = || FILES.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(file) = file.or_else(first) else {
        bail!("there is neither {} nor {} (name another: -f FILE)", FILES[0], FILES[1]);
    };
    let name = file.display();
    let map = nodemap::parse(&text(&file)?).map_err(|why| anyhow!("{name}: {why}"))?;
    if map.entries.is_empty() {
        bail!("{name}: the map names no node (to leave the cluster: setpe -off)");
    }
    if !map.aliases.is_empty() {
        eprintln!("setpe: {name}: ALIAS lines have no effect here");
    }
    let entries: Result<Vec<MapEntry>> = map.entries.iter().map(entry).collect();
    let request = Map { version: PROTOCOL_VERSION, entries: entries? };
    cluster::say(&daemon::ask(AGREE_MAX, async |mut krgd| krgd.map_set(request).await)?);
    Ok(0)
}

fn text(file: &Path) -> Result<String> {
    let input: std::io::Result<Box<dyn Read>> = if file == Path::new("-") {
        Ok(Box::new(std::io::stdin().lock()))
    } else {
        std::fs::File::open(file).map(|file| Box::new(file) as Box<dyn Read>)
    };
    let mut bytes = Vec::new();
    let read = input.and_then(|input| input.take(MAP_BYTES_MAX + 1).read_to_end(&mut bytes));
    let read = read.with_context(|| format!("cannot read {}", file.display()))?;
    if read as u64 > MAP_BYTES_MAX {
        bail!("{}: larger than any map ({MAP_BYTES_MAX} bytes)", file.display());
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("{}: not a text", file.display()))
}

/// A host name with more nodes after it stands for its address: names have no successor.
fn entry(entry: &Entry) -> Result<MapEntry> {
    let mut host = entry.host.clone();
    if entry.count > 1 && host.parse::<IpAddr>().is_err() {
        let found = (host.as_str(), 0).to_socket_addrs().ok().and_then(|mut all| all.next());
        let Some(address) = found else {
            bail!("{host} has no address: name the first of the {} addresses", entry.count);
        };
        host = address.ip().to_string();
    }
    Ok(MapEntry { first: entry.first.get(), host, count: entry.count })
}

/// The map that krgd has.
pub fn entries() -> Result<Vec<Entry>> {
    let request = MapRequest { version: PROTOCOL_VERSION };
    let map = daemon::ask(AGREE_MAX, async |mut krgd| krgd.map_get(request).await)?;
    let entry =
        |e: MapEntry| Some(Entry { first: NodeId::new(e.first)?, host: e.host, count: e.count });
    Ok(map.entries.into_iter().take(MAP_ENTRIES_MAX).filter_map(entry).collect())
}

fn read(file: Option<&Path>) -> Result<u8> {
    let text = nodemap::render(&entries()?);
    match file.filter(|f| *f != Path::new("-")) {
        None => print!("{text}"),
        Some(file) => std::fs::write(file, text)
            .with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(0)
}
