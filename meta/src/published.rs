//! The state as readers see it: whole, immutable, taken without a lock. Published after each
//! apply and before its replies, so a proposer reads its own writes.

use crate::raft::{LogId, StoredMembership};
use crate::state::State;
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;

/// The state at one place of the log.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// All tables.
    pub state: State,
    /// The last entry that is in it.
    pub applied: Option<LogId>,
    /// The last membership that is in it.
    pub membership: StoredMembership,
}

impl View {
    /// The index of the last entry in it; 0 also if there is none.
    pub fn applied_index(&self) -> u64 {
        self.applied.map_or(0, |id| id.index)
    }
}

/// The newest view.
#[derive(Debug)]
pub struct Published {
    view: ArcSwap<View>,
    applied: watch::Sender<u64>,
    members: watch::Sender<()>,
}

impl Published {
    /// Begins with a view.
    pub fn new(view: View) -> Published {
        let applied = watch::Sender::new(view.applied_index());
        let members = watch::Sender::new(());
        Published { view: ArcSwap::from_pointee(view), applied, members }
    }

    /// The newest view. No lock; it may be held as long as one likes.
    pub fn load(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The index of the last applied entry, and a wake-up whenever it changes.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// A wake-up whenever something changes in who is a member, who votes, or whom to trust.
    pub fn members(&self) -> watch::Receiver<()> {
        self.members.subscribe()
    }

    /// Shows a newer view.
    pub(crate) fn publish(&self, view: View) {
        let view = Arc::new(view);
        let old = self.view.swap(view.clone());
        self.applied.send_replace(view.applied_index());
        if !old.state.same_members(&view.state) || old.membership != view.membership {
            self.members.send_replace(());
        }
    }
}
