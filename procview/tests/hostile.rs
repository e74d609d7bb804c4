//! Any bytes in: no panic, and no more out than a small multiple of what came in; and the sums
//! are sums.

use krg_procview::merge::mosix::{self, Texts};
use krg_procview::merge::{Facts, Part, cpu_room, system_file};
use krg_procview::numbers::Numbers;
use krg_procview::render::{Place, stat, status};
use krg_types::{NodeId, SystemFile};
use proptest::prelude::*;

/// The shortest line that counts gives the longest line out: `a:1` 25 bytes, a line of 34 bytes
/// in net/dev 130.
const FACTOR: usize = 8;
/// Headers and whole texts that stand for none.
const FIXED: usize = 1024;

fn node(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

/// Texts of this file that a kernel wrote, and of all others: bytes that come close.
fn golden() -> Vec<Vec<u8>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let inputs = files.iter().filter(|path| !path.to_string_lossy().ends_with(".out.txt"));
    inputs.map(|path| std::fs::read(path).unwrap()).collect()
}

/// A golden text with one stretch of it replaced by any bytes, or any bytes alone.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let golden = golden();
    let noise = || {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[0-9 :.()a-z/=\n-]{0,60}".prop_map(String::into_bytes),
            Just(b"18446744073709551615".to_vec()),
            Just(b"99999999999999999999999 ".to_vec()),
        ]
    };
    let spliced = (0..golden.len(), any::<[prop::sample::Index; 2]>(), noise()).prop_map(
        move |(i, [from, len], noise)| {
            let mut text = golden[i].clone();
            let from = from.index(text.len() + 1);
            let to = from + len.index((text.len() - from).min(40) + 1);
            text.splice(from..to, noise);
            text
        },
    );
    prop_oneof![1 => noise(), 4 => spliced]
}

fn lines(text: &[u8]) -> usize {
    text.split(|b| *b == b'\n').count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_merged(
        a in bytes(), b in bytes(), bases in any::<[u32; 2]>(), up in any::<u64>(),
    ) {
        let parts = [
            Part { node: node(1), text: &a, cpu_base: bases[0] },
            Part { node: node(255), text: &b, cpu_base: bases[1] },
        ];
        let facts = Facts { btime: up, uptime_ns: up };
        let size = a.len() + b.len();
        for file in SystemFile::ALL {
            let out = system_file(file, &parts, &facts);
            let table = matches!(file, SystemFile::Interrupts | SystemFile::Softirqs);
            // A table has a cell for each row and cpu: 11 bytes for at least 2 of a row, and
            // for at least 4 of a cpu.
            let cells = (lines(&a) + lines(&b) + 1) * (size / 4 + 2);
            let most = FIXED + FACTOR * size + if table { 11 * cells } else { 0 };
            prop_assert!(out.len() <= most, "{}: {} of {size}", file.path(), out.len());
            prop_assert!(out.last().is_none_or(|b| *b == b'\n'), "{}", file.path());
        }
        let _ = cpu_room(&a);
    }

    #[test]
    fn any_bytes_are_rendered(raw in bytes(), base in any::<u32>(), shift in any::<u64>()) {
        let (node, numbers) = (node(255), &Numbers::default());
        let place = Place { node, cpu_base: base, start_shift_ticks: shift, numbers };
        let texts = [stat::stat(&raw, &place), status::status(&raw, &place, false)];
        for out in texts.iter().flatten() {
            prop_assert!(out.len() <= FIXED + 3 * raw.len());
        }
        prop_assert_eq!(stat::parse(&raw).is_none() && stat::stat(&raw, &place).is_some(), false);
    }

    #[test]
    fn any_bytes_have_mosix_numbers(a in bytes(), b in bytes(), c in bytes(), d in bytes()) {
        let texts = Texts { stat: &a, stat_before: &b, meminfo: &c, cpuinfo: &d, loadavg: &a };
        for name in mosix::FILES {
            let out = String::from_utf8(mosix::file(name, Some(&texts)).unwrap()).unwrap();
            prop_assert!(out.trim_end().parse::<u64>().is_ok());
        }
    }

    /// The first line is the sum of the nodes' first lines, column by column, and each node's
    /// cpus stand under their own numbers.
    #[test]
    fn cpu_times_add_up(
        nodes in proptest::collection::vec(proptest::collection::vec(0u64..1 << 48, 4..11), 1..6),
    ) {
        let row = |columns: &[u64]| columns.iter().map(|n| format!(" {n}")).collect::<String>();
        let texts: Vec<String> = nodes
            .iter()
            .map(|columns| format!("cpu {0}\ncpu0{0}\ncpu3{0}\n", row(columns)))
            .collect();
        let parts: Vec<Part<'_>> = (0u32..).zip(&texts).map(|(i, text)| {
            assert_eq!(cpu_room(text.as_bytes()), 4);
            Part { node: node(i + 1), text: text.as_bytes(), cpu_base: 4 * i }
        }).collect();
        let out = system_file(SystemFile::Stat, &parts, &Facts::default());
        let out = String::from_utf8(out).unwrap();
        let width = nodes.iter().map(Vec::len).max().unwrap();
        let sums: Vec<u64> = (0..width)
            .map(|i| nodes.iter().filter_map(|columns| columns.get(i)).sum())
            .collect();
        let mut want = vec![format!("cpu {}", row(&sums))];
        for (i, columns) in nodes.iter().enumerate() {
            want.push(format!("cpu{}{}", 4 * i, row(columns)));
            want.push(format!("cpu{}{}", 4 * i + 3, row(columns)));
        }
        want.push("btime 0".into());
        prop_assert_eq!(out.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn memory_adds_up(values in proptest::collection::vec(0u64..1 << 50, 1..6)) {
        let texts: Vec<String> = values.iter().map(|n| format!("MemFree: {n} kB\n")).collect();
        let parts: Vec<Part<'_>> = (1u32..).zip(&texts)
            .map(|(i, text)| Part { node: node(i), text: text.as_bytes(), cpu_base: 0 })
            .collect();
        let out = system_file(SystemFile::Meminfo, &parts, &Facts::default());
        let want = format!("{:<16}{:>8} kB\n", "MemFree:", values.iter().sum::<u64>());
        prop_assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

/// 8192 columns and as many rows: the table is cut, not built.
#[test]
fn a_table_has_a_bound() {
    let mut text: Vec<u8> = (0..8192).flat_map(|n| format!(" CPU{n}").into_bytes()).collect();
    text.extend((0..8192).flat_map(|n| format!("\n{n}: 1").into_bytes()));
    let part = Part { node: node(1), text: &text, cpu_base: 0 };
    let out = system_file(SystemFile::Interrupts, &[part], &Facts::default());
    assert!(out.len() < 48 << 20, "{}", out.len());
}
