//! Programs that run as jobs: in process namespaces of their own, under a holder that keeps what
//! they were started with, so that they can be moved.

pub mod arrive;
pub mod begin;
pub mod caps;
pub mod checkpoint;
mod clients;
pub mod cluster;
pub mod criu;
mod depart;
mod dial;
pub mod facts;
mod fault;
mod flow;
pub mod helper;
pub mod holder;
pub mod hook;
pub mod images;
pub mod init;
mod inside;
pub mod job;
pub mod lineage;
mod link;
mod locks;
pub mod members;
mod obstacles;
mod outlook;
mod outside;
pub mod place;
pub mod plan;
mod report;
pub mod root;
pub mod spec;
pub mod start;
mod terminal;
