//! The kernel's version and the features that only newer kernels have. Each has a fallback, so
//! none of them is a failure; `KRG_MASK` hides them, which is how the fallbacks are tested.

use super::check::Check;
use super::probe;

/// A kernel version: major and minor.
pub type Version = (u32, u32);

/// The oldest kernel that krg is run on (Debian 12).
const TESTED: Version = (6, 1);
/// Below it, `openat2`, pidfds, time namespaces or mount calls that have no fallback are missing.
const NEEDED: Version = (5, 10);

struct Feature {
    /// The name here and in `KRG_MASK`.
    name: &'static str,
    since: Version,
    gives: &'static str,
    fallback: &'static str,
}

const FEATURES: [Feature; 5] = [
    Feature {
        name: "readdirplus",
        since: (3, 9),
        gives: "a listing of the view brings the attributes with it",
        fallback: "every attribute is asked for by itself",
    },
    Feature {
        name: "mountapi",
        since: (5, 2),
        gives: "krgd's own /proc is a mount that nobody else sees",
        fallback: "krgd reads the procfs that is on /proc",
    },
    Feature {
        name: "uffdio-move",
        since: (6, 8),
        gives: "UFFDIO_MOVE: pages can be moved without a copy",
        fallback: "pages are copied",
    },
    Feature {
        name: "passthrough",
        since: (6, 9),
        gives: "/mfs: this node's own files are read at the speed of the disk",
        fallback: "this node's own files in /mfs go through the process of their mount",
    },
    Feature {
        name: "pidns-pid-max",
        since: (6, 14),
        gives: "pid_max per namespace: a session can have the cluster's pids",
        fallback: "processes of a session are shown under node<<22 | pid",
    },
];

/// The features that `KRG_MASK` hides: names between commas, or `all`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Reads `KRG_MASK`.
    pub fn from_env() -> Self {
        Self::parse(&std::env::var("KRG_MASK").unwrap_or_default())
    }

    /// The names are exact.
    pub fn parse(list: &str) -> Self {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Mask(names.map(str::to_owned).collect())
    }

    /// Whether this feature is hidden.
    pub fn hides(&self, feature: &str) -> bool {
        self.0.iter().any(|name| name == "all" || name == feature)
    }
}

/// `6.1.0-18-amd64` is 6.1.
pub fn version(release: &str) -> Option<Version> {
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The checks of this file, on this machine.
pub fn checks(mask: &Mask) -> Vec<Check> {
    judge(&probe::text("/proc/sys/kernel/osrelease").unwrap_or_default(), mask)
}

/// The kernel and its features, from its release string.
pub fn judge(release: &str, mask: &Mask) -> Vec<Check> {
    const UPGRADE: &str = "apt-get install linux-image-amd64 && reboot";
    let release = release.trim();
    let Some(version) = version(release) else {
        let what = format!("the kernel's version is not understood: {release:?}");
        return vec![Check::warn("kernel", what, "mount -t proc proc /proc")];
    };
    let kernel = match version {
        v if v < NEEDED => {
            Check::fail("kernel", format!("{release} is older than 5.10"), UPGRADE)
        }
        v if v < TESTED => {
            Check::warn("kernel", format!("{release}: krg is tested on 6.1 and newer"), UPGRADE)
        }
        _ => Check::ok("kernel", release),
    };
    let features = FEATURES.iter().map(|feature| feature.judge(version, mask));
    std::iter::once(kernel).chain(features).collect()
}

impl Feature {
    fn judge(&self, version: Version, mask: &Mask) -> Check {
        if version < self.since {
            let (major, minor) = self.since;
            let what = format!("needs kernel {major}.{minor}; instead {}", self.fallback);
            Check::info(self.name, what, "")
        } else if mask.hides(self.name) {
            Check::masked(self.name, format!("hidden by KRG_MASK; instead {}", self.fallback))
        } else {
            Check::ok(self.name, self.gives)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Level;
    use super::*;

    fn levels(release: &str, mask: &str) -> Vec<Level> {
        judge(release, &Mask::parse(mask)).iter().map(|c| c.level).collect()
    }

    #[test]
    fn versions_are_numbers_not_text() {
        assert_eq!(version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(version("6.14-rc1"), Some((6, 14)));
        assert_eq!(version("next"), None);
        assert!(version("6.14.2") > version("6.9.1"));
    }

    #[test]
    fn debian_12_13_and_a_new_kernel() {
        use Level::{Info, Ok};
        assert_eq!(levels("6.1.0-18-amd64", ""), [Ok, Ok, Ok, Info, Info, Info]);
        assert_eq!(levels("6.12.1", ""), [Ok, Ok, Ok, Ok, Ok, Info]);
        assert_eq!(levels("6.14.0", ""), [Ok; 6]);
    }

    #[test]
    fn old_and_unknown_kernels() {
        assert_eq!(levels("4.19.0", "")[0], Level::Fail);
        assert_eq!(levels("5.15.0", "")[0], Level::Warn);
        assert_eq!(levels("", ""), [Level::Warn]);
    }

    #[test]
    fn a_mask_hides_what_is_there_and_only_that() {
        use Level::{Info, Masked, Ok};
        let masked = levels("6.18.1", "all");
        assert_eq!((masked[0], &masked[1..]), (Ok, &[Masked; 5][..]));
        assert_eq!(levels("6.18.1", "x, mountapi"), [Ok, Ok, Masked, Ok, Ok, Ok]);
        assert_eq!(levels("6.8.1", "all")[3..], [Masked, Info, Info]);
    }

    #[test]
    fn names_are_those_that_the_kernel_wrappers_mask() {
        use krg_sys::feature::Feature as Wrapped;
        for wrapped in [Wrapped::FuseReaddirplus, Wrapped::MountApi, Wrapped::FusePassthrough] {
            assert!(FEATURES.iter().any(|f| f.name == wrapped.name()), "{wrapped:?}");
        }
    }
}
