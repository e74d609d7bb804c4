//! Nodes and processes with what changed between two looks at them: shares of processors, bytes
//! per second.

use super::source::Snapshot;
use krg_rpc::proto::view::{ViewNode, ViewProcess};
use std::collections::HashMap;

/// Two looks nearer to each other make no rate: a tick would be too large a part of them.
const RATE_MS_MIN: u64 = 90;
/// What has not been told for so long is marked, ms.
pub const STALE_MS: u32 = 5_000;
/// PF_KTHREAD of the kernel's flags.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A process, as long as it lives: numbers are used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Its cluster pid.
    pub pid: u32,
    /// When it started, ticks after its node's boot.
    pub start: u64,
}

/// A node, and what it does.
#[derive(Clone, Default, Debug)]
pub struct Node {
    /// As the viewer told it.
    pub view: ViewNode,
    /// Busy share of all its processors, 0 to 1; none before there were two looks.
    pub busy: Option<f64>,
    /// Received and sent, bytes per second.
    pub net: Option<(f64, f64)>,
    /// Processes there, and those that run or could.
    pub tasks: (u32, u32),
}

/// How what is known of a node is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It answers.
    Good,
    /// These are its last known values.
    Stale,
    /// It is down, and nothing is known.
    Dead,
}

impl Node {
    /// What its state and its age say.
    pub fn health(&self) -> Health {
        let view = &self.view;
        match (view.answered, view.state.as_str()) {
            (_, "down") => Health::Dead,
            (false, _) if view.age_ms == u32::MAX => Health::Dead,
            (false, _) => Health::Stale,
            (true, _) if view.age_ms > STALE_MS => Health::Stale,
            (true, _) => Health::Good,
        }
    }

    /// Load of the last minute.
    pub fn load(&self) -> f64 {
        f64::from(self.view.load_hundredths.first().copied().unwrap_or(0)) / 100.0
    }

    /// Bytes of memory in use, and in all: what is not available is in use, as free(1) has it.
    pub fn memory(&self) -> (u64, u64) {
        let ViewNode { mem_total_kib: total, mem_available_kib: free, .. } = self.view;
        (total.saturating_sub(free).saturating_mul(1024), total.saturating_mul(1024))
    }

    /// Bytes of swap in use, and in all.
    pub fn swap(&self) -> (u64, u64) {
        let ViewNode { swap_total_kib: total, swap_free_kib: free, .. } = self.view;
        (total.saturating_sub(free).saturating_mul(1024), total.saturating_mul(1024))
    }
}

/// A process, and what it does.
#[derive(Clone, Default, Debug)]
pub struct Process {
    /// As the viewer told it.
    pub view: ViewProcess,
    /// Percent of one processor since the look before.
    pub cpu: f64,
    /// Percent of its node's memory.
    pub mem: f64,
    /// Of memory, bytes.
    pub resident: u64,
    /// Of memory that others may have, too, bytes.
    pub shared: u64,
    /// Ticks of its node in a second.
    pub ticks_per_s: u32,
}

impl Process {
    /// Which one it is.
    pub fn key(&self) -> Key {
        Key { pid: self.view.pid, start: self.view.start_ticks }
    }

    /// Processor time it has had, ticks.
    pub fn ticks(&self) -> u64 {
        self.view.utime_ticks.saturating_add(self.view.stime_ticks)
    }

    /// The letter of its state.
    pub fn state(&self) -> char {
        let letter = u8::try_from(self.view.state).ok().filter(u8::is_ascii_alphabetic);
        char::from(letter.unwrap_or(b'?'))
    }

    /// Does it run the kernel's code only?
    pub fn is_kernel(&self) -> bool {
        self.view.flags & KERNEL_THREAD != 0
    }
}

