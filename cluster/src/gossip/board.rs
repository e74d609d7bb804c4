//! What the gossip has brought: the last load vector of each member, and who is heard of.

use super::{GossipMembers, ids};
use crate::load::Load;
use krg_rpc::peers::BootOffset;
use krg_types::MemberId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What is known of one member by gossip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// What it last said of its load.
    pub load: Option<Load>,
    /// How old that is, measured; `None` without a load or before the first probe.
    pub age: Option<Duration>,
    /// It is being heard of. A member that is not is worth a probe, and no more than that.
    pub alive: bool,
}

#[derive(Default)]
struct Rows {
    /// With the incarnation that said it.
    loads: BTreeMap<MemberId, (u64, Load)>,
    alive: BTreeSet<MemberId>,
}

/// The board and the bell beside it.
pub(super) struct Board {
    rows: Mutex<Rows>,
    changes: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new() -> Board {
        Board { rows: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Rings: the members, or their clocks, are others now.
    pub(super) fn ring(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// A value has come in, from whoever; what does not parse is as if never said.
    pub(super) fn heard(&self, name: &str, incarnation: u64, value: &str) {
        let Some(member) = ids::parse(name) else { return };
        match Load::parse(value) {
            Ok(load) => {
                self.rows().loads.insert(member, (incarnation, load));
                self.ring();
            }
            Err(e) => tracing::warn!(%member, "{e}"),
        }
    }

    /// Who is heard of now. Says whose state changed.
    pub(super) fn set_alive(&self, alive: BTreeSet<MemberId>) -> Vec<MemberId> {
        let mut rows = self.rows();
        let changed: Vec<_> = rows.alive.symmetric_difference(&alive).copied().collect();
        rows.alive = alive;
        drop(rows);
        if !changed.is_empty() {
            self.ring();
        }
        changed
    }

    pub(super) fn is_alive(&self, id: MemberId) -> bool {
        self.rows().alive.contains(&id)
    }

    /// Forgets who is not a member any more.
    pub(super) fn prune(&self, members: &GossipMembers) {
        self.rows().loads.retain(|id, _| members.list.contains_key(id));
    }

    /// Of every member. A load counts only if the life that said it is the one last probed:
    /// that probe measured its clock.
    pub(super) fn view(
        &self,
        members: &GossipMembers,
        own: (MemberId, u64),
        now_ns: u64,
    ) -> BTreeMap<MemberId, Heard> {
        let rows = self.rows();
        let heard = |(&id, member): (&MemberId, &super::GossipMember)| {
            let probed = member.probed.map(|p| (p.incarnation, p.offset));
            let same = (own.1, BootOffset { middle_ns: 0, most_ns: 0 });
            let probed = if id == own.0 { Some(same) } else { probed };
            let said = rows.loads.get(&id).zip(probed).filter(|(said, life)| said.0 == life.0);
            let heard = Heard {
                load: said.map(|(said, _)| said.1),
                age: said.map(|(said, life)| Duration::from_nanos(said.1.age_ns(now_ns, life.1))),
                alive: id == own.0 || rows.alive.contains(&id),
            };
            (id, heard)
        };
        members.list.iter().map(heard).collect()
    }

    // Every edit is of one plain value: a panic elsewhere leaves the rows whole.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
