//! `.sys/cpu`: what `krg exec` shows in the place of /sys/devices/system/cpu, so that tools which
//! count processors there count the cluster's (Documentation/ABI/testing/sysfs-devices-system-cpu).
//! Pure.

/// The texts beside the cpus' directories.
pub const LISTS: [&str; 6] =
    ["kernel_max", "offline", "online", "possible", "present", "isolated"];

/// The texts in a cpu's topology/.
pub const TOPOLOGY: [&str; 8] = [
    "physical_package_id",
    "core_id",
    "core_siblings",
    "core_siblings_list",
    "package_cpus_list",
    "thread_siblings",
    "thread_siblings_list",
    "core_cpus_list",
];

/// A text of `LISTS` for a cluster of so many cpus.
pub fn list(place: u8, cpus: u32) -> Option<String> {
    Some(match *LISTS.get(usize::from(place))? {
        "kernel_max" => format!("{}\n", cpus.max(1) - 1),
        "offline" | "isolated" => "\n".to_owned(),
        _ => range(0, cpus),
    })
}

/// A text of `TOPOLOGY`: every node is a package of its own, every cpu a core.
pub fn topology(place: u8, cpu: u32, node: u32, first: u32, count: u32) -> Option<String> {
    Some(match *TOPOLOGY.get(usize::from(place))? {
        "physical_package_id" => format!("{node}\n"),
        "core_id" => format!("{}\n", cpu - first),
        "core_siblings_list" | "package_cpus_list" => range(first, count),
        "core_siblings" => mask(first, count),
        "thread_siblings" => mask(cpu, 1),
        _ => format!("{cpu}\n"),
    })
}

/// `A-B`, as the kernel writes a list of cpus.
fn range(first: u32, count: u32) -> String {
    match count {
        0 => "\n".to_owned(),
        1 => format!("{first}\n"),
        n => format!("{first}-{}\n", first + n - 1),
    }
}

/// Groups of 32 bits, the highest first, as the kernel writes a mask of cpus.
fn mask(first: u32, count: u32) -> String {
    let groups = (first + count).div_ceil(32).max(1);
    let word = |group: u32| {
        (0..32)
            .filter(|bit| (first..first + count).contains(&(group * 32 + bit)))
            .fold(0u32, |word, bit| word | 1 << bit)
    };
    let words: Vec<String> = (0..groups).rev().map(|g| format!("{:08x}", word(g))).collect();
    words.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_kernels() {
        assert_eq!(list(2, 6).as_deref(), Some("0-5\n"));
        assert_eq!(list(0, 6).as_deref(), Some("5\n"));
        assert_eq!(list(1, 6).as_deref(), Some("\n"));
        assert_eq!(list(2, 1).as_deref(), Some("0\n"));
        assert_eq!(list(9, 1), None);
    }

    #[test]
    fn topology_is_one_package_a_node() {
        assert_eq!(topology(0, 5, 3, 4, 2).as_deref(), Some("3\n"));
        assert_eq!(topology(1, 5, 3, 4, 2).as_deref(), Some("1\n"));
        assert_eq!(topology(2, 5, 3, 4, 2).as_deref(), Some("00000030\n"));
        assert_eq!(topology(3, 5, 3, 4, 2).as_deref(), Some("4-5\n"));
        assert_eq!(mask(31, 2), "00000001,80000000\n");
    }
}
