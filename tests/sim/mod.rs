//! The agreement, simulated: nodes, network, disks and clocks in one thread, all of it from one
//! seed. A run has two phases: first faults and churn while every invariant is checked at each
//! step, then none while the cluster has to heal and to have lost nothing.

mod client;
mod cluster;
mod faults;
mod history;
mod host;
mod invariants;
mod linear;
mod liveness;
mod net;
mod oracle;
mod orders;
pub mod run;
mod world;
