//! One node, from its whole-system files.

use crate::gather::Standing;
use crate::merge::loadavg;
use crate::merge::text::{lines, numbers, split_at_byte};
use crate::render::stat;
use crate::store::NodeView;
use krg_rpc::proto::view::{ViewNode, ViewState};
use krg_types::SystemFile;
use std::collections::BTreeMap;

/// The files that it is told from, as bits.
pub fn files() -> u64 {
    let files = [SystemFile::Stat, SystemFile::Meminfo, SystemFile::Loadavg, SystemFile::NetDev];
    files.iter().fold(0, |bits, file| bits | file.bit())
}

/// The places of idle and iowait on the `cpu` line of /proc/stat.
const WAITING: [usize; 2] = [3, 4];
/// Columns of that line that add up: the times of guests are in user's and nice's.
const CPU_COLUMNS: usize = 8;

/// What the viewer knows of a node beside its files.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// How it stands.
    pub standing: Standing,
    /// How old what is known of it is, ns, at most; `None`: nothing is.
    pub age_ns: Option<u64>,
    /// How long it is up, ns.
    pub uptime_ns: u64,
    /// Ticks from the cluster's boot to its own.
    pub start_shift_ticks: u64,
    /// Is it this machine?
    pub here: bool,
}

/// What is told of it.
pub fn node(view: &NodeView, known: &Known) -> ViewNode {
    let facts = &view.facts;
    let mut told = ViewNode {
        node: view.node.get(),
        hostname: facts.hostname.clone(),
        state: known.standing.word().to_owned(),
        answered: known.standing == Standing::Online && known.age_ns.is_some(),
        age_ms: known
            .age_ns
            .map_or(u32::MAX, |ns| u32::try_from(ns / 1_000_000).unwrap_or(u32::MAX)),
        cpus: facts.cpus,
        ticks_per_s: facts.ticks_per_s,
        page_size: facts.page_size,
        uptime_ms: known.uptime_ns / 1_000_000,
        start_shift_ticks: known.start_shift_ticks,
        here: known.here,
        ..ViewNode::default()
    };
    let text = |file| view.text(file).unwrap_or_default();
    if let Some(load) = loadavg::parse(text(SystemFile::Loadavg)) {
        let hundredths = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        told.load_hundredths = load.averages.map(hundredths).to_vec();
    }
    memory(&mut told, text(SystemFile::Meminfo));
    (told.cpu_busy_ticks, told.cpu_all_ticks) = cpu(text(SystemFile::Stat));
    (told.rx_bytes, told.tx_bytes) = network(text(SystemFile::NetDev));
    told
}

/// How many of its processes are in each state.
pub fn states(view: &NodeView) -> Vec<ViewState> {
    let letters = view.procs.values().filter_map(|process| stat::state(&process.texts[0]));
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    letters.for_each(|letter| *counts.entry(letter).or_default() += 1);
    let told = |(letter, processes)| ViewState { state: u32::from(letter), processes };
    counts.into_iter().map(told).collect()
}

fn memory(told: &mut ViewNode, meminfo: &[u8]) {
    for line in lines(meminfo) {
        let Some((name, rest)) = split_at_byte(line, b':') else { continue };
        let slot = match name {
            b"MemTotal" => &mut told.mem_total_kib,
            b"MemAvailable" => &mut told.mem_available_kib,
            b"MemFree" => &mut told.mem_free_kib,
            b"SwapTotal" => &mut told.swap_total_kib,
            b"SwapFree" => &mut told.swap_free_kib,
            _ => continue,
        };
        *slot = numbers(rest).next().unwrap_or(0);
    }
}

/// Busy, and all.
fn cpu(stat: &[u8]) -> (u64, u64) {
    let line = lines(stat).find_map(|line| line.strip_prefix(b"cpu ")).unwrap_or_default();
    let (mut busy, mut all) = (0u64, 0u64);
    for (i, ticks) in numbers(line).take(CPU_COLUMNS).enumerate() {
        all = all.saturating_add(ticks);
        if !WAITING.contains(&i) {
            busy = busy.saturating_add(ticks);
        }
    }
    (busy, all)
}

