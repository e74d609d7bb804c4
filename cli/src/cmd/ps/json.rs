//! The same for programs: an array with an object for each process, and one for each node that did
//! not answer.

use super::cell::{self, Printer};
use krg_rpc::proto::view::{ViewNode, ViewProcess};
use serde_json::{Value, json};

/// A text of anybody's: what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Printer<'_> {
    /// One process.
    pub fn process_json(&self, p: &ViewProcess) -> Value {
        let ticks = self.node(p).map_or(100, |node| u64::from(node.ticks_per_s)).max(1) as f64;
        let args = p.cmdline.strip_suffix(b"\0").unwrap_or(&p.cmdline);
        let args: Vec<String> = match p.cmdline.is_empty() {
            true => Vec::new(),
            false => args.split(|b| *b == 0).map(text).collect(),
        };
        let start_s = self.look.cluster.boot_time_s as f64 + self.start_ticks(p) as f64 / ticks;
        json!({
            "node": p.node,
            "age_ms": self.node(p).map(|node| node.age_ms),
            "pid": p.pid,
            "local_pid": p.local_pid,
            "ppid": p.ppid,
            "pgid": p.pgrp,
            "sid": p.session,
            "tty": (p.tty != 0).then(|| cell::tty(p.tty)),
            "ruid": p.ruid,
            "euid": p.euid,
            "rgid": p.rgid,
            "egid": p.egid,
            "user": &*self.names.user(p.euid),
            "state": char::from(cell::letter(p)).to_string(),
            "stat": cell::stat(p),
            "comm": text(&p.comm),
            "args": args,
            "cpu_s": Printer::used_ticks(p) as f64 / ticks,
            "elapsed_s": self.elapsed_ticks(p) as f64 / ticks,
            "start_s": start_s,
            "rss_kib": self.rss_kib(p),
            "vsz_kib": p.vsize_bytes / 1024,
            "nice": p.nice,
            "priority": p.priority,
            "threads": p.threads,
            "processor": p.processor,
        })
    }
}

/// One node that did not answer.
pub fn silent(node: &ViewNode) -> Value {
    json!({
        "node": node.node,
        "hostname": node.hostname,
        "answered": false,
        "state": node.state,
        "age_ms": (node.age_ms != u32::MAX).then_some(node.age_ms),
    })
}
