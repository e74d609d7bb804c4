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
        }
    }

    /// Is it hidden by `KRG_MASK`?
    pub fn masked(self) -> bool {
        std::env::var("KRG_MASK").is_ok_and(|mask| is_masked(&mask, self.name()))
    }
}

fn is_masked(mask: &str, name: &str) -> bool {
    mask.split(',').map(str::trim).any(|m| m == name || m == "all")
}

#[cfg(test)]
mod tests {
    use super::is_masked;

    #[test]
    fn a_mask_is_a_list_or_all() {
        assert!(is_masked("all", "timens"));
        assert!(is_masked("mountapi, timens", "timens"));
        assert!(!is_masked("", "timens"));
        assert!(!is_masked("timensx", "timens"));
    }
}
