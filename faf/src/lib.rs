//! File access forwarding: the files of a node for the others. A server that acts with the
//! caller's ids inside an export, and a client that asks it.

pub mod bytes;
pub mod client;
pub mod export;
pub mod handle;
pub mod op;
pub mod serve;
pub mod server;
