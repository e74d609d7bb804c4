//! `krg lab add` and `krg lab remove`: nodes that come and go while the lab runs.

use crate::control::Krgd;
use crate::fault::{ask, kill, question};
use crate::message::{Reply, Request};
use crate::name::LabName;
use crate::print::print;
use crate::state::{Lab, Node};
use crate::{disk, memory, online};
use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// How long the nodes may take to see each other when all of them are there.
const SEE_MAX: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Added {
    name: String,
    added: Vec<u32>,
}

/// Adds nodes; returns when they are in the cluster and all nodes see each other.
pub fn add(name: &LabName, count: u32, wait: bool, json: bool) -> Result<()> {
    // An error of its own for a lab that is not there.
    Lab::load(name)?;
    memory::check(count)?;
    let added = match question(name, &Request::Add(count))? {
        Reply::Added(nodes) => nodes,
        Reply::Error(words) => bail!(words),
        Reply::Done => bail!("the lab's keeper gave no answer"),
    };
    let there = there(name, &added, wait);
    there.with_context(|| {
        let (list, option) = (words(&added), name.option());
        let first = added.first().copied().unwrap_or_default();
        format!(
            "added {list}, and not all is in order (`krg lab remove{option} {first}` undoes it)"
        )
    })?;
    if json {
        let view = Added { name: name.to_string(), added };
        print(&(serde_json::to_string_pretty(&view)? + "\n"));
    } else {
        print(&(words(&added) + "\n"));
    }
    Ok(())
}

fn words(nodes: &[u32]) -> String {
    nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn there(name: &LabName, added: &[u32], wait: bool) -> Result<()> {
    for node in added {
        // They come up side by side, whoever is asked for first.
        ask(name, &Request::Await { node: *node, krgd: wait })?;
    }
    if wait {
        let up = Lab::load(name)?.nodes.into_iter().filter(|n| n.member && n.ready && n.is_up());
        runtime()?.block_on(online::wait_all(up.collect(), Instant::now() + SEE_MAX))?;
    }
    Ok(())
}

/// Takes a node out of the cluster, and out of the lab.
pub fn remove(name: &LabName, word: &str) -> Result<()> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    if lab.nodes.len() == 1 {
        let option = name.option();
        bail!("{} is the last node: end the lab with `krg lab stop{option}`", node.hostname);
    }
    if node.member {
        runtime()?.block_on(leave(&lab, node))?;
    }
    if node.init.is_some_and(|i| i.state().is_some()) {
        kill(name, word)?;
    }
    disk::wait_released(&name.disk(node.id))?;
    ask(name, &Request::Forget(node.id))
}

/// Has the others take a node out of their cluster.
async fn leave(lab: &Lab, node: &Node) -> Result<()> {
    let others = lab.nodes.iter().filter(|n| n.id != node.id && n.member);
    let mut last = anyhow!("no other node of the cluster is up");
    for other in others.filter(|n| n.ready && n.is_up()) {
        // The next one may know better who leads.
        let mut krgd = match Krgd::connect(other).await {
            Ok(krgd) => krgd,
            Err(e) => {
                last = e;
                continue;
            }
        };
        match krgd.remove(node.id).await {
            Ok(()) => return Ok(()),
            Err(e) => last = e,
        }
    }
    Err(last).with_context(|| format!("{} stays in the cluster", node.hostname))
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
