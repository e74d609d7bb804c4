//! The nodes as the keeper knows them: starting, watching, ending them.

use super::Event;
use super::joins::Joins;
use crate::message::{LINE_BYTES_MAX, Reply, Report, Request};
use crate::name::LabName;
use crate::net;
use crate::plan::hostname;
use crate::rate::Rate;
use crate::state::{Lab, Node, Proc};
use anyhow::{Context, Result};
use krg_sys::process::Signal;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// How long a boot process may take to end after its init.
const END_MAX: Duration = Duration::from_secs(1);

/// A node that has a boot process.
struct Live {
    boot: u32,
    /// While it is open, the node lives.
    go: ChildStdin,
}

/// A command that waits for a node.
struct Waiting {
    node: u32,
    krgd: bool,
    reply: oneshot::Sender<Reply>,
}

/// All nodes of the lab.
pub struct Nodes {
    pub(super) name: LabName,
    pub(super) lab: Lab,
    saved: Option<Lab>,
    live: BTreeMap<u32, Live>,
    /// Nodes whose namespaces are there and whose link is not.
    unwired: Vec<u32>,
    /// The first start: the links are made when all nodes are there for them, in one go.
    first: bool,
    /// Why a node cannot start, or its krgd will not be ready.
    failed: BTreeMap<u32, String>,
    waiting: Vec<Waiting>,
    joins: Joins,
    events: mpsc::Sender<Event>,
}

impl Nodes {
    /// No node is started yet.
    pub fn new(name: LabName, lab: Lab, events: mpsc::Sender<Event>) -> Nodes {
        Nodes {
            name,
            lab,
            saved: None,
            live: BTreeMap::new(),
            unwired: Vec::new(),
            first: true,
            failed: BTreeMap::new(),
            waiting: Vec::new(),
            joins: Joins::new(events.clone()),
            events,
        }
    }

    /// Starts every node.
    pub fn start_all(&mut self) {
        let all: Vec<u32> = self.lab.nodes.iter().map(|n| n.id).collect();
        for node in all {
            self.start(node);
        }
    }

    pub(super) fn start(&mut self, node: u32) {
        self.failed.remove(&node);
        if let Err(e) = self.spawn_boot(node) {
            self.failed.insert(node, format!("{e:#}"));
        }
    }

