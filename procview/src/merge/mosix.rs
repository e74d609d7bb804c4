//! MOSIX's nodes/N/: one plain integer per file about one node, from that node's own texts.

use super::loadavg;
use super::text::{hundredths, lines, number, numbers, split_at_byte, words};

/// The files of `nodes/N/`, in the order of their names.
pub const FILES: [&str; 8] = ["cpus", "load", "mem", "rmem", "speed", "status", "tmem", "util"];

/// The speed of MOSIX's standard cpu, a Pentium III of 1 GHz.
const STANDARD_SPEED: u64 = 10_000;
/// `status` of a node: bit 1 says that it is up.
const STATUS_UP: u64 = 2;
/// What every file says of a node that is down: -ENETUNREACH.
const DOWN: &[u8] = b"-101\n";

/// The texts of one node that its numbers are computed from; an empty text is one that is not
/// there.
#[derive(Clone, Copy, Default, Debug)]
pub struct Texts<'a> {
    /// /proc/stat.
    pub stat: &'a [u8],
    /// /proc/stat of some time before, for `util`; empty: `util` is the mean since boot.
    pub stat_before: &'a [u8],
    /// /proc/meminfo.
    pub meminfo: &'a [u8],
    /// /proc/cpuinfo.
    pub cpuinfo: &'a [u8],
    /// /proc/loadavg.
    pub loadavg: &'a [u8],
}

/// The text of a file of `nodes/N/`; `None` if there is no such file. `node` is `None` for a node
/// that is down: its files say `-101`.
///
/// - `cpus`: processors in /proc/stat.
/// - `load`: 100 for every standard cpu's worth of work per cpu: the load average of one minute
///   times 100, divided by cpus and by their speed.
/// - `mem`: memory that may be had, in 4096-byte pages (`MemAvailable`).
/// - `rmem`: memory that is free as it is (`MemFree`); `tmem`: memory in all (`MemTotal`).
/// - `speed`: 10000 for each GHz of the fastest cpu; 10000 if /proc/cpuinfo tells no clock.
/// - `status`: 2, up.
/// - `util`: percent of the cpus' time not idle, between the two texts or since boot.
pub fn file(name: &str, node: Option<&Texts<'_>>) -> Option<Vec<u8>> {
    FILES.contains(&name).then(|| match node {
        None => DOWN.to_vec(),
        Some(texts) => format!("{}\n", value(name, texts)).into_bytes(),
    })
}

fn value(name: &str, texts: &Texts<'_>) -> u64 {
    match name {
        "cpus" => cpus(texts.stat),
        "load" => load(texts),
        "mem" => available(texts.meminfo),
        "rmem" => pages(texts.meminfo, b"MemFree").unwrap_or(0),
        "tmem" => pages(texts.meminfo, b"MemTotal").unwrap_or(0),
        "speed" => speed(texts.cpuinfo),
        "status" => STATUS_UP,
        _ => util(texts.stat_before, texts.stat),
    }
}

fn cpus(stat: &[u8]) -> u64 {
    let is_cpu = |line: &&[u8]| {
        words(line).next().and_then(|word| word.strip_prefix(b"cpu")).and_then(number).is_some()
    };
    lines(stat).filter(is_cpu).count() as u64
}

fn load(texts: &Texts<'_>) -> u64 {
    let average = loadavg::parse(texts.loadavg).map_or(0, |load| load.averages[0]);
    let power = cpus(texts.stat).max(1).saturating_mul(speed(texts.cpuinfo).max(1));
    average.saturating_mul(STANDARD_SPEED) / power
}

fn speed(cpuinfo: &[u8]) -> u64 {
    let clocks = lines(cpuinfo).filter_map(|line| {
        let (key, mhz) = split_at_byte(line, b':')?;
        (key.trim_ascii() == b"cpu MHz").then(|| hundredths(mhz.trim_ascii())).flatten()
    });
    // Hundredths of a MHz; 1000 MHz are 10000.
    clocks.max().map_or(STANDARD_SPEED, |clock| clock / 10)
}

