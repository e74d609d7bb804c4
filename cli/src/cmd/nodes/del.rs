//! `nodes del`: ends memberships, in Kerrighed's words.

use super::bracketed;
use crate::args::nodes::Which;
use crate::daemon::{self, AGREE_MAX};
use anyhow::Result;
use krg_rpc::proto::control::{Node, NodesDelRequest};
use krg_types::NodeState;
use krg_types::limits::PROTOCOL_VERSION;
use std::io::Write;

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Everything that was asked for was done, or there was nothing to do.
    pub whole: bool,
    /// Nodes of the list were left alone because they do not answer.
    pub absent: bool,
    /// Nothing was tried, or krgd refused it.
    pub failed: bool,
}

/// Ends memberships; with `force` also of nodes that do not answer.
///
/// # Errors
/// When krgd does not run or does not tell who is there.
pub fn del(which: Which, force: bool) -> Result<Outcome> {
    let status = daemon::status()?;
    let plan = plan(&which, &status.nodes, status.node, force);
    print!("{}", plan.said);
    let mut outcome = Outcome { whole: plan.whole, absent: plan.absent, failed: plan.abort };
    if plan.abort {
        return Ok(outcome);
    }
    if plan.nodes.is_empty() {
        println!("No online node to remove.");
        return Ok(outcome);
    }
    print!("Removing nodes {}... ", bracketed(&plan.nodes));
    std::io::stdout().flush()?;
    let version = PROTOCOL_VERSION;
    let request = NodesDelRequest { version, nodes: plan.nodes, ..NodesDelRequest::default() };
    match daemon::ask(AGREE_MAX, async |mut krgd| krgd.nodes_del(request).await) {
        Ok(_) => println!("done"),
        Err(e) => {
            println!("fail ({e:#})");
            outcome = Outcome { whole: false, failed: true, ..outcome };
        }
    }
    Ok(outcome)
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    nodes: Vec<u32>,
    /// What is said of those that stay.
    said: String,
    whole: bool,
    absent: bool,
    abort: bool,
}

/// Who is removed: never this node; of a count, the first that are online.
fn plan(which: &Which, nodes: &[Node], own: u32, force: bool) -> Plan {
    let word = |id: u32| nodes.iter().find(|n| n.id == id).map(|n| n.state.as_str());
    let online = |id: u32| word(id) == Some(NodeState::Online.word());
    let known = |id: u32| word(id).is_some_and(|w| w != NodeState::Possible.word());
    let all = || nodes.iter().map(|n| n.id).filter(|id| online(*id)).collect::<Vec<_>>();
    let mut plan =
        Plan { nodes: Vec::new(), said: String::new(), whole: true, absent: false, abort: false };
    let keep = |id: &u32| *id != own;
    let first = |plan: &mut Plan, n: usize| {
        if n < all().len() {
            plan.nodes = all().into_iter().filter(keep).take(n).collect();
        } else {
            plan.said = "Not enough nodes to remove. Aborting.\n".into();
            (plan.whole, plan.abort) = (false, true);
        }
    };
    match which {
        Which::All => plan.nodes = all().into_iter().filter(keep).collect(),
        Which::Count(n) => first(&mut plan, *n as usize),
        Which::Total(n) => first(&mut plan, all().len().saturating_sub(*n as usize)),
        Which::List(set) => {
            for id in set.iter().map(|n| n.get()) {
                if id == own {
                    plan.said += "Unable to suppress current node.\n";
                    plan.whole = false;
                } else if online(id) || force && known(id) {
                    plan.nodes.push(id);
                } else {
                    plan.said += &format!("Unable to suppress node {id} (must be 'online').\n");
                    plan.whole = false;
                    plan.absent |= known(id);
                }
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(which: Which, force: bool) -> Plan {
        let node = |(id, state): (u32, &str)| Node { id, state: state.into(), ..Node::default() };
        let nodes =
            [(1, "online"), (2, "online"), (3, "present"), (4, "online"), (5, "possible")]
                .map(node);
        plan(&which, &nodes, 2, force)
    }

    #[test]
    fn a_list_says_who_stays() {
        let list = || Which::List("1-6".parse().unwrap());
        let plan = planned(list(), false);
        assert_eq!(plan.nodes, [1, 4]);
        assert_eq!(
            plan.said,
            "Unable to suppress current node.\n\
             Unable to suppress node 3 (must be 'online').\n\
             Unable to suppress node 5 (must be 'online').\n\
             Unable to suppress node 6 (must be 'online').\n"
        );
        assert!(!plan.whole && plan.absent && !plan.abort);
        assert_eq!(planned(list(), true).nodes, [1, 3, 4]);
    }

    #[test]
    fn a_count_takes_the_first_and_never_all() {
        assert_eq!(planned(Which::All, false).nodes, [1, 4]);
        assert_eq!(planned(Which::Count(1), false).nodes, [1]);
        assert_eq!(planned(Which::Count(2), false).nodes, [1, 4]);
        let plan = planned(Which::Count(3), false);
        assert_eq!(plan.said, "Not enough nodes to remove. Aborting.\n");
        assert!(plan.abort && plan.nodes.is_empty());
        assert_eq!(planned(Which::Total(1), false).nodes, [1, 4]);
        assert_eq!(planned(Which::Total(2), false).nodes, [1]);
        assert!(planned(Which::Total(9), false).nodes.is_empty());
    }
}
