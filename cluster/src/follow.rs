//! Keeps everything that depends on the agreed member list in step with it: whom TLS lets in, whom
//! the prober asks, who gossips, and what is remembered for the next start.

use crate::gossip::GossipMembers;
use crate::home::Home;
use crate::{Members, roster};
use krg_meta::Meta;
use krg_meta::published::View;
use std::sync::Arc;
use tokio::sync::watch;

/// What is kept in step.
pub struct Follow {
    /// What is agreed.
    pub meta: Meta,
    /// This node's papers.
    pub home: Arc<Home>,
    /// Whom the prober asks.
    pub members: Arc<Members>,
    /// Who gossips; `None` until this node has the agreed list.
    pub gossip: watch::Sender<Option<Arc<GossipMembers>>>,
}

/// Why the list is not followed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// This node is not in it.
    Removed,
    /// The agreement has ended here.
    Closed,
}

impl Follow {
    /// Runs until the agreement ends, or this node finds itself no longer in the list.
    pub async fn run(self) -> Ended {
        let mut agreed = self.meta.members();
        let mut probed = krg_rpc::peers::Peers::changes(&*self.members);
        let mut nodes_revision = None;
        loop {
            agreed.mark_unchanged();
            probed.mark_unchanged();
            let view = self.meta.view();
            let revision = members_revision(&view);
            if view.state.info().newest_serial != 0 {
                if nodes_revision != Some(revision) {
                    if !self.is_member(&view) {
                        return Ended::Removed;
                    }
                    self.take_in(&view);
                    nodes_revision = Some(revision);
                }
                self.tell_gossip(&view);
            }
            tokio::select! {
                changed = agreed.changed() => if changed.is_err() { return Ended::Closed },
                changed = probed.changed() => if changed.is_err() { return Ended::Closed },
            }
        }
    }

    /// Not so only if a serial as high as this node's own has been seen and it is not in the
    /// list: a copy that is behind does not know of it yet.
    fn is_member(&self, view: &View) -> bool {
        let own = self.meta.own();
        view.state.member(own).is_some() || view.state.info().newest_serial < own.serial()
    }

    fn take_in(&self, view: &View) {
        let own = self.meta.own();
        if view.state.member(own).is_none() {
            // A copy of before this node's own time: what it was told when it joined is newer.
            return;
        }
        let state = &view.state;
        self.home.credentials().set_roster(roster::roster(state));
        self.members.set(&roster::addresses(state));
        let kept = self.home.trust(roster::authorities(state)).and_then(|()| {
            self.home.remember(roster::founders(state), state.info().newest_serial)
        });
        if let Err(e) = kept {
            tracing::error!(error = %e, "this node's papers cannot be kept up to date");
        }
    }

    fn tell_gossip(&self, view: &View) {
        if let Some(now) = roster::gossip(&view.state, &self.members.list()).map(Arc::new) {
            self.gossip.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&now);
                *known = Some(now);
                changed
            });
        }
    }
}

/// Changes when a row does that says who is a member, or whom to trust.
fn members_revision(view: &View) -> u64 {
    let nodes = view.state.nodes.iter().map(|(_, row)| row.revision);
    let trust = view.state.authorities.iter().map(|(_, row)| row.revision);
    let count = view.state.authorities.len() as u64;
    nodes.chain(trust).max().unwrap_or(0) * 8 + count
}
