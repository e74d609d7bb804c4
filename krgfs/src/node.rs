//! One node's file tree, `/mfs/N`: a skin over the client of its file server.

mod after;
mod attrs;
mod backing;
mod behind;
mod convert;
mod core;
mod dirs;
mod files;
mod inodes;
mod known;
mod listings;
mod lock_owners;
mod news;
mod opens;
mod skin;
mod stale;
mod touched;

pub use skin::Tree;

use self::core::{Core, Feed};
use fuser::{Config, Generation, InitFlags, KernelConfig, Session, SessionACL};
use krg_faf::client::{Client, Route};
use krg_faf::op::Handle;
use krg_faf::server::Server;
use krg_sys::feature::Feature;
use krg_sys::fuse_device::{self, FuseError, Looks};
use krg_sys::mount::{MsFlags, umount_detach};
use krg_sys::procfs;
use krg_types::NodeId;
use krg_types::limits::FRAME_DATA_BYTES_MAX;
use krg_types::mfs::{NODE_TYPE, Patience};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle as Runtime;

/// Requests the kernel may have waiting in the background: reading ahead, writing, letting go.
const MAX_BACKGROUND: u16 = 256;
/// How far ahead the kernel reads, bytes.
const READ_AHEAD_BYTES: u32 = 1 << 20;

/// Where the files of a mount come from.
pub enum Source {
    /// Another node's server.
    Remote(Route, Patience),
    /// A server in this process: they are this node's own.
    Own(Arc<Server>),
}

/// Mounts the tree of `source` on `at`. Serving begins with `Session::spawn`; the mount
/// stays when the session ends, and is for the caller to take away.
///
/// # Errors
/// When the directory is not there or FUSE refuses.
pub fn mount(
    at: &Path,
    node: NodeId,
    source: Source,
    runtime: &Runtime,
    threads: usize,
) -> Result<Session<Tree>, FuseError> {
    let procfs = procfs::own().map_err(FuseError::at(at))?;
    let (tell, told) = std::sync::mpsc::channel();
    let core = Arc::new(Core::new(procfs, tell));
    let feed = Arc::new(Feed(Arc::downgrade(&core)));
    let _in_runtime = runtime.enter();
    let client = match source {
        Source::Remote(route, patience) => Client::start(route, patience, feed),
        Source::Own(server) => Client::local(server, feed),
    };
    core.set_client(client.map_err(FuseError::at(at))?);
    let looks = Looks {
        source: &format!("node{node}:/"),
        fs_type: NODE_TYPE,
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        options: "default_permissions",
    };
    let device = fuse_device::mount(at, &looks)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.max(2));
    config.clone_fd = true;
    let (untold, told_at_once) = (core.untold(), core.clone());
    let tree = Tree { core, runtime: runtime.clone() };
    let failed = |e| {
        // Nobody would ever serve it.
        let _ = umount_detach(at);
        FuseError::at(at)(e)
    };
    let session = Session::from_fd(tree, device, SessionACL::All, config).map_err(failed)?;
    read_ahead(at);
    told_at_once.set_kernel(session.notifier());
    let kernel = session.notifier();
    let thread = std::thread::Builder::new().name("stale".into());
    let tell = move || stale::tell_kernel(&told, &untold, &kernel);
    thread.spawn(tell).map_err(failed)?;
    Ok(session)
}

/// FUSE may lower how far the kernel reads ahead, but only the kernel's own setting raises it.
/// Where that cannot be written, big files are read a little slower.
fn read_ahead(at: &Path) {
    let Ok(Some(mount)) = krg_sys::mount::top_at(at) else { return };
    let (major, minor) = mount.device;
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(e) = std::fs::write(&setting, (READ_AHEAD_BYTES >> 10).to_string()) {
        tracing::debug!(error = %e, setting, "not set");
    }
}

/// What the kernel is asked to do of what it can. Only what is listed here: fuser lets others
/// through that it does not carry out. Not FUSE_ATOMIC_O_TRUNC: with it a program that runs is cut
/// short by an open to read that empties, before the kernel says ETXTBSY (do_open in fs/namei.c).
fn capabilities(config: &mut KernelConfig, local: bool) {
    let mut wanted = InitFlags::FUSE_ASYNC_READ
        | InitFlags::FUSE_BIG_WRITES
        | InitFlags::FUSE_DONT_MASK
        | InitFlags::FUSE_POSIX_LOCKS
        | InitFlags::FUSE_FLOCK_LOCKS
        | InitFlags::FUSE_POSIX_ACL
        | InitFlags::FUSE_AUTO_INVAL_DATA
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_MAX_PAGES
        // The server's kernel takes set-id bits away: every write is done as who may write.
        | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
    if !Feature::FuseReaddirplus.masked() {
        wanted |= InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_PARALLEL_DIROPS;
    }
    if local && !Feature::FusePassthrough.masked() {
        // The files may be of an overlay, which is stacked once itself.
        let _ = config.set_max_stack_depth(2);
        wanted |= InitFlags::FUSE_PASSTHROUGH;
    }
    // What a kernel does not offer is done without.
    let _ = config.add_capabilities(wanted & config.capabilities());
    let _ = config.set_max_background(MAX_BACKGROUND);
    let _ = config.set_max_write(FRAME_DATA_BYTES_MAX as u32);
    let _ = config.set_max_readahead(READ_AHEAD_BYTES);
}

/// Tells a file from another one that had its number before.
fn generation(handle: &Handle) -> Generation {
    let mut hasher = DefaultHasher::new();
    handle.hash(&mut hasher);
    Generation(hasher.finish())
}
