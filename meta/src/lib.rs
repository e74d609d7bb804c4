//! What all nodes agree on: a state that changes by commands, in one order, through Raft.

pub mod campaign;
pub mod clock;
pub mod codec;
pub mod command;
pub mod contact;
pub mod error;
pub mod keys;
pub mod log;
pub mod machine;
pub mod memory;
pub mod meta;
pub mod network;
pub mod open;
pub mod proposer;
pub mod published;
pub mod raft;
pub mod reconcile;
pub mod recover;
pub mod rows;
pub mod runtime;
pub mod serve;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod table;
pub mod voters;
pub mod watch;
pub mod wire;
pub mod writer;

pub use error::MetaError;
pub use meta::{Meta, Options};
