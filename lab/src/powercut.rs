//! `krg lab powercut`: a node ends at once and keeps what had reached its disk, no more.

use crate::fault;
use crate::fill::need_disk;
use crate::image::Moment;
use crate::name::LabName;
use crate::scan::processes_of;
use crate::state::{Lab, Node};
use anyhow::{Context, Result, anyhow, bail};
use krg_sys::process::{PidFd, Signal, Stat};
use std::fs;
use std::time::{Duration, Instant};

/// How long processes may take to stop. One that waits in the kernel does not stop; it does
/// nothing either.
const STOP_MAX: Duration = Duration::from_secs(1);

/// Cuts one node's power, or that of all nodes that are up.
pub fn run(name: &LabName, word: Option<&str>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab is root's: use sudo");
    }
    let lab = Lab::load(name)?;
    let nodes: Vec<&Node> = match word {
        Some(word) => vec![lab.node(word)?],
        None => {
            lab.nodes.iter().filter(|n| n.init.is_some_and(|i| i.state().is_some())).collect()
        }
    };
    for node in &nodes {
        need_disk(node)?;
        node.open_init(name)?;
    }
    if nodes.is_empty() {
        bail!("all nodes of lab `{name}` are down already");
    }
    stop(&nodes)?;
    let saved = in_parallel(&nodes, |node| {
        Moment::take(&name.disk(node.id))?.save(&cut_disk(name, node))
    });
    if let Err(e) = saved {
        // Nothing has been harmed: they go on.
        let resumed = in_parallel(&nodes, |node| fault::resume(name, &node.hostname));
        return resumed.and(Err(e));
    }
    // Only when the last process has ended may the disk be changed behind them. Whatever the
    // kernel still writes goes to the old image, which nobody sees any more.
    in_parallel(&nodes, |node| {
        fault::kill(name, &node.hostname)?;
        let swapped = fs::rename(cut_disk(name, node), name.disk(node.id));
        swapped.with_context(|| format!("{}: cannot change its disk", node.hostname))
    })
}

fn cut_disk(name: &LabName, node: &Node) -> std::path::PathBuf {
    name.disk(node.id).with_extension("cut")
}

/// Stops every process of the nodes. New ones may be born meanwhile: until none is left.
fn stop(nodes: &[&Node]) -> Result<()> {
    let inits: Vec<u32> = nodes.iter().filter_map(|n| n.init).map(|i| i.pid).collect();
    let waits = |s: &Stat| s.is_dead() || matches!(s.state, 'T' | 't' | 'D');
    let begin = Instant::now();
    loop {
        let all = processes_of(&inits)?;
        let left: Vec<_> = all.iter().filter(|s| !waits(s)).collect();
        for stat in all.iter().filter(|s| !s.is_dead()) {
            if let Some(process) = PidFd::open_started(stat.pid, stat.start)? {
                process.signal(Signal::SIGSTOP)?;
            }
        }
        if left.is_empty() || begin.elapsed() > STOP_MAX {
            return Ok(());
        }
    }
}

/// Does it for every node at the same time; the first failure.
fn in_parallel(nodes: &[&Node], work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let all: Vec<_> = nodes.iter().map(|node| scope.spawn(move || work(node))).collect();
        let done = |t: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            t.join().unwrap_or_else(|_| Err(anyhow!("a part of the power cut failed")))
        };
        // All of them are waited for, whatever the first says.
        let done: Vec<_> = all.into_iter().map(done).collect();
        done.into_iter().collect()
    })
}
