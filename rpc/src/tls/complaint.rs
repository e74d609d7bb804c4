//! Warnings about callers that are refused: few for each address, so that nobody fills the log.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Between two complaints about one address.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);
/// Addresses whose last complaint is remembered.
const COMPLAINTS_MAX: usize = 256;

/// Who was complained about, and when.
#[derive(Default)]
pub struct Complaints {
    last: BTreeMap<IpAddr, Instant>,
}

impl Complaints {
    /// Nobody yet.
    pub const fn new() -> Complaints {
        Complaints { last: BTreeMap::new() }
    }

    /// Logs what was refused to whom, and why, if the last time is long enough ago.
    pub fn complain(&mut self, what: &str, remote: SocketAddr, why: &str) {
        if self.due(remote.ip(), Instant::now()) {
            tracing::warn!(%remote, why, "{what}");
        }
    }

    fn due(&mut self, address: IpAddr, now: Instant) -> bool {
        self.last.retain(|_, at| now.duration_since(*at) < COMPLAINT_PERIOD);
        if self.last.contains_key(&address) || self.last.len() >= COMPLAINTS_MAX {
            return false;
        }
        self.last.insert(address, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_complained_about_now_and_then() {
        let (mut complaints, now) = (Complaints::new(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(complaints.due(address(1), now));
        assert!(!complaints.due(address(1), now + COMPLAINT_PERIOD / 2));
        assert!(complaints.due(address(2), now + COMPLAINT_PERIOD / 2));
        assert!(complaints.due(address(1), now + COMPLAINT_PERIOD));
        for n in 0..1000 {
            complaints.due(address(n), now);
        }
        assert_eq!(complaints.last.len(), COMPLAINTS_MAX);
    }
}
