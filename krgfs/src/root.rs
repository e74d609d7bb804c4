//! The directory with an entry for each node, on which the nodes' file trees are mounted when
//! somebody first walks into one.
//!
//! `names` says which names there are, `told` and `selection` remember what processes were told
//! and have chosen: all three are pure. `nodes` follows krgd's member list, `mounter` has krgd
//! mount a tree, and `skin` answers the kernel.

mod mounted;
mod mounter;
mod names;
mod nodes;
mod selection;
mod skin;
mod told;

pub use nodes::Nodes;
pub use skin::{Root, mount};
