//! Faults on demand: kill, pause, resume, cut, slow, heal.

use crate::keeper::patience;
use crate::message::{LINE_BYTES_MAX, Reply, Request, line};
use crate::name::LabName;
use crate::rate::Rate;
use crate::scan::node_processes;
use crate::state::{Lab, Node};
use crate::{fill, unstick};
use anyhow::{Context, Result, anyhow, bail};
use krg_sys::process::{PidFd, Signal, Stat};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long the processes of a node may take to end or to stop.
const NODE_MAX: Duration = Duration::from_secs(5);
/// How long the processes of a node take to end when none of them hangs.
const QUICK_END: Duration = Duration::from_millis(150);
/// How much longer the keeper may take to answer than it gives itself.
const KEEPER_MORE: Duration = Duration::from_secs(2);
/// Between two looks at processes that are about to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Switches a node off, as a power cut does.
pub fn kill(name: &LabName, word: &str) -> Result<()> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    let (proc, init) = node.open_init(name)?;
    let boot = node.boot.map(|b| b.open()).transpose()?.flatten();
    init.signal(Signal::SIGKILL)?;
    if !init.wait_end(QUICK_END)? {
        unstick::abort_fuse([proc.pid])?;
    }
    for process in [Some(init), boot].into_iter().flatten() {
        if !process.wait_end(NODE_MAX)? {
            bail!("{} does not end: a process of it hangs in the kernel", node.hostname);
        }
    }
    Ok(())
}

/// Stops every process of a node where it is.
pub fn pause(name: &LabName, word: &str) -> Result<()> {
    let lab = Lab::load(name)?;
    signal_all(lab.node(word)?, name, Signal::SIGSTOP, |s| {
        !s.is_dead() && !matches!(s.state, 'T' | 't')
    })
}

/// Lets a paused node go on.
pub fn resume(name: &LabName, word: &str) -> Result<()> {
    let lab = Lab::load(name)?;
    signal_all(lab.node(word)?, name, Signal::SIGCONT, |s| s.state == 'T')
}

/// Signals the processes that are `due` until none is: new ones may be born meanwhile.
fn signal_all(
    node: &Node,
    name: &LabName,
    signal: Signal,
    due: impl Fn(&Stat) -> bool,
) -> Result<()> {
    let (init, held) = node.open_init(name)?;
    let deadline = Instant::now() + NODE_MAX;
    loop {
        let all = node_processes(init.pid)?;
        let left: Vec<_> = all.iter().filter(|s| due(s)).collect();
        for stat in &left {
            if let Some(process) = PidFd::open_started(stat.pid, stat.start)? {
                process.signal(signal)?;
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let names: Vec<_> = left.iter().map(|s| format!("{} ({})", s.pid, s.name)).collect();
            bail!("{}: still not {signal}: {}", node.hostname, names.join(", "));
        }
        if held.wait_end(LOOK_AGAIN)? {
            bail!("{} has ended", node.hostname);
        }
    }
}

/// Pulls a node's cable.
pub fn cut(name: &LabName, word: &str) -> Result<()> {
    let lab = Lab::load(name)?;
    ask(name, &Request::Cut(lab.node(word)?.id))
}

/// Bounds what a node's link carries, or not any more.
pub fn slow(name: &LabName, word: &str, rate: Option<Rate>) -> Result<()> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    node.open_init(name)?;
    ask(name, &Request::Slow { node: node.id, rate })
}

/// Undoes every fault of a node, and returns when its krgd is ready.
pub fn heal(name: &LabName, word: &str, wait: bool) -> Result<()> {
    let lab = Lab::load(name)?;
    let node = lab.node(word)?;
    // A node that is dead needs no resuming.
    if node.init.is_some_and(|i| i.state() == Some('T')) {
        resume(name, word)?;
    }
    fill::undo(name, node)?;
    ask(name, &Request::Heal { node: node.id, wait })
}

/// Has the keeper do something.
pub fn ask(name: &LabName, request: &Request) -> Result<()> {
    match question(name, request)? {
        Reply::Done | Reply::Added(_) => Ok(()),
        Reply::Error(words) => Err(anyhow!(words)),
    }
}

/// Asks the keeper; its answer.
pub fn question(name: &LabName, request: &Request) -> Result<Reply> {
    let mut stream = UnixStream::connect(name.keeper_socket()).with_context(|| {
        let option = name.option();
        format!("lab `{name}` has lost its keeper: end it with `krg lab stop{option}`")
    })?;
    stream.set_read_timeout(Some(patience(request) + KEEPER_MORE))?;
    stream.write_all(line(request).as_bytes())?;
    let mut text = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX as u64))
        .read_line(&mut text)
        .context("the lab's keeper does not answer")?;
    serde_json::from_str(&text).context("the lab's keeper gave no answer")
}