/// A field of /proc/meminfo, given in kB, in pages of 4096 bytes.
fn pages(meminfo: &[u8], name: &[u8]) -> Option<u64> {
    let field = lines(meminfo).find_map(|line| {
        let (key, rest) = split_at_byte(line, b':')?;
        (key == name).then_some(rest)
    })?;
    numbers(field).next().map(|kilobytes| kilobytes / 4)
}

/// Linux has `MemAvailable` since 3.14; before it is about what is free or may be dropped.
fn available(meminfo: &[u8]) -> u64 {
    let field = |name: &[u8]| pages(meminfo, name).unwrap_or(0);
    pages(meminfo, b"MemAvailable").unwrap_or_else(|| {
        field(b"MemFree").saturating_add(field(b"Buffers")).saturating_add(field(b"Cached"))
    })
}

/// Percent of the cpus' time that was not idle from one /proc/stat to the next.
fn util(before: &[u8], after: &[u8]) -> u64 {
    let (then, now) = (Times::parse(before), Times::parse(after));
    let all = now.all.saturating_sub(then.all);
    let idle = now.idle.saturating_sub(then.idle).min(all);
    // Divided first if need be, so that no product overflows.
    let (busy, unit) = (all - idle, all / 100);
    if all < u64::MAX / 100 { busy * 100 / all.max(1) } else { busy / unit.max(1) }
}

#[derive(Default)]
struct Times {
    all: u64,
    idle: u64,
}

impl Times {
    /// The `cpu` line: user nice system idle iowait irq softirq steal; guest times are in user's.
    fn parse(stat: &[u8]) -> Times {
        let line = lines(stat).find_map(|line| line.strip_prefix(b"cpu "));
        let mut times = Times::default();
        for (i, n) in numbers(line.unwrap_or_default()).take(8).enumerate() {
            times.all = times.all.saturating_add(n);
            if i == 3 || i == 4 {
                times.idle = times.idle.saturating_add(n);
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"cpu  10 0 10 70 10 0 0 0 9 0\ncpu0 5 0 5 40 0\ncpu1 5 0 5 30 10\n";
    const LATER: &[u8] = b"cpu  80 0 20 80 20 0 0 0 9 0\ncpu0 5 0 5 40 0\ncpu1 5 0 5 30 10\n";
    const TEXTS: Texts<'_> = Texts {
        stat: STAT,
        stat_before: b"",
        meminfo: b"MemTotal:  8000 kB\nMemFree:  4000 kB\nMemAvailable:   6000 kB\n",
        cpuinfo: b"cpu MHz\t\t: 2300.000\n\ncpu MHz\t\t: 2500.500\n",
        loadavg: b"2.00 0.00 0.00 1/2 3\n",
    };

    fn read(name: &str, texts: &Texts<'_>) -> String {
        String::from_utf8(file(name, Some(texts)).unwrap()).unwrap()
    }

    #[test]
    fn numbers_of_a_node() {
        let all = FILES.map(|name| read(name, &TEXTS).trim_end().to_owned());
        assert_eq!(all, ["2", "39", "1500", "1000", "25005", "2", "2000", "20"]);
        let between = Texts { stat_before: STAT, stat: LATER, ..TEXTS };
        assert_eq!(read("util", &between), "80\n");
        let old = Texts { meminfo: b"MemFree: 4 kB\nBuffers: 8 kB\nCached: 4 kB\n", ..TEXTS };
        assert_eq!(read("mem", &old), "4\n");
        let plain = Texts { cpuinfo: b"", ..TEXTS };
        assert_eq!(
            (read("speed", &plain), read("load", &plain)),
            ("10000\n".into(), "100\n".into())
        );
        assert_eq!(read("util", &Texts::default()), "0\n");
    }

    #[test]
    fn a_node_that_is_down() {
        for name in FILES {
            assert_eq!(file(name, None).unwrap(), b"-101\n");
        }
        assert_eq!(file("cpu", None), None);
    }
}
