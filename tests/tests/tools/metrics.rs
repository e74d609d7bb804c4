//! The metrics of the cluster, read by Prometheus' own parser.

use super::cast::{Cast, SOON, everybody, memory};
use super::checks::Checks;
use krg_tests::{Lab, within};
use serde_json::Value;

const SCRIPT: &str = include_str!("metrics.py");

/// All of it.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    checks.check("metrics: parsed, and true", || values(lab, cast));
    checks.check("metrics: a node that does not answer", || silent(lab));
}

/// Of each node its value.
#[track_caller]
fn of_nodes(all: &Value, name: &str) -> Vec<(String, f64)> {
    let samples = all[name].as_array().unwrap_or_else(|| panic!("no {name} in {all}"));
    let of = |sample: &Value| {
        let node = sample[0]["node"].as_str().expect("a node").to_owned();
        (node, sample[1].as_f64().expect("a number"))
    };
    samples.iter().map(of).collect()
}

#[track_caller]
fn read(lab: &Lab) -> Value {
    std::fs::write(lab.path(1, "/tmp/metrics.py"), SCRIPT).expect("it is written");
    let text = lab.sh(1, "krg metrics | /usr/bin/python3 /tmp/metrics.py").ok();
    serde_json::from_str(&text).expect("JSON")
}

fn values(lab: &Lab, cast: &Cast) {
    assert!(cast.burner.gpid() > 0);
    let all = read(lab);
    let mut up = of_nodes(&all, "krg_cluster_node_up");
    up.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(up, ["1", "2", "3"].map(|node| (node.to_owned(), 1.0)));
    let total: f64 =
        of_nodes(&all, "krg_cluster_node_memory_total_bytes").iter().map(|v| v.1).sum();
    assert_eq!(total, (memory(lab, "MemTotal") * 1024) as f64);
    // A sample that is a second old will do.
    within(SOON, || {
        let counts = of_nodes(&read(lab), "krg_cluster_node_processes");
        let told: f64 = counts.iter().map(|(_, count)| count).sum();
        let now = everybody(lab).len() as f64;
        let same = (told - now).abs() <= 6.0;
        if same {
            Ok(())
        } else {
            Err(format!("{told} processes, {now} by the nodes' own /proc"))
        }
    });
    for name in ["load1", "load15", "cpus", "uptime_seconds", "cpu_seconds_total"] {
        let of = of_nodes(&all, &format!("krg_cluster_node_{name}"));
        assert!(of.len() == 3 && of.iter().all(|(_, value)| *value >= 0.0), "{name}: {of:?}");
    }
    let ages = of_nodes(&all, "krg_cluster_node_age_seconds");
    assert!(ages.iter().all(|(_, age)| *age < 3.0), "{ages:?}");
    assert!(all["krg_raft_voters"][0][1].as_f64().is_some_and(|voters| voters >= 1.0));
}

fn silent(lab: &Lab) {
    lab.fault("pause", 3);
    within(SOON, || {
        let all = read(lab);
        let up = of_nodes(&all, "krg_cluster_node_up");
        match up.contains(&("3".into(), 0.0)) {
            true => Ok(()),
            false => Err(format!("{up:?}")),
        }
    });
    lab.fault("resume", 3);
}
