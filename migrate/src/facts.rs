//! What a node is like, as far as a job that comes there may mind.

use krg_rpc::proto::job::FactsReply;
use krg_sys::criu::{self, MAJOR_MIN, is_new_enough};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Of this node.
pub fn of_this_node() -> FactsReply {
    let names = nix::sys::utsname::uname().ok();
    let word = |text: Option<&std::ffi::OsStr>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    FactsReply {
        machine: word(names.as_ref().map(|n| n.machine())),
        kernel: word(names.as_ref().map(|n| n.release())),
        cpu_flags: value("/proc/cpuinfo", "flags").unwrap_or_default(),
        criu: criu_version().filter(|v| is_new_enough(v)).unwrap_or_default(),
        memory_available_kib: value("/proc/meminfo", "MemAvailable")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
        // That is agreed on, and not found here.
        no_guests: false,
    }
}

/// Of a node to which no jobs of others may come.
pub fn no_guests(node: u32) -> String {
    format!("node {node} takes no jobs of other nodes (`mosctl block` was said there)")
}

/// CRIU is asked once, as long as it is the same file.
fn criu_version() -> Option<String> {
    type Known = Option<((PathBuf, Option<SystemTime>), Option<String>)>;
    static KNOWN: Mutex<Known> = Mutex::new(None);
    let path = criu::find()?;
    let changed = fs::metadata(&path).and_then(|m| m.modified()).ok();
    let key = (path, changed);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((of, version)) if *of == key => version.clone(),
        _ => {
            let version = criu::version(&key.0);
            *known = Some((key, version.clone()));
            version
        }
    }
}

/// The first line with this key.
fn value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(k, _)| k.trim() == key)?;
    Some(found.1.trim().to_owned())
}

/// Why a job of `rss_kib` of memory that runs on a node like `here` cannot run on one like `there`,
/// which is its home or not.
pub fn compare(
    here: &FactsReply,
    there: &FactsReply,
    (node, is_home): (u32, bool),
    rss_kib: u64,
) -> Vec<String> {
    let mut all = Vec::new();
    if there.no_guests && !is_home {
        all.push(no_guests(node));
    }
    if there.criu.is_empty() {
        all.push(format!(
            "node {node} has no CRIU {MAJOR_MIN} or newer (`krg doctor` there tells how to get it)"
        ));
    }
    if here.machine != there.machine {
        let (here, there) = (&here.machine, &there.machine);
        all.push(format!("its programs are for {here}, and node {node} is {there}"));
    }
    let flags = |facts: &FactsReply| {
        facts.cpu_flags.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let (here, has) = (flags(here), flags(there));
    let lacks: Vec<&str> = here.difference(&has).map(String::as_str).collect();
    if !lacks.is_empty() {
        let lacks = lacks.join(" ");
        all.push(format!("the processors of node {node} lack what it may use: {lacks}"));
    }
    if there.memory_available_kib < rss_kib {
        let (has, needs) = (there.memory_available_kib >> 10, rss_kib >> 10);
        all.push(format!("node {node} has {has} MiB of memory left, and it has {needs} MiB"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(flags: &str, criu: &str, memory_available_kib: u64) -> FactsReply {
        FactsReply {
            machine: "x86_64".into(),
            kernel: "6.18".into(),
            cpu_flags: flags.into(),
            criu: criu.into(),
            memory_available_kib,
            no_guests: false,
        }
    }

    #[test]
    fn what_a_node_lacks_is_said() {
        let here = facts("fpu avx avx512f", "4.2", 0);
        assert!(
            compare(&here, &facts("fpu avx avx512f amx", "4.1", 99), (2, false), 99).is_empty()
        );
        let poor = compare(&here, &facts("fpu avx", "", 1_024), (2, false), 4_096);
        assert_eq!(poor.len(), 3, "{poor:?}");
        assert!(poor[1].ends_with("avx512f") && poor[2].contains("1 MiB"), "{poor:?}");
        let arm = FactsReply { machine: "aarch64".into(), ..here.clone() };
        assert!(
            compare(&here, &FactsReply { memory_available_kib: 9, ..arm }, (3, false), 1)[0]
                .contains("aarch64")
        );
        let blocked = FactsReply { no_guests: true, ..facts("fpu avx avx512f", "4.2", 99) };
        assert_eq!(compare(&here, &blocked, (3, false), 1), [no_guests(3)]);
        assert!(compare(&here, &blocked, (3, true), 1).is_empty());
    }
}
