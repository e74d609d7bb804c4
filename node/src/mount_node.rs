//! The process of the mount of one node's file tree.

use crate::config::Config;
use crate::mount_process as process;
use anyhow::Result;
use krg_krgfs::node;
use krg_types::{NodeId, mfs};
use std::path::Path;

/// Mounts the tree of `node` on `at` and serves it until it is unmounted or asked to end.
pub fn run(config: &Config, at: &Path, node: NodeId) -> Result<()> {
    let runtime = process::begin(mfs::SERVER)?;
    let _members = runtime.block_on(process::members(config))?;
    let session = node::mount(at, node, process::threads())?.spawn()?;
    process::serve(runtime, at, || session.join(), async {})
}
