//! When members of the group were last heard: what tells a leader whom to trust with a vote, and a
//! reader how old his copy may be.

use krg_types::MemberId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// A leader that was last heard this long ago may be none any more: reads are stale. So is one
/// that has not heard a majority for as long.
pub const STALE_AFTER: Duration = Duration::from_secs(2);

/// Last words of everybody.
#[derive(Debug, Default)]
pub struct Contacts {
    heard: Mutex<BTreeMap<MemberId, Instant>>,
    leader: Mutex<Option<(MemberId, Instant)>>,
}

impl Contacts {
    /// This member answered us just now.
    pub fn answered(&self, member: MemberId) {
        lock(&self.heard).insert(member, Instant::now());
    }

    /// This member led us just now.
    pub fn led_by(&self, member: MemberId) {
        *lock(&self.leader) = Some((member, Instant::now()));
    }

    /// Since this member answered us; `None` if it never did.
    pub fn silent_for(&self, member: MemberId) -> Option<Duration> {
        lock(&self.heard).get(&member).map(Instant::elapsed)
    }

    /// Who led us last, and how long ago.
    pub fn leader(&self) -> Option<(MemberId, Duration)> {
        lock(&self.leader).map(|(member, at)| (member, at.elapsed()))
    }

    /// Forgets those who are not members.
    pub fn retain(&self, is_member: impl Fn(MemberId) -> bool) {
        lock(&self.heard).retain(|member, _| is_member(*member));
    }
}

// A panic while it was held leaves plain values that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
