//! On which entries something is mounted, as the kernel tells.

use krg_sys::mount::{Changes, MountEntry, mountinfo};
use krg_types::NodeId;
use krg_types::limits::NODE_ID_MAX;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The kernel is asked again after this even if it has told of no change.
const LOOK_PERIOD: Duration = Duration::from_secs(600);

/// By node: is something mounted on its entry? True but for a moment after each change.
#[derive(Clone)]
pub struct Mounted(Arc<Vec<AtomicBool>>);

impl Mounted {
    /// Follows the mount table from now on, for the directory mounted on `at`.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn follow(at: &Path) -> io::Result<Mounted> {
        let flags = (0..=NODE_ID_MAX).map(|_| AtomicBool::new(false)).collect();
        let mounted = Mounted(Arc::new(flags));
        let (changes, at) = (Changes::new()?, at.to_owned());
        mounted.look(&at)?;
        let follower = mounted.clone();
        // A thread of its own: it waits for as long as nothing is mounted anywhere.
        std::thread::Builder::new().name("mounts".into()).spawn(move || {
            while changes.wait(LOOK_PERIOD).is_ok() && follower.look(&at).is_ok() {}
        })?;
        Ok(mounted)
    }

    fn look(&self, at: &Path) -> io::Result<()> {
        let now = entries(&mountinfo("self")?, at);
        for (n, flag) in (0..).zip(self.0.iter()) {
            flag.store(NodeId::new(n).is_some_and(|n| now.contains(&n)), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Is something mounted there?
    pub fn is(&self, node: NodeId) -> bool {
        self.0.get(node.get() as usize).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

fn entries(table: &[MountEntry], at: &Path) -> BTreeSet<NodeId> {
    let below = table.iter().filter(|m| m.mount_point.parent() == Some(at));
    let names = below.filter_map(|m| m.mount_point.file_name()?.to_str()?.parse().ok());
    names.filter_map(NodeId::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_sys::mount::parse_mountinfo;

    #[test]
    fn only_what_is_right_in_the_directory_counts() {
        let line = |at: &str| format!("1 2 0:3 / {at} rw - fuse.krgfs x rw\n");
        let places = ["/mfs", "/mfs/2", "/mfs/3/x", "/mfs/x", "/mfs/300", "/other/4", "/mfs/7"];
        let text: String = places.iter().map(|at| line(at)).collect();
        let found = entries(&parse_mountinfo(text.as_bytes()), Path::new("/mfs"));
        let found: Vec<u32> = found.into_iter().map(NodeId::get).collect();
        assert_eq!(found, [2, 7]);
    }
}