/// What was told last, with rates.
#[derive(Default, Debug)]
pub struct Table {
    /// The cluster's name.
    pub cluster: String,
    /// By their numbers.
    pub nodes: Vec<Node>,
    /// In the viewer's order.
    pub processes: Vec<Process>,
    /// Of a node that answers there was nothing new in the last look.
    pub waits: bool,
    /// What the rates are measured from: for each node a look, and its processes' ticks then.
    bases: HashMap<u32, Base>,
    ticks: HashMap<Key, u64>,
}

#[derive(Clone, Default, Debug)]
struct Base {
    view: ViewNode,
    busy: Option<f64>,
    net: Option<(f64, f64)>,
}

impl Table {
    /// Takes the next look.
    pub fn update(&mut self, snapshot: Snapshot) {
        let Snapshot { cluster, mut nodes, processes } = snapshot;
        self.cluster = cluster;
        nodes.sort_by_key(|node| node.node);
        let known: HashMap<Key, f64> = self.processes.iter().map(|p| (p.key(), p.cpu)).collect();
        let mut spans: HashMap<u32, Span> = HashMap::new();
        let (mut rows, mut waits) = (Vec::with_capacity(nodes.len()), false);
        for view in nodes {
            let (node, span) = self.node(view);
            waits |= node.health() == Health::Good && span.ms.is_none();
            spans.insert(node.view.node, span);
            rows.push(node);
        }
        let mut ticks = HashMap::with_capacity(processes.len());
        let mut listed = Vec::with_capacity(processes.len());
        let none = Span::default();
        for view in processes {
            let span = spans.get(&view.node).unwrap_or(&none);
            let mut process = span.process(view);
            let (key, now) = (process.key(), process.ticks());
            let before = self.ticks.get(&key).copied();
            process.cpu = match (span.ms, before) {
                (Some(ms), Some(before)) => span.percent(now.saturating_sub(before), ms),
                (Some(ms), None) if span.is_older(&process, ms) => 0.0,
                // It began within the span, and so did all that it has had.
                (Some(ms), None) => span.percent(now, ms),
                (None, _) if span.begins => 0.0,
                (None, _) => known.get(&key).copied().unwrap_or(0.0),
            };
            // The base stays where no rate could be made.
            let anew = span.begins || span.ms.is_some();
            ticks.insert(key, before.filter(|_| !anew).unwrap_or(now));
            listed.push(process);
        }
        for process in &listed {
            let row = rows.binary_search_by_key(&process.view.node, |node| node.view.node);
            if let Some(node) = row.ok().and_then(|at| rows.get_mut(at)) {
                node.tasks.0 += 1;
                node.tasks.1 += u32::from(process.state() == 'R');
            }
        }
        self.waits = waits;
        (self.nodes, self.processes, self.ticks) = (rows, listed, ticks);
    }

    /// A node with its rates, and the time that they are over.
    fn node(&mut self, view: ViewNode) -> (Node, Span) {
        let base = self.bases.get(&view.node);
        let before = base.map_or(&view, |base| &base.view);
        let ms = looked_ms(&view).checked_sub(looked_ms(before));
        let ms = ms.filter(|ms| *ms >= RATE_MS_MIN && base.is_some() && before.answered);
        // A clock that went back is one of another boot.
        let rebooted = view.uptime_ms < before.uptime_ms;
        let begins = base.is_none() || rebooted || !before.answered;
        let span = Span { begins, ..Span::of(&view, ms) };
        let (busy, net) = match (ms, base) {
            (Some(ms), _) => (busy(before, &view), net(before, &view, ms)),
            (None, Some(base)) if !begins => (base.busy, base.net),
            _ => (None, None),
        };
        if ms.is_some() || begins {
            let base = Base { view: view.clone(), busy, net };
            self.bases.insert(view.node, base);
        }
        (Node { view, busy, net, tasks: (0, 0) }, span)
    }
}

/// When the node was looked at, by its own clock: it may be asked again before that is done anew.
fn looked_ms(view: &ViewNode) -> u64 {
    view.uptime_ms.saturating_sub(view.age_ms.into())
}

