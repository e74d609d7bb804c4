//! The lab's links: bridges in the keeper's network namespace, a veth pair for each node.

use crate::plan::{Plan, hardware_address};
use crate::rate::Rate;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Makes the bridges, in this process's network namespace.
pub fn make_links(plan: Plan) -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for link in 1..=plan.links {
        let gateway = Plan::gateway(link);
        let _ = write!(
            batch,
            "link add br{link} type bridge\naddr add {gateway}/24 dev br{link}\n\
             link set br{link} up\n"
        );
    }
    ip(&batch)?;
    if plan.links > 1 {
        // This file is the one of the namespace of the process that opens it.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .context("cannot make the two links route to each other")?;
    }
    Ok(())
}

/// Wires nodes (number and boot process, which has its namespaces already), all in one call.
pub fn wire(plan: Plan, nodes: &[(u32, u32)]) -> Result<()> {
    let mut batch = String::new();
    for (node, boot) in nodes {
        let (link, mac) = (plan.link_of(*node), hardware_address(*node));
        let _ = write!(
            batch,
            "link add v{node} type veth peer name eth0 address {mac} netns {boot}\n\
             link set v{node} master br{link} up\n"
        );
    }
    ip(&batch)
}

/// Removes what a dead node left on the bridge: the kernel does so too, but later.
pub fn unwire(node: u32) {
    // It fails when the kernel was first, and then all is well.
    let _ = ip(&format!("link del v{node}\n"));
}

/// Takes a node's link down or up at the bridge: the node sees a pulled cable, and keeps its
/// addresses and routes.
pub fn set_link(node: u32, up: bool) -> Result<()> {
    ip(&format!("link set v{node} {}\n", if up { "up" } else { "down" }))
}

/// Sets up a node's side, in its network namespace.
pub fn configure_node(plan: Plan, node: u32) -> Result<()> {
    let address = plan.address(node);
    let mut batch = format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n");
    // The kernel keeps one table of neighbours for all namespaces, of 1024 entries: a lab of 64
    // would overflow it. What is said here, once and for all, does not count.
    for other in plan.neighbours(node) {
        let (address, mac) = (plan.address(other), hardware_address(other));
        let _ = writeln!(batch, "neigh replace {address} lladdr {mac} dev eth0 nud permanent");
    }
    if plan.links > 1 {
        let gateway = Plan::gateway(plan.link_of(node));
        let _ = writeln!(batch, "route add default via {gateway}");
    }
    ip(&batch)
}

/// Bounds what a node's link carries, either way: at the bridge for what comes to the node, in the
/// network namespace of its boot process for what it sends.
pub fn set_rate(node: u32, boot: u32, rate: Option<Rate>) -> Result<()> {
    let space = format!("--net=/proc/{boot}/ns/net");
    let inside = ["nsenter", &space, "--", "tc"];
    let Some(rate) = rate else {
        // It fails where there is nothing to undo, and then all is well.
        let _ = batch(&["tc"], &format!("qdisc del dev v{node} root\n"));
        let _ = batch(&inside, "qdisc del dev eth0 root\n");
        return Ok(());
    };
    let words = rate.token_bucket();
    batch(&["tc"], &format!("qdisc replace dev v{node} root {words}\n"))?;
    batch(&inside, &format!("qdisc replace dev eth0 root {words}\n"))
}

/// Runs `ip` commands in this process's network namespace.
fn ip(commands: &str) -> Result<()> {
    batch(&["ip"], commands)
}

/// Has a tool of iproute2 run commands.
fn batch(tool: &[&str], commands: &str) -> Result<()> {
    let name = tool.last().copied().unwrap_or_default();
    let mut child = Command::new(tool[0])
        .args(&tool[1..])
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`: install iproute2 and util-linux", tool[0]))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ends early, its own words tell why.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let out = child.wait_with_output().with_context(|| format!("cannot wait for `{name}`"))?;
    if !out.status.success() {
        bail!("`{name}` failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
