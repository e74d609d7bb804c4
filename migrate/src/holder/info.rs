//! What a holder says of its job.

use super::{At, Holder};
use krg_rpc::proto::job as wire;

impl Holder {
    pub(super) fn info(&self) -> wire::JobInfo {
        let (node, state) = match &self.at {
            At::Here(_) if self.frost.is_some() => (self.equipment.cluster.own(), "frozen"),
            At::Here(_) => (self.equipment.cluster.own(), "running"),
            At::Still(..) => (self.equipment.cluster.own(), "moving"),
            At::Away(node) => (*node, "running"),
            At::Gone => (self.equipment.cluster.own(), "ended"),
        };
        let state = if self.ended.is_some() { "ended" } else { state };
        wire::JobInfo {
            id: self.job.id,
            home: self.job.home,
            node,
            uid: self.job.uid,
            name: self.job.name.clone(),
            command: self.job.command.clone(),
            moves: self.job.moves,
            has_terminal: self.outside.as_ref().is_some_and(|outside| outside.has_terminal),
            age_s: self.begun.elapsed().as_secs(),
            state: state.to_owned(),
            refusal: self.refusal.clone(),
        }
    }
}