fn busy(before: &ViewNode, now: &ViewNode) -> Option<f64> {
    let all = now.cpu_all_ticks.checked_sub(before.cpu_all_ticks).filter(|all| *all > 0)?;
    let busy = now.cpu_busy_ticks.saturating_sub(before.cpu_busy_ticks);
    Some((busy as f64 / all as f64).min(1.0))
}

fn net(before: &ViewNode, now: &ViewNode, ms: u64) -> Option<(f64, f64)> {
    let rate = |before: u64, now: u64| {
        let more = now.checked_sub(before)?;
        Some(more as f64 * 1_000.0 / ms as f64)
    };
    Some((rate(before.rx_bytes, now.rx_bytes)?, rate(before.tx_bytes, now.tx_bytes)?))
}

/// What a node's processes are measured with.
#[derive(Default)]
struct Span {
    ms: Option<u64>,
    /// There is no look before that it could be measured from.
    begins: bool,
    ticks_per_s: u32,
    page: u64,
    memory: u64,
    cpus: u32,
    uptime_ms: u64,
}

impl Span {
    fn of(node: &ViewNode, ms: Option<u64>) -> Span {
        Span {
            ms,
            begins: false,
            ticks_per_s: node.ticks_per_s,
            page: u64::from(node.page_size),
            memory: node.mem_total_kib.saturating_mul(1024),
            cpus: node.cpus.max(1),
            uptime_ms: node.uptime_ms,
        }
    }

    /// A process, but for its processor's share.
    fn process(&self, view: ViewProcess) -> Process {
        let resident = view.rss_pages.saturating_mul(self.page);
        let shared = view.shared_pages.saturating_mul(self.page);
        let mem = 100.0 * resident as f64 / self.memory.max(1) as f64;
        let ticks_per_s = self.ticks_per_s;
        Process { view, cpu: 0.0, mem: mem.min(100.0), resident, shared, ticks_per_s }
    }

    /// Of one processor; the clocks of ticks and of the span are not the same, so no more than all.
    fn percent(&self, ticks: u64, ms: u64) -> f64 {
        let all = f64::from(self.ticks_per_s.max(1)) * ms as f64 / 1_000.0;
        (100.0 * ticks as f64 / all).min(100.0 * f64::from(self.cpus))
    }

