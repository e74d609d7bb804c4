//! Prometheus' node exporter, on the cluster's /proc and beside it on the node's own.

use super::cast::{cpus, everybody, gpid, memory, native};
use super::checks::Checks;
use super::table::field;
use krg_tests::Lab;
use std::collections::BTreeMap;

const SCRIPT: &str = include_str!("exporter_scrape.py");
const LIMIT_S: &str = "20";

/// Both are scraped once.
pub fn all(checks: &mut Checks, lab: &Lab) {
    let (mut own, mut seen) = (Metrics::default(), Metrics::default());
    checks.check("node exporter: answers", || {
        own = scrape(lab, 9101, "/proc");
        seen = scrape(lab, 9102, "/cluster/proc");
    });
    checks.check("node exporter: no collector fails", || collectors(&own, &seen));
    checks.check("node exporter: values", || values(lab, &seen));
}

/// Values by name and labels.
#[derive(Default)]
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    #[track_caller]
    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0.keys()))
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(name, v)| Some((name.strip_prefix(prefix)?, *v)))
    }
}

#[track_caller]
fn scrape(lab: &Lab, port: u16, procfs: &str) -> Metrics {
    let exporter = format!(
        "exec prometheus-node-exporter --path.procfs={procfs} --collector.processes \
         --collector.interrupts --no-collector.netdev.netlink \
         --web.listen-address=127.0.0.1:{port}"
    );
    lab.background(1, &exporter);
    let text = lab.exec(1, &["/usr/bin/python3", "-c", SCRIPT, &port.to_string(), LIMIT_S]).ok();
    let values = text.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    Metrics(values.map(value).collect())
}

#[track_caller]
fn collectors(own: &Metrics, seen: &Metrics) {
    let prefix = "node_scrape_collector_success";
    let works = |(_, value): &(&str, f64)| *value == 1.0;
    let native: Vec<_> = own.below(prefix).filter(works).map(|(name, _)| name).collect();
    for needed in ["processes", "interrupts", "stat", "meminfo", "loadavg", "cpu", "netdev"] {
        let name = format!("{{collector=\"{needed}\"}}");
        assert!(native.contains(&name.as_str()), "{needed} works nowhere: {native:?}");
    }
    let fails = native.iter().filter(|name| seen.get(&format!("{prefix}{name}")) != 1.0);
    let fails: Vec<_> = fails.collect();
    assert!(fails.is_empty(), "they work on the node's own /proc: {fails:?}");
}

#[track_caller]
fn values(lab: &Lab, seen: &Metrics) {
    let total: u32 = cpus(lab).iter().sum();
    assert_eq!(seen.get("node_memory_MemTotal_bytes"), (memory(lab, "MemTotal") * 1024) as f64);
    let idle = seen.below("node_cpu_seconds_total").filter(|(l, _)| l.contains("\"idle\""));
    assert_eq!(idle.count(), total as usize);
    let pids = seen.get("node_processes_pids");
    // Itself is among them and process 1 besides; what had ended by now, or came later, is few.
    let now = everybody(lab).len() as f64 + 1.0;
    assert!((pids - now).abs() <= 2.0, "{pids} processes, {now} by the nodes' own /proc");
    assert!(seen.get("node_processes_threads") > pids, "krgd alone has several");
    let earliest = native(lab, "stat").iter().map(|text| field(text, "btime")).min();
    let boot = seen.get("node_boot_time_seconds");
    assert!((boot - earliest.expect("three") as f64).abs() <= 1.0, "{boot}, {earliest:?}");
    for node in 1..4 {
        let lo = format!("node_network_receive_bytes_total{{device=\"n{node}-lo\"}}");
        assert!(seen.get(&lo) >= 0.0);
    }
    assert!(seen.below("node_interrupts_total").count() >= total as usize, "a column per cpu");
    assert!(seen.get("node_processes_max_processes") >= f64::from(gpid(4, 0)));
}