/// Received and sent.
fn network(netdev: &[u8]) -> (u64, u64) {
    let mut sums = (0u64, 0u64);
    for line in lines(netdev) {
        // The last colon: an alias of old (`eth0:1`) holds one itself.
        let Some(at) = line.iter().rposition(|b| *b == b':') else { continue };
        let (name, columns) = line.split_at(at);
        let mut columns = numbers(columns.get(1..).unwrap_or_default());
        if name.trim_ascii() == b"lo" {
            continue;
        }
        sums.0 = sums.0.saturating_add(columns.next().unwrap_or(0));
        sums.1 = sums.1.saturating_add(columns.nth(7).unwrap_or(0));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;
    use proptest::prelude::*;

    fn view(texts: [(SystemFile, &[u8]); 4]) -> NodeView {
        let mut view = NodeView::new(NodeId::new(3).unwrap());
        for (file, text) in texts {
            view.files[file.id() as usize].text = Some(text.into());
        }
        view
    }

    const KNOWN: Known = Known {
        standing: Standing::Online,
        age_ns: Some(1_999_999),
        uptime_ns: 5_000_000_000,
        start_shift_ticks: 7,
        here: false,
    };

    #[test]
    fn numbers_of_a_node() {
        let told = node(
            &view([
                (SystemFile::Loadavg, b"0.52 1.00 12.34 2/85 6781\n"),
                (
                    SystemFile::Meminfo,
                    b"MemTotal:  800 kB\nMemFree:  400 kB\nMemAvailable: 600 kB\n\
                    SwapTotal: 9 kB\nSwapFree: 8 kB\n",
                ),
                (SystemFile::Stat, b"cpu  10 1 5 70 10 1 2 3 9 9\ncpu0 1 1 1\n"),
                (
                    SystemFile::NetDev,
                    b"Inter-| x\n face |bytes\n    lo: 5 1 0 0 0 0 0 0 5 1\n  \
                    eth0: 100 1 0 0 0 0 0 0 30 1 0\n  eth1:7 1 0 0 0 0 0 0 3 1\n",
                ),
            ]),
            &KNOWN,
        );
        assert_eq!(told.load_hundredths, [52, 100, 1234]);
        assert_eq!(
            (told.mem_total_kib, told.mem_free_kib, told.mem_available_kib),
            (800, 400, 600)
        );
        assert_eq!((told.swap_total_kib, told.swap_free_kib), (9, 8));
        assert_eq!((told.cpu_busy_ticks, told.cpu_all_ticks), (22, 102));
        assert_eq!((told.rx_bytes, told.tx_bytes), (107, 33));
        assert_eq!((told.age_ms, told.uptime_ms, told.answered), (1, 5_000, true));
    }

    #[test]
    fn states_are_counted() {
        use crate::store::Process;
        let mut view = NodeView::new(NodeId::new(3).unwrap());
        let of = |stat: &[u8]| {
            let mut process = Process::default();
            process.texts[0] = stat.into();
            std::sync::Arc::new(process)
        };
        let all = [&b"1 (a) S) S 0"[..], b"2 (b) R 1", b"3 (c) S 1", b"no stat", b"4 (d) 7 1"];
        view.procs = std::sync::Arc::new((1..).zip(all.into_iter().map(of)).collect());
        let told: Vec<_> = states(&view).iter().map(|s| (s.state, s.processes)).collect();
        assert_eq!(told, [(u32::from(b'R'), 1), (u32::from(b'S'), 2)]);
    }

    #[test]
    fn who_does_not_answer_is_told_as_such() {
        let empty = NodeView::new(NodeId::new(3).unwrap());
        let silent = Known { standing: Standing::Stale, ..KNOWN };
        let told = node(&empty, &silent);
        assert_eq!((told.answered, told.state.as_str(), told.age_ms), (false, "stale", 1));
        let never = Known { standing: Standing::Online, age_ns: None, ..KNOWN };
        let told = node(&empty, &never);
        assert_eq!((told.answered, told.age_ms), (false, u32::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            node(&view([SystemFile::Loadavg, SystemFile::Meminfo, SystemFile::Stat,
                SystemFile::NetDev].map(|file| (file, bytes.as_slice()))), &KNOWN);
        }
    }
}
