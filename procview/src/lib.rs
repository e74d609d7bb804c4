//! What is running everywhere: sample, gather, merge, render /proc, and its thin FUSE skin.

pub mod merge;
pub mod render;