    fn spawn_boot(&mut self, node: u32) -> Result<()> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("krg-lab")
            .args(["boot", "--name", self.name.as_str(), "--node", &node.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a node's boot process")?;
        let boot = child.id();
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (go, out) = pipes.context("a boot process without pipes")?;
        self.live.insert(node, Live { boot, go });
        let proc = Proc::now(boot).ok();
        self.change(node, |n| n.boot = proc);
        let out = pipe::Receiver::from_owned_fd(OwnedFd::from(out))?;
        tokio::spawn(listen(node, boot, out, self.events.clone()));
        Ok(())
    }

    fn change(&mut self, node: u32, change: impl FnOnce(&mut Node)) {
        if let Some(n) = self.lab.nodes.iter_mut().find(|n| n.id == node) {
            change(n);
        }
    }

    fn node(&self, node: u32) -> Option<&Node> {
        self.lab.nodes.iter().find(|n| n.id == node)
    }

    /// Takes in one event.
    pub fn on(&mut self, event: Event) {
        match event {
            // Of a life that is over: what it says is, too.
            Event::Report(node, boot, _)
                if self.live.get(&node).is_none_or(|l| l.boot != boot) => {}
            Event::Report(node, _, report) => self.on_report(node, report),
            Event::Tokens(made_by, Ok(made)) => self.joins.on_tokens(made_by, made),
            Event::Tokens(made_by, Err(words)) => self.no_tokens(made_by, &words),
            // Of a life that is over, again.
            Event::Joined(node, boot, _)
                if self.live.get(&node).is_none_or(|l| l.boot != boot) => {}
            Event::Joined(node, _, joined) => self.on_joined(node, joined),
            Event::Ask(request, reply) => self.on_request(request, reply),
        }
        self.join();
    }

    fn on_request(&mut self, request: Request, reply: oneshot::Sender<Reply>) {
        let done = match request {
            Request::Cut(node) => self.set_link(node, false),
            Request::Slow { node, rate } => self.set_rate(node, rate),
            Request::Forget(node) => self.forget(node),
            Request::Heal { node, wait } => match self.heal(node) {
                Ok(()) => return self.waiting.push(Waiting { node, krgd: wait, reply }),
                Err(e) => Err(e),
            },
            Request::Await { node, krgd } => {
                return self.waiting.push(Waiting { node, krgd, reply });
            }
            Request::Add(count) => match self.add(count) {
                Ok(new) => return drop(reply.send(Reply::Added(new))),
                Err(e) => Err(e),
            },
        };
        // Who asks next finds it so.
        self.save();
        // Who asked may have gone.
        let _ = reply.send(reply_of(done));
    }

    /// Lets those join that can.
    fn join(&mut self) {
        let nodes = self.lab.nodes.iter().filter(|n| !self.failed.contains_key(&n.id));
        self.joins.go_on(self.lab.plan(), &nodes.collect::<Vec<_>>());
    }

    fn no_tokens(&mut self, made_by: u32, words: &str) {
        eprintln!("{}: {words}", hostname(made_by));
        self.joins.on_tokens(made_by, Vec::new());
        let live = self.lab.nodes.iter().filter(|n| !n.member && n.boot.is_some());
        for node in live {
            self.failed.entry(node.id).or_insert_with(|| words.to_owned());
        }
    }

    fn on_joined(&mut self, node: u32, joined: Result<(), String>) {
        self.joins.ended(node);
        match joined {
            Ok(()) => self.change(node, |n| n.member = true),
            Err(words) => {
                eprintln!("{}: {words}", hostname(node));
                self.failed.insert(node, words);
            }
        }
    }

    fn on_report(&mut self, node: u32, report: Report) {
        match report {
            Report::Unshared => {
                self.unwired.push(node);
                if !self.first || self.unwired.len() == self.lab.nodes.len() {
                    self.first = false;
                    self.wire();
                }
            }
            Report::Init(pid) => {
                let init = Proc::now(pid).ok();
                self.change(node, |n| n.init = init);
            }
            Report::NoDisk(words) => {
                eprintln!("{}: no disk: {words}", hostname(node));
                self.change(node, |n| n.no_disk = Some(words));
            }
            Report::Ready => {
                self.failed.remove(&node);
                self.change(node, |n| n.ready = true);
                if self.node(node).is_some_and(|n| n.member) {
                    // Whoever could not join for lack of a member to ask may try again.
                    let alone = |n: &&Node| n.ready && !n.member;
                    for node in self.lab.nodes.iter().filter(alone) {
                        self.failed.remove(&node.id);
                    }
                }
            }
            Report::Ended(words) => {
                eprintln!("{}: {words}", hostname(node));
                self.change(node, |n| n.ready = false);
            }
            Report::Stopped => {
                self.change(node, |n| n.ready = false);
                self.failed.insert(node, "krgd ended in good order and stays down".into());
            }
            Report::Failed(words) => {
                eprintln!("{}: {words}", hostname(node));
                self.failed.insert(node, words);
            }
        }
    }

    fn wire(&mut self) {
        let nodes = std::mem::take(&mut self.unwired);
        let live: Vec<_> =
            nodes.iter().filter_map(|n| Some((*n, self.live.get(n)?.boot))).collect();
        match net::wire(self.lab.plan(), &live) {
            Ok(()) => nodes.iter().for_each(|node| {
                if let Some(live) = self.live.get_mut(node) {
                    // If it has ended, its end is told elsewhere.
                    let _ = live.go.write_all(b"go\n");
                }
            }),
            Err(e) => nodes.iter().for_each(|node| {
                self.failed.insert(*node, format!("{e:#}"));
            }),
        }
    }

    /// Notices the end of a node that was killed just now, before its boot process told.
    pub(super) fn look_again(&mut self, node: u32) -> Result<()> {
        if let Some(Node { init: Some(init), boot: Some(boot), .. }) = self.node(node)
            && init.state().is_none()
            && let Some(boot) = boot.open()?
        {
            boot.wait_end(END_MAX)?;
        }
        self.reap();
        Ok(())
    }

    fn set_link(&mut self, node: u32, up: bool) -> Result<()> {
        self.look_again(node)?;
        let known = self.node(node).with_context(|| format!("there is no node {node}"))?;
        let alive = known.init.is_some();
        if alive {
            net::set_link(node, up)?;
        } else if !up {
            anyhow::bail!("{} is down already", hostname(node));
        }
        self.change(node, |n| n.cut = !up);
        Ok(())
    }

    fn set_rate(&mut self, node: u32, rate: Option<Rate>) -> Result<()> {
        self.look_again(node)?;
        let boot = self.node(node).and_then(|n| n.boot);
        let boot = boot.with_context(|| format!("{} is down", hostname(node)))?;
        net::set_rate(node, boot.pid, rate)?;
        self.change(node, |n| n.rate = rate);
        Ok(())
    }

    fn heal(&mut self, node: u32) -> Result<()> {
        self.set_link(node, true)?;
        if self.node(node).is_some_and(|n| n.rate.is_some()) {
            self.set_rate(node, None)?;
        }
        match self.node(node) {
            Some(Node { init: Some(init), ready: false, .. }) => {
                // Init starts krgd at once, if it does not run.
                let init = *init;
                self.failed.remove(&node);
                init.signal(Signal::SIGUSR1)?;
            }
            // It could not join: now it may.
            Some(Node { init: Some(_), member: false, .. }) => self.clear_failure(node),
            Some(Node { init: None, .. }) if !self.live.contains_key(&node) => self.start(node),
            _ => {}
        }
        Ok(())
    }

    /// Notices which processes have ended: nodes, and orphans of nodes.
    pub fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid().filter(|_| status != WaitStatus::StillAlive) else {
                return;
            };
            let pid = pid.as_raw() as u32;
            let Some(node) = self.live.iter().find(|(_, l)| l.boot == pid).map(|(k, _)| *k)
            else {
                continue;
            };
            self.live.remove(&node);
            self.joins.ended(node);
            self.unwired.retain(|n| *n != node);
            net::unwire(node);
            self.failed.entry(node).or_insert_with(|| "the node has ended".into());
            self.change(node, |n| {
                (n.boot, n.init, n.ready, n.cut, n.rate) = (None, None, false, false, None);
            });
        }
    }

    /// Answers the commands whose node is there, or will not be.
    pub fn answer(&mut self) {
        if !self.waiting.is_empty() {
            // Who is answered finds it so.
            self.save();
        }
        for w in std::mem::take(&mut self.waiting) {
            let there = self.node(w.node).is_some_and(|n| is_there(n, w.krgd));
            match (there, self.failed.get(&w.node)) {
                (true, _) => drop(w.reply.send(Reply::Done)),
                (false, Some(words)) => {
                    let text = format!("{}: {words}", hostname(w.node));
                    let _ = w.reply.send(Reply::Error(text));
                }
                // Who asked has gone: nobody waits any more.
                (false, None) if w.reply.is_closed() => {}
                (false, None) => self.waiting.push(w),
            }
        }
    }

    /// How the start went, once that is known.
    pub fn start_result(&self, wait: bool) -> Option<Reply> {
        if let Some((node, words)) = self.failed.iter().next() {
            return Some(Reply::Error(format!("{}: {words}", hostname(*node))));
        }
        self.lab.nodes.iter().all(|n| is_there(n, wait)).then_some(Reply::Done)
    }

    /// Has the node a boot process?
    pub(super) fn is_live(&self, node: u32) -> bool {
        self.live.contains_key(&node)
    }

    /// What failed may be tried again.
    pub(super) fn clear_failure(&mut self, node: u32) {
        self.failed.remove(&node);
    }

    /// Writes the lab's file if something changed.
    pub fn save(&mut self) {
        if self.saved.as_ref() == Some(&self.lab) {
            return;
        }
        match self.lab.save(&self.name) {
            Ok(()) => self.saved = Some(self.lab.clone()),
            Err(e) => eprintln!("{e:#}"),
        }
    }

    /// Kills every node and waits for the last process.
    pub fn end_all(&mut self) {
        for init in self.lab.nodes.iter().filter_map(|n| n.init) {
            let _ = init.signal(Signal::SIGKILL);
        }
        for boot in self.lab.nodes.iter().filter_map(|n| n.boot) {
            // Its init, if it has one unknown to us, is killed with it.
            let _ = boot.signal(Signal::SIGKILL);
        }
        self.live.clear();
        while !matches!(waitpid(None::<Pid>, None), Err(Errno::ECHILD)) {}
    }
}

/// It runs; with `krgd`, that is ready and a member of the cluster.
fn is_there(node: &Node, krgd: bool) -> bool {
    node.init.is_some() && (!krgd || node.ready && node.member)
}

fn reply_of(done: Result<()>) -> Reply {
    match done {
        Ok(()) => Reply::Done,
        Err(e) => Reply::Error(format!("{e:#}")),
    }
}

/// Brings a node's reports to the keeper until its pipe closes.
async fn listen(node: u32, boot: u32, out: pipe::Receiver, events: mpsc::Sender<Event>) {
    let mut out = BufReader::new(out);
    let mut text = Vec::new();
    loop {
        text.clear();
        let mut bounded = (&mut out).take(LINE_BYTES_MAX as u64);
        match bounded.read_until(b'\n', &mut text).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        let report = serde_json::from_slice(&text)
            .unwrap_or_else(|_| Report::Failed(String::from_utf8_lossy(&text).into_owned()));
        if events.send(Event::Report(node, boot, report)).await.is_err() {
            return;
        }
    }
}
