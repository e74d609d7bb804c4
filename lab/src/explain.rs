//! Why a lab did not start: its own words and the end of a log.

use crate::name::LabName;
use crate::state::{Lab, Node};
use anyhow::anyhow;
use krg_types::{NodeId, NodeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a log that an error shows.
const TAIL_BYTES: u64 = 2000;

/// Adds which nodes are not ready, and what the first of them wrote.
pub fn explain(name: &LabName, e: anyhow::Error) -> anyhow::Error {
    let Ok(lab) = Lab::load(name) else { return e };
    let not_ready: Vec<&Node> = lab.nodes.iter().filter(|n| !n.ready).collect();
    let Some(node) = not_ready.first().copied().or(lab.nodes.first()) else { return e };
    let numbers: NodeSet = not_ready.iter().filter_map(|n| NodeId::new(n.id)).collect();
    let which = match not_ready.len() {
        0 => "krgd is ready on every node".to_owned(),
        1 => format!("krgd is not ready on node {numbers}"),
        _ => format!("krgd is not ready on nodes {numbers}"),
    };
    let host = &node.hostname;
    match tail(&krgd_log(name, node)) {
        text if text.is_empty() => anyhow!("{e:#}\n{which}; on {host} it wrote nothing"),
        text => anyhow!("{e:#}\n{which}; the end of its log on {host}:\n{text}"),
    }
}

/// krgd's log: through the living node, or in what it wrote.
fn krgd_log(name: &LabName, node: &Node) -> PathBuf {
    let inside =
        node.init.map(|i| PathBuf::from(format!("/proc/{}/root/var/log/krgd.log", i.pid)));
    inside.filter(|p| p.exists()).unwrap_or_else(|| name.krgd_log(node.id))
}

/// The last lines of a file, as far as it can be read.
pub fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(5000) + "end\n").unwrap();
        assert_eq!(tail(file.path()).len() as u64, TAIL_BYTES - 1);
        assert!(tail(file.path()).ends_with("end"));
        assert_eq!(tail(Path::new("/nonexistent")), "");
    }
}
