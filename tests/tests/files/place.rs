//! Where the tests work: a directory on node 2's own tmpfs.

use krg_tests::Lab;
use std::time::Duration;

/// How long the kernel may use what it was told of a name or a file, and some more.
pub const TOLD: Duration = Duration::from_millis(1_500);

/// A directory of node 2's, as node 2 names it.
pub fn own(name: &str) -> String {
    format!("/tmp/{name}")
}

/// The same, as every other node names it.
pub fn far(name: &str) -> String {
    format!("/mfs/2/tmp/{name}")
}

/// By its name on a node.
pub fn on(node: u32, name: &str) -> String {
    if node == 2 { own(name) } else { far(name) }
}

/// Makes such a directory, open to everybody.
#[track_caller]
pub fn make(lab: &Lab, name: &str) {
    let dir = own(name);
    lab.sh(2, &format!("rm -rf {dir} && mkdir -p {dir} && chmod 1777 {dir}")).ok();
}

/// How long something runs that could run for ever.
pub fn long() -> Duration {
    let said = std::env::var("KRG_FSX_S").ok();
    Duration::from_secs(said.map_or(20, |s| s.parse().expect("KRG_FSX_S is seconds")))
}

/// Where chance begins: the same again with KRG_SEED.
pub fn seed() -> u64 {
    let said = std::env::var("KRG_SEED").ok();
    said.map_or_else(rand::random, |s| s.parse().expect("KRG_SEED is a number"))
}
