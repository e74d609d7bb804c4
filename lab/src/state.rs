//! What is known of a lab, kept in its `lab.json`.

use crate::name::{LABS, LabName};
use crate::plan::{Plan, hostname};
use crate::rate::Rate;
use anyhow::{Context, Result, anyhow, bail};
use krg_sys::process::{PidFd, Signal, start_time, stat};
use krg_types::NodeId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A process of the lab as the host numbers it. The start time tells it from a later process
/// with the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proc {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since the host's boot.
    pub start: u64,
}

impl Proc {
    /// The process that has this number now.
    pub fn now(pid: u32) -> Result<Proc> {
        let start = start_time(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Proc { pid, start })
    }

    /// Holds on to it; `None` if it has ended.
    pub fn open(self) -> Result<Option<PidFd>> {
        Ok(PidFd::open_started(self.pid, self.start)?)
    }

    /// Its state letter; `None` if it has ended.
    pub fn state(self) -> Option<char> {
        let stat = stat(self.pid).ok()??;
        (stat.start == self.start && !stat.is_dead()).then_some(stat.state)
    }

    /// Sends it a signal, if it is still there.
    pub fn signal(self, signal: Signal) -> Result<bool> {
        match self.open()? {
            Some(fd) => Ok(fd.signal(signal)?),
            None => Ok(false),
        }
    }
}

/// One node of a lab.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its host name.
    pub hostname: String,
    /// Its address.
    pub address: String,
    /// The process that holds its namespaces, in the host's pid namespace.
    pub boot: Option<Proc>,
    /// Its pid 1.
    pub init: Option<Proc>,
    /// krgd said that it is ready, and has not ended since.
    pub ready: bool,
    /// It is in the cluster: it founded it, or has joined.
    pub member: bool,
    /// Its link is down.
    pub cut: bool,
    /// Its link carries no more than this, either way.
    pub rate: Option<Rate>,
    /// Why its state is kept in a directory and not on a disk of its own.
    pub no_disk: Option<String>,
}

/// A lab.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lab {
    /// Its name.
    pub name: String,
    /// 1 or 2.
    pub links: u32,
    /// Where krg and krgd are.
    pub programs: PathBuf,
    /// The names of older systems that the nodes' PATH offers.
    pub old_names: Vec<String>,
    /// What krgd finds in its environment.
    pub node_env: Vec<(String, String)>,
    /// Every node has clocks of its own.
    pub own_clocks: bool,
    /// The process that owns the links.
    pub keeper: Option<Proc>,
    /// Why no node can have a disk of its own.
    pub no_disks: Option<String>,
    /// The nodes, in the order of their numbers.
    pub nodes: Vec<Node>,
}

impl Lab {
    /// How it is wired.
    pub fn plan(&self) -> Plan {
        Plan { links: self.links }
    }

    /// The nodes that a lab starts with; the first of them founds the cluster.
    pub fn new_nodes(plan: Plan, count: u32) -> Vec<Node> {
        let founder = |n: Node| Node { member: n.id == 1, ..n };
        (1..=count).map(|id| founder(Node::new(plan, id))).collect()
    }

