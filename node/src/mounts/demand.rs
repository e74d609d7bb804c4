//! Mounts of nodes' file trees: made when they are first used, gone when the node is no member.

use super::child::START_MAX;
use super::kind::Kind;
use super::{Mounts, State, place};
use anyhow::{Context, Result, bail};
use krg_cluster::Members;
use krg_rpc::peers::Peers;
use krg_types::NodeId;
use krg_types::mfs::Patience;
use std::path::Path;
use std::sync::Arc;
use tokio::time::timeout;

impl Mounts {
    /// What those who use the trees in the directory `root` do when a node does not answer.
    ///
    /// # Errors
    /// When it is no such directory.
    pub fn patience(&self, root: &Path) -> Result<Patience> {
        match self.state(root).map(|s| s.kind) {
            Some(Kind::Mfs(patience)) => Ok(patience),
            _ => bail!("{}: not a directory of file trees that krgd serves", root.display()),
        }
    }

    /// The pid of the process that serves the tree of a node in `root`. It is started if it is not
    /// there; who asks meanwhile waits for the same one.
    ///
    /// # Errors
    /// With the reason, when it is not mounted in time.
    pub async fn mount_node(
        self: &Arc<Self>,
        root: &Path,
        node: NodeId,
        patience: Patience,
    ) -> Result<u32> {
        let path = root.join(node.to_string());
        let mounted = timeout(START_MAX, self.mount_entry(&path, Kind::Node(node, patience)));
        mounted.await.with_context(|| format!("{}: not mounted in time", path.display()))?
    }

    async fn mount_entry(self: &Arc<Self>, path: &Path, kind: Kind) -> Result<u32> {
        let mut changes = self.changes.subscribe();
        self.let_go(path);
        let before = self.state(path);
        let begun = before.is_none();
        if begun {
            self.keep(path.to_owned(), kind)?;
        }
        let restarts = before.map_or(0, |s: State| s.restarts);
        loop {
            match self.state(path) {
                Some(s) if s.word == "mounted" && place::is_ours(kind, path) => return Ok(s.pid),
                Some(s) if s.restarts > restarts => {
                    if begun {
                        self.forget(path, s.serial);
                    }
                    bail!("{}: {}", path.display(), s.why);
                }
                None => bail!("{}: unmounted again at once", path.display()),
                Some(_) => changes.changed().await?,
            }
        }
    }

    /// Ends the mounts of nodes that are members no more, whenever the member list has changed.
    pub async fn follow(self: &Arc<Self>, members: &Members) {
        let mut changes = members.changes();
        while changes.changed().await.is_ok() {
            let mounted: Vec<_> = {
                let states = self.states();
                states.at.iter().map(|(path, s)| (path.clone(), s.kind)).collect()
            };
            for (path, kind) in mounted {
                if let Kind::Node(node, _) = kind
                    && members.get(node).is_none()
                {
                    self.release(path);
                }
            }
        }
    }
}
