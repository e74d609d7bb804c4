//! Is there memory for a lab of this size?

use anyhow::{Context, Result, bail};

/// What a node takes at rest, with krgd and its mounts: an estimate on the safe side.
const NODE_MIB: u64 = 64;

/// Refuses a lab for which the machine has no memory.
pub fn check(nodes: u32) -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    match available_mib(&text) {
        Some(free) => bound(nodes, free),
        // A kernel without MemAvailable is no reason to refuse.
        None => Ok(()),
    }
}

fn bound(nodes: u32, free_mib: u64) -> Result<()> {
    let need = u64::from(nodes) * NODE_MIB;
    if need > free_mib {
        let fit = free_mib / NODE_MIB;
        bail!(
            "{nodes} nodes need about {need} MiB of memory and {free_mib} MiB are available: \
             there is room for {fit}"
        );
    }
    Ok(())
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_available() {
        let text = "MemTotal:  100 kB\nMemAvailable:    204800 kB\nBuffers: 1 kB\n";
        assert_eq!(available_mib(text), Some(200));
        assert_eq!(available_mib("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn says_how_many_fit() {
        assert!(bound(3, 192).is_ok());
        let word = bound(4, 200).unwrap_err().to_string();
        assert!(word.contains("256 MiB") && word.contains("room for 3"), "{word}");
    }
}
