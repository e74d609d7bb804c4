//! The numbers of the jobs that are on this node, for who shows its processes.

use krg_migrate::place;
use krg_procview::numbers::Block;
use krg_procview::sample::Jobs;
use std::path::PathBuf;

/// Where their places are.
#[derive(Debug)]
pub struct Places(pub PathBuf);

impl Jobs for Places {
    fn blocks(&self) -> Vec<Block> {
        let block = |namespace, (first, last)| Block { namespace, first, last };
        let here = place::all(&self.0).into_iter().filter(|about| about.init > 0);
        let here = here.map(|about| block(Some(about.namespace), about.pids));
        let coming = place::coming(&self.0).into_iter().map(|pids| block(None, pids));
        here.chain(coming).filter(|block| block.first > 0).collect()
    }
}
