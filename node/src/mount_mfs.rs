//! The process of one directory with an entry for each node's file tree.

use crate::config::Config;
use crate::mount_process as process;
use anyhow::{Context, Result};
use krg_cluster::identity::Identity;
use krg_krgfs::root::{self, Nodes};
use krg_sys::mount::top_at;
use krg_sys::utab;
use krg_types::mfs::{self, Patience};
use std::path::Path;

/// Mounts the directory on `at` and serves it until it is unmounted or asked to end.
pub fn run(config: &Config, at: &Path, patience: Patience) -> Result<()> {
    let runtime = process::begin(mfs::SERVER)?;
    let identity = Identity::load(&config.state_dir)?.context("this node has no papers")?;
    let socket = config.run_dir.join("krgd.sock");
    let nodes = runtime.block_on(Nodes::follow(identity.node, socket.clone()))?;
    let session = root::mount(at, nodes, runtime.handle().clone(), socket, patience)?.spawn()?;
    // `umount` of it takes along what is mounted in it.
    let noted = utab::add(mfs::ROOT_SOURCE, at, mfs::ROOT_TYPE);
    let served = process::serve(runtime, &[at], || session.join(), async {});
    if noted.is_ok() && matches!(top_at(at), Ok(None)) {
        let _ = utab::remove(at);
    }
    served
}
