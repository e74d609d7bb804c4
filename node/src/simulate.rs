//! `krg ps --simulate N`: the real sampling, gathering, merging and rendering, with N nodes in
//! this one process, each of which shows this machine's own processes. Needs no root, no FUSE.

pub mod nodes;
pub mod view;

use anyhow::{Context, Result};
use krg_cluster::Members;
use krg_cluster::probe::{self, Asking};
use krg_cluster::serve::Service;
use krg_procview::fs::{Fs, Named};
use krg_procview::gather::Gather;
use krg_procview::inode::{Item, ROOT, Who};
use krg_procview::live::Live;
use krg_procview::render::stat;
use krg_procview::sample::{NoJobs, Sampler};
use krg_procview::serve;
use krg_rpc::dial::Plain;
use krg_rpc::peers::Peers;
use krg_rpc::pool;
use krg_rpc::proto::member::member_server::MemberServer;
use krg_rpc::proto::proc::NodeFacts;
use krg_sys::caller::Asker;
use krg_sys::clock::{boot_ns, page_size, ticks_per_s, wall_ns};
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::{MemberId, NodeId, PidFile};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The name of a cluster that is not there.
const CLUSTER: &str = "simulated";
/// All nodes are of this process: they are there at once, or something is wrong.
const START_MAX: Duration = Duration::from_secs(10);

/// Prints one table of the processes of `count` simulated nodes.
pub fn print(count: u32) -> Result<()> {
    // `krg ps --simulate 3 | head` ends quietly.
    krg_sys::process::default_sigpipe();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = runtime.block_on(table(count))?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    print!("{table}");
    Ok(())
}

async fn table(count: u32) -> Result<String> {
    let procfs = Arc::new(Procfs::open(HidePid::default()).context("cannot open /proc")?);
    let mut nodes = Vec::new();
    for id in (1..=count).filter_map(NodeId::new) {
        let address = node(id, procfs.clone()).await?.to_string();
        nodes.push((MemberId::new(id, 1), address));
    }
    let members = meet(&nodes).await?;
    let gather = Gather::start(members, Duration::from_secs(60));
    let fs = Fs::new(gather, procfs, Path::new("/proc"));
    render(&fs, count).await
}

/// They know each other, and all of them answer.
async fn meet(nodes: &[(MemberId, String)]) -> Result<Arc<Members>> {
    let own = nodes.first().and_then(|(member, _)| member.node()).context("no nodes")?;
    let members = Arc::new(Members::new(own, CLUSTER, Arc::new(Plain)));
    members.set(nodes);
    let mut changes = members.changes();
    let asking = Asking { incarnation: 0, boot_ns, wall_ns };
    tokio::spawn(probe::run(members.clone(), asking, Duration::from_secs(1)));
    let all =
        async { while members.online() < nodes.len() && changes.changed().await.is_ok() {} };
    tokio::time::timeout(START_MAX, all).await.context("the simulated nodes do not answer")?;
    Ok(members)
}

/// One node: its two services on a port of this machine's own loopback.
async fn node(id: NodeId, procfs: Arc<Procfs>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let hostname = format!("node{id}");
    let cluster: Arc<str> = CLUSTER.into();
    let facts = NodeFacts {
        node: id.get(),
        hostname: hostname.clone(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        ticks_per_s: ticks_per_s(),
        page_size: page_size(),
        ..NodeFacts::default()
    };
    let sampler = Sampler::new(procfs.clone(), NoJobs);
    let view =
        serve::Service { cluster: cluster.clone(), facts, sampler, live: Live::start(procfs)? };
    let identity = Service {
        node: id,
        cluster,
        hostname,
        incarnation: wall_ns(),
        boot_ns,
        wall_ns,
        release: String::new(),
        members: None,
        duties: None,
    };
    let server = pool::server()
        .add_service(MemberServer::new(identity))
        .add_service(serve::server(view))
        .serve_with_incoming(pool::incoming(listener));
    tokio::spawn(server);
    Ok(address)
}

async fn render(fs: &Fs, count: u32) -> Result<String> {
    let asker = Asker { uid: nix::unistd::geteuid().as_raw(), gid: 0, tid: 0 };
    let root = Item::from_ino(ROOT).context("a view has a root")?;
    let names = fs.list(root, &asker).await?;
    let mut out = format!("{count} simulated nodes, each with this machine's processes\n");
    writeln!(out, "USER       NODE       PID      PPID STAT      RSS     TIME COMMAND")?;
    for named in &names {
        // One that ended since the list was made has no line.
        if let Some(line) = line(fs, named, &asker).await {
            out += &line;
        }
    }
    Ok(out)
}

async fn line(fs: &Fs, named: &Named, asker: &Asker) -> Option<String> {
    let Item::Process(who @ Who::Process(pid, _)) = named.attr.item else { return None };
    let text = fs.text(Item::PidFile(who, PidFile::Stat), asker).await.ok()?;
    let stat = stat::parse(&text)?;
    let cmdline = fs.text(Item::PidFile(who, PidFile::Cmdline), asker).await.ok()?;
    let command = match cmdline.is_empty() {
        true => format!("[{}]", String::from_utf8_lossy(stat.comm)),
        false => String::from_utf8_lossy(&cmdline).trim_end_matches('\0').replace('\0', " "),
    };
    let seconds = (stat.utime + stat.stime) / u64::from(ticks_per_s());
    let rss_kib = stat.rss.saturating_mul(u64::from(page_size())) / 1024;
    let time = format!("{}:{:02}", seconds / 60, seconds % 60);
    Some(format!(
        "{:<9} {:>5} {:>9} {:>9} {:<4} {:>8} {:>8} {}\n",
        user(named.attr.uid),
        pid.node(),
        pid,
        stat.ppid,
        char::from(stat.state),
        rss_kib,
        time,
        plain(&command),
    ))
}

fn user(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |u| u.name);
    name.chars().take(9).collect()
}

/// A process's words never reach the terminal as control codes.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_show_this_process_three_times() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let table = runtime.block_on(table(3)).unwrap();
        let me = std::process::id();
        for node in 1..=3u32 {
            let pid = (node << 22 | me).to_string();
            let rows = table.lines().filter(|l| l.split_whitespace().nth(2) == Some(&*pid));
            assert_eq!(rows.count(), 1, "node {node}:\n{table}");
        }
    }

    #[test]
    fn control_codes_are_not_printed() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{9b}"), "a?[31mb?c?");
    }
}