    /// Reads a lab's file.
    pub fn load(name: &LabName) -> Result<Lab> {
        let path = name.dir().join("lab.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(no_lab(name)),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                bail!("the labs of this machine are root's: use sudo")
            }
            Err(e) => return Err(e).context(format!("cannot read {}", path.display())),
        };
        serde_json::from_slice(&text).with_context(|| {
            let option = name.option();
            format!("{} is damaged: end the lab with `krg lab stop{option}`", path.display())
        })
    }

    /// Writes the lab's file: a reader finds the old one or the new one, whole.
    pub fn save(&self, name: &LabName) -> Result<()> {
        let (new, path) = (name.dir().join("lab.json.new"), name.dir().join("lab.json"));
        let write = || {
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            anyhow::Ok(fs::rename(&new, &path)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The node that a user calls `2` or `node2`.
    pub fn node(&self, word: &str) -> Result<&Node> {
        let id = word.parse::<NodeId>().ok().map(NodeId::get);
        self.nodes.iter().find(|n| Some(n.id) == id).ok_or_else(|| {
            let all: Vec<_> = self.nodes.iter().map(|n| n.hostname.as_str()).collect();
            anyhow!("no node `{word}` in lab `{}`: there are {}", self.name, all.join(", "))
        })
    }
}

impl Node {
    /// A node that is not started yet and in no cluster.
    pub fn new(plan: Plan, id: u32) -> Node {
        Node {
            id,
            hostname: hostname(id),
            address: plan.address(id).to_string(),
            boot: None,
            init: None,
            ready: false,
            member: false,
            cut: false,
            rate: None,
            no_disk: None,
        }
    }

    /// It runs, is connected and not stopped: it can be asked to do something for the others.
    pub fn is_up(&self) -> bool {
        let running = |i: Proc| i.state().is_some_and(|s| s != 'T');
        !self.cut && self.init.is_some_and(running)
    }

    /// Its living pid 1, held on to.
    pub fn open_init(&self, lab: &LabName) -> Result<(Proc, PidFd)> {
        let open = |p: Proc| Ok::<_, anyhow::Error>(p.open()?.map(|fd| (p, fd)));
        let init = self.init.map(open).transpose()?.flatten();
        init.with_context(|| {
            let (option, id) = (lab.option(), self.id);
            format!("{} is down: start it with `krg lab heal{option} {id}`", self.hostname)
        })
    }
}

/// The names of the labs that have a directory.
pub fn lab_names() -> Result<Vec<LabName>> {
    let entries = match fs::read_dir(LABS) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).context(format!("cannot read {LABS}")),
    };
    let name = |e: fs::DirEntry| e.file_name().to_str()?.parse().ok();
    let mut names: Vec<LabName> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn no_lab(name: &LabName) -> anyhow::Error {
    let others: Vec<_> =
        lab_names().unwrap_or_default().into_iter().map(|n| n.to_string()).collect();
    let option = name.option();
    if name.dir().exists() {
        return anyhow!("lab `{name}` is half made: end it with `krg lab stop{option}`");
    }
    match others.join(", ") {
        others if others.is_empty() => {
            anyhow!("no lab `{name}` is running: start one with `krg lab start{option}`")
        }
        others => anyhow!(
            "no lab `{name}` is running (there is {others}): start it with \
             `krg lab start{option}`, or choose with --name"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> Lab {
        Lab {
            name: "t".into(),
            links: 1,
            programs: "/x".into(),
            old_names: vec![],
            node_env: vec![("A".into(), "b".into())],
            own_clocks: true,
            keeper: None,
            no_disks: None,
            nodes: Lab::new_nodes(Plan { links: 1 }, 2),
        }
    }

    #[test]
    fn nodes_are_found_by_number_and_name() {
        let lab = lab();
        assert_eq!(lab.node("2").unwrap().id, 2);
        assert_eq!(lab.node("node1").unwrap().id, 1);
        let word = lab.node("3").unwrap_err().to_string();
        assert_eq!(word, "no node `3` in lab `t`: there are node1, node2");
    }

    #[test]
    fn the_first_node_founds_the_cluster() {
        let members: Vec<_> = lab().nodes.iter().map(|n| n.member).collect();
        assert_eq!(members, [true, false]);
    }

    #[test]
    fn goes_to_json_and_back() {
        let text = serde_json::to_string(&lab()).unwrap();
        assert_eq!(serde_json::from_str::<Lab>(&text).unwrap(), lab());
    }

    #[test]
    fn a_process_is_known_by_its_start_time_too() {
        let me = Proc::now(std::process::id()).unwrap();
        assert!(me.state().is_some() && me.open().unwrap().is_some());
        let other = Proc { start: me.start + 1, ..me };
        assert!(other.state().is_none() && other.open().unwrap().is_none());
    }
}
