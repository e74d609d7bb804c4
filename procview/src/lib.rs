//! What is running everywhere: sample, gather, merge, render /proc, and its thin FUSE skin.
//!
//! On the node that owns the processes: `sample` fills the `table`, `serve` streams what changed,
//! `live` reads single files as the caller. On the node that looks: `gather` keeps the `store`
//! in step, `merge` and `render` make texts of it, `fs` gives names to them, `fuse` hands them to
//! the kernel.

pub mod error;
pub mod fs;
pub mod fuse;
pub mod gather;
pub mod inode;
pub mod live;
pub mod merge;
pub mod news;
pub mod numbers;
pub mod render;
pub mod sample;
pub mod serve;
pub mod snapshot;
pub mod store;
pub mod table;
