//! Who is here: papers and tokens, the member list, the probes that say who answers, and the
//! gossip that brings loads.

pub mod admit;
pub mod ca;
pub mod farewell;
pub mod fingerprint;
pub mod follow;
pub mod gossip;
pub mod home;
pub mod identity;
pub mod join;
pub mod load;
pub mod member;
pub mod offset;
pub mod probe;
pub mod roster;
pub mod seal;
pub mod secret;
pub mod serve;
pub mod token;
pub mod upkeep;

pub use member::{Member, Members};
