//! Who is here: the member list and the probes that say who answers.

pub mod member;
pub mod offset;
pub mod probe;
pub mod serve;

pub use member::{Member, Members};
