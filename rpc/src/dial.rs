//! How channels to members come about: inside TLS, or plain between nodes of one process.

use crate::pool;
use crate::tls::Credentials;
use krg_types::MemberId;
use std::fmt;
use std::sync::Arc;
use tonic::transport::Channel;

/// Makes channels to members.
pub trait Dial: Send + Sync + 'static {
    /// A channel to this member at this address (`host:port`). It connects when first used.
    fn channel(&self, member: MemberId, address: &str) -> Channel;
}

/// Channels inside TLS, to nobody but the member asked for.
#[derive(Clone, Debug)]
pub struct Secure(pub Arc<Credentials>);

impl Dial for Secure {
    fn channel(&self, member: MemberId, address: &str) -> Channel {
        pool::secure_channel(address.to_owned(), member, self.0.clone())
    }
}

/// Plain channels over loopback, for simulated nodes of one process.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Dial for Plain {
    fn channel(&self, _member: MemberId, address: &str) -> Channel {
        // A text that is no address leads nowhere, as an address does where nobody listens.
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        pool::channel(address.parse().unwrap_or(nowhere))
    }
}

impl fmt::Debug for dyn Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
