//! What this node says of its own load.

use krg_cluster::load::Load;
use krg_procview::merge::cpu_room;
use krg_sys::clock::boot_ns;
use krg_sys::procfs::Procfs;
use krg_types::limits::SYSTEM_FILE_BYTES_MAX;

/// Of this moment.
pub fn now() -> Load {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let (average_100, processes) = loadavg(&read("/proc/loadavg"));
    let memory = read("/proc/meminfo");
    Load {
        average_100,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_kib: kib(&memory, "MemTotal:"),
        available_kib: kib(&memory, "MemAvailable:"),
        processes,
        stamp_ns: boot_ns(),
    }
}

/// The load of the last minute times 100, and the number of tasks (proc_loadavg(5)).
fn loadavg(text: &str) -> (u32, u32) {
    let mut words = text.split_ascii_whitespace();
    let minute: f64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0.0);
    let tasks = words.nth(2).and_then(|w| w.split('/').nth(1)).and_then(|w| w.parse().ok());
    ((minute * 100.0) as u32, tasks.unwrap_or(0))
}

fn kib(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The number of cpus that this node's view has room for.
pub fn count_cpus(procfs: &Procfs) -> u32 {
    let mut stat = Vec::new();
    match procfs.root().read("stat", &mut stat, SYSTEM_FILE_BYTES_MAX) {
        Ok(()) => cpu_room(&stat),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(loadavg("1.25 0.50 0.10 3/456 7890\n"), (125, 456));
        assert_eq!(loadavg(""), (0, 0));
        assert_eq!(kib("MemTotal:  1024 kB\nMemAvailable: 512 kB\n", "MemAvailable:"), 512);
        let now = now();
        assert!(now.memory_kib > 0 && now.cpus > 0 && now.stamp_ns > 0);
    }
}
