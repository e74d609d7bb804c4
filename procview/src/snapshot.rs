//! What a command of this machine is told of the cluster at once: every node and every process as
//! numbers, made of the texts that the viewer holds. Pure: the texts may be anybody's bytes.

mod node;
mod process;

pub use node::{Known, files, node, states};
pub use process::{Wants, process};

use crate::store::{NodeView, Process};
use krg_sys::cred::Caller;

/// May the caller look into a process's directory, as its owner's hidepid has it?
pub fn is_shown(view: &NodeView, process: &Process, caller: &Caller) -> bool {
    let exempt = |gid: u32| caller.gid == gid || caller.groups.contains(&gid);
    view.facts.hidepid == 0
        || caller.uid == 0
        || caller.uid == process.uid
        || view.facts.hidepid_gid.is_some_and(exempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_rpc::proto::proc::NodeFacts;
    use krg_types::NodeId;
    use std::sync::Arc;

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid: uid, groups: groups.to_vec() }
    }

    #[test]
    fn what_hidepid_hides_is_not_told() {
        let mut view = NodeView::new(NodeId::new(2).unwrap());
        let theirs = Process { uid: 33, gid: 33, ..Process::default() };
        assert!(is_shown(&view, &theirs, &caller(1000, &[])), "nothing is hidden");
        view.facts = Arc::new(NodeFacts { hidepid: 2, ..NodeFacts::default() });
        assert!(!is_shown(&view, &theirs, &caller(1000, &[])));
        assert!(
            is_shown(&view, &theirs, &caller(33, &[]))
                && is_shown(&view, &theirs, &caller(0, &[]))
        );
        let gid = Some(50);
        view.facts = Arc::new(NodeFacts { hidepid: 2, hidepid_gid: gid, ..NodeFacts::default() });
        assert!(is_shown(&view, &theirs, &caller(1000, &[7, 50])));
        assert!(is_shown(&view, &theirs, &caller(50, &[])));
        assert!(!is_shown(&view, &theirs, &caller(1000, &[7])));
    }
}