    /// Was it there before the span began, with a second's doubt? Then it was not told before.
    fn is_older(&self, process: &Process, ms: u64) -> bool {
        let start = u128::from(process.view.start_ticks) * 1_000;
        let start = start / u128::from(self.ticks_per_s.max(1));
        start + u128::from(ms) + 1_000 < u128::from(self.uptime_ms)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A node of two processors at a time of its own.
    pub fn node(number: u32, uptime_ms: u64) -> ViewNode {
        ViewNode {
            node: number,
            hostname: format!("node{number}"),
            state: "online".into(),
            answered: true,
            cpus: 2,
            ticks_per_s: 100,
            page_size: 4096,
            load_hundredths: vec![number * 50, 30, 20],
            mem_total_kib: 8 << 20,
            mem_available_kib: 6 << 20,
            mem_free_kib: 1 << 20,
            swap_total_kib: 1 << 20,
            swap_free_kib: 1 << 20,
            uptime_ms,
            cpu_busy_ticks: uptime_ms / 20,
            cpu_all_ticks: uptime_ms / 5,
            rx_bytes: uptime_ms * 3,
            tx_bytes: uptime_ms,
            here: number == 1,
            ..ViewNode::default()
        }
    }

    /// A process of a node that has had so many ticks.
    pub fn process(node: u32, local: u32, ticks: u64) -> ViewProcess {
        ViewProcess {
            node,
            pid: node << 22 | local,
            local_pid: local,
            ppid: if local > 1 { node << 22 | 1 } else { 0 },
            state: u32::from(b'S'),
            comm: b"sleep".to_vec(),
            cmdline: format!("sleep\0{local}\0").into_bytes(),
            utime_ticks: ticks,
            start_ticks: 500,
            rss_pages: 512,
            threads: 1,
            ..ViewProcess::default()
        }
    }

    /// A look at these.
    pub fn look(nodes: Vec<ViewNode>, processes: Vec<ViewProcess>) -> Snapshot {
        Snapshot { cluster: "barn".into(), nodes, processes }
    }

    #[test]
    fn rates_are_over_the_nodes_own_time() {
        let mut table = Table::default();
        let look = |ms, ticks| {
            look(
                vec![node(2, 100_000), node(1, ms)],
                vec![process(1, 7, ticks), process(2, 7, 50)],
            )
        };
        table.update(look(10_000, 100));
        assert_eq!((table.nodes[0].busy, table.processes[0].cpu), (None, 0.0));
        table.update(look(12_000, 150));
        let first = &table.nodes[0];
        assert_eq!((first.view.node, first.busy, first.net), (1, Some(0.25), Some((3e3, 1e3))));
        assert_eq!((table.processes[0].cpu, table.processes[1].cpu), (25.0, 0.0));
        // The same look once more: what was known stays.
        let mut again = look(12_700, 150);
        (again.nodes[1].age_ms, again.nodes[1].cpu_busy_ticks) = (700, 600);
        table.update(again);
        assert_eq!((table.nodes[0].busy, table.processes[0].cpu), (Some(0.25), 25.0));
        assert!(table.waits);
        // Too near for a rate: the next one is over both.
        table.update(look(12_050, 155));
        assert_eq!(table.processes[0].cpu, 25.0);
        table.update(look(12_100, 155));
        assert_eq!(table.processes[0].cpu, 50.0);
        assert_eq!(table.nodes[0].tasks, (1, 0));
        assert_eq!(
            (table.processes[0].resident, table.processes[0].mem),
            (2 << 20, 100.0 / 4096.0)
        );
    }

    #[test]
    fn who_came_between_two_looks_has_had_all_in_between() {
        let mut table = Table::default();
        table.update(look(vec![node(1, 10_000)], vec![]));
        let young = ViewProcess { start_ticks: 1_050, ..process(1, 8, 50) };
        let old = process(1, 9, 90);
        table.update(look(vec![node(1, 12_000)], vec![young, old]));
        let shares: Vec<f64> = table.processes.iter().map(|p| p.cpu).collect();
        assert_eq!(shares, [25.0, 0.0], "an old one was only not told of before");
        // The same number, another process.
        let other = ViewProcess { start_ticks: 1_300, ..process(1, 8, 10) };
        table.update(look(vec![node(1, 14_000)], vec![other]));
        assert_eq!(table.processes[0].cpu, 5.0);
    }

    #[test]
    fn a_boot_begins_anew_and_silence_is_told() {
        let mut table = Table::default();
        let mut after = |node: ViewNode, ticks| {
            table.update(look(vec![node], vec![process(1, 7, ticks)]));
            (table.nodes[0].clone(), table.processes[0].cpu)
        };
        after(node(1, 90_000), 1_000);
        assert_eq!(after(node(1, 91_000), 1_100).1, 100.0);
        let (anew, cpu) = after(node(1, 2_000), 10);
        assert_eq!((anew.busy, anew.net), (None, None));
        assert!(cpu <= 200.0);
        assert_eq!(after(node(1, 3_000), 60).1, 50.0);
        let stale =
            ViewNode { state: "stale".into(), answered: false, age_ms: 900, ..node(1, 3_000) };
        assert_eq!(after(stale, 60).0.health(), Health::Stale);
        let old = ViewNode { age_ms: STALE_MS + 1, ..node(1, 3_000) };
        assert_eq!(after(old, 60).0.health(), Health::Stale);
        let dead = ViewNode { state: "down".into(), node: 1, ..ViewNode::default() };
        assert_eq!(after(dead, 60).0.health(), Health::Dead);
        let (back, _) = after(node(1, 5_000), 60);
        assert_eq!((back.health(), back.busy), (Health::Good, None));
    }
}
