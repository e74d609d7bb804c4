//! Kernel features that are newer than the oldest supported kernel, each with a fallback.
//!
//! `KRG_MASK` (a comma list of names, or `all`) hides them, so that the fallbacks are tested on
//! new kernels too.

/// A feature with a fallback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Time namespaces (5.6). Without: all nodes of a lab share one clock.
    TimeNamespace,
    /// fsopen(2), fsmount(2) (5.2). Without: the procfs on /proc is used.
    MountApi,
    /// FUSE passthrough (6.9). Without: a node's own files go through its mount's process.
    FusePassthrough,
    /// fanotify of whole file systems. Without: attributes and names are looked at again after a
    /// second.
    Fanotify,
    /// FUSE readdirplus and parallel directory operations. Without: plain readdir.
    FuseReaddirplus,
    /// A `pid_max` for each PID namespace (6.14). Without: a process that moves is shown under
    /// another number then.
    PidBlocks,
}

impl Feature {
    /// Its name in `KRG_MASK`.
    pub fn name(self) -> &'static str {
        match self {
            Feature::TimeNamespace => "timens",
            Feature::MountApi => "mountapi",
            Feature::FusePassthrough => "passthrough",
            Feature::Fanotify => "fanotify",
            Feature::FuseReaddirplus => "readdirplus",
            Feature::PidBlocks => "pidblocks",
        }
    }

    /// Is it hidden by `KRG_MASK`?
    pub fn masked(self) -> bool {
        std::env::var("KRG_MASK").is_ok_and(|mask| is_masked(&mask, self.name()))
    }
}

/// Does each PID namespace number its processes as it likes?
pub fn has_pid_blocks() -> bool {
    let release = nix::sys::utsname::uname().ok();
    let release = release.and_then(|names| names.release().to_str().map(str::to_owned));
    let newer = release.is_some_and(|release| is_release_of(&release, (6, 14)));
    newer && !Feature::PidBlocks.masked()
}

/// Is this release of the kernel at least as new as that one?
fn is_release_of(release: &str, least: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= least
}

fn is_masked(mask: &str, name: &str) -> bool {
    mask.split(',').map(str::trim).any(|m| m == name || m == "all")
}

#[cfg(test)]
mod tests {
    use super::{is_masked, is_release_of};

    #[test]
    fn releases_are_numbers() {
        assert!(is_release_of("6.18.44-fc-v657", (6, 14)) && is_release_of("7.0", (6, 14)));
        assert!(!is_release_of("6.1.0-13-amd64", (6, 14)) && !is_release_of("x", (6, 14)));
    }

    #[test]
    fn a_mask_is_a_list_or_all() {
        assert!(is_masked("all", "timens"));
        assert!(is_masked("mountapi, timens", "timens"));
        assert!(!is_masked("", "timens"));
        assert!(!is_masked("timensx", "timens"));
    }
}
