//! The file mounts. `/mfs` is a small directory with an entry for each node, and each `/mfs/N` is
//! a mount of its own, made when it is first used.

pub mod node;
pub mod root;
