//! The leader's work: Raft's list of members follows the agreed one, a single change at a time.
//! And what others do so that somebody leads.

use crate::campaign::{self, Turn};
use crate::command::{Command, Reply};
use crate::contact::Contacts;
use crate::meta::Inner;
use crate::raft::{Metrics, Types};
use crate::table::admission;
use crate::voters::{Candidate, Current, Step, next_step};
use krg_types::MemberId;
use openraft::{BasicNode, ChangeMembers, LogId, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Silent for so long, a member is no good voter.
const SILENT_MAX: Duration = Duration::from_secs(3);
/// A log that is so many entries behind the leader's is caught up with it.
const LAG_MAX: u64 = 1_000;
/// Looked at this often even if nothing seems to have changed: silence makes no event.
const PERIOD: Duration = Duration::from_millis(500);
/// Raft's numbers change with every entry: nobody becomes a good voter faster than this.
const PAUSE: Duration = Duration::from_millis(50);
/// One change of Raft's list may take so long; then it is looked at anew.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Telling them may take so long.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// The last command about somebody who has left may take so long.
const REMOVE_MAX: Duration = Duration::from_secs(5);

/// Runs until the agreement ends.
pub async fn run(inner: Weak<Inner>) {
    let Some(mut metrics) = inner.upgrade().map(|inner| inner.raft.metrics()) else { return };
    let Some(mut members) = inner.upgrade().map(|inner| inner.published.members()) else {
        return;
    };
    // Or when it began.
    let mut led_last = Instant::now();
    let mut leading_since: Option<(u64, Instant)> = None;
    let mut changed_at: Option<LogId<MemberId>> = None;
    loop {
        let due = Instant::now() + PERIOD;
        let Some(now) = inner.upgrade() else { return };
        let seen = metrics.borrow_and_update().clone();
        members.mark_unchanged();
        if seen.running_state.is_err() {
            return;
        }
        if seen.state != ServerState::Leader {
            leading_since = None;
            let heard = now.contacts.leader().map(|(_, age)| age);
            let silent = heard.unwrap_or(Duration::MAX).min(led_last.elapsed());
            match campaign::turn(now.own, &seen, &now.published.load().membership, silent) {
                Turn::Wait => {}
                // If Raft has ended, its figures say so.
                Turn::Stand => drop(campaign::stand(&now).await),
                Turn::StandBack => {
                    let raft = now.raft.clone();
                    // A member that is stopped meanwhile has ended.
                    drop(now);
                    campaign::stand_back(&raft).await;
                    continue;
                }
            }
        } else {
            led_last = Instant::now();
            // It goes on from here, also if nobody proposes anything.
            now.proposer.clock_ms();
            let since = match leading_since {
                Some((term, since)) if term == seen.current_term => since,
                _ => leading_since.insert((seen.current_term, Instant::now())).1,
            };
            // The answer to a change may come before the figures that know of it.
            let is_news = changed_at.as_ref() <= seen.membership_config.log_id().as_ref();
            if is_news && step(&now, &seen, since, &mut changed_at).await {
                continue;
            }
        }
        drop(now);
        let paused = Instant::now() + PAUSE;
        let news = async {
            sleep_until(paused).await;
            metrics.changed().await
        };
        tokio::select! {
            changed = news => if changed.is_err() { return },
            changed = members.changed() => if changed.is_err() { return },
            () = sleep_until(due) => {}
        }
    }
}

/// Does the one thing that is due; was there one? `changed_at` becomes where in the log Raft's
/// list was changed.
async fn step(
    inner: &Inner,
    metrics: &Metrics,
    since: Instant,
    changed_at: &mut Option<LogId<MemberId>>,
) -> bool {
    let view = inner.published.load();
    // What this leader's own log says must have been applied: an older list would mislead. And
    // something of its own must be agreed on before it changes who makes a majority: an earlier
    // leader may have begun another change.
    let applied = view.applied;
    if applied.map(|id| id.leader_id) != Some(metrics.vote.leader_id)
        || applied.map(|id| id.index) < metrics.membership_config.log_id().map(|id| id.index)
    {
        return false;
    }
    let current = current(metrics);
    let members = candidates(inner, metrics, since);
    if let Some(step) = next_step(&members, &current, inner.own) {
        tracing::info!(?step, "changing Raft's members");
        let change = tokio::select! {
            change = timeout(STEP_MAX, change(inner, step)) => change.ok().flatten(),
            () = leads_no_more(inner) => None,
        };
        *changed_at = change.or(*changed_at);
        return change.is_some();
    }
    let leaving: Vec<(MemberId, String)> = view
        .state
        .members()
        .filter(|(member, node)| node.leaving && !current.voters.contains(member))
        .filter(|(member, _)| !current.learners.contains(member))
        .map(|(member, node)| (member, node.address.clone()))
        .collect();
    if leaving.is_empty() {
        inner.contacts.retain(|member| members.contains_key(&member));
        return false;
    }
    let nodes = leaving.iter().filter_map(|(member, _)| member.node()).collect();
    // Afterwards nobody speaks with them. Who cannot be told now finds every door closed.
    let _ = timeout(FAREWELL_MAX, (inner.farewell)(leaving)).await;
    let gossip_key = (inner.new_key)();
    let command = admission::Command::Remove { nodes, gossip_key };
    let done = inner.proposer.propose(Command::Admission(command), REMOVE_MAX).await;
    matches!(done, Ok(Reply::Done(_)))
}

/// Returns when this member does not lead.
async fn leads_no_more(inner: &Inner) {
    let mut metrics = inner.raft.metrics();
    // Raft's end is another's to see.
    let _ = metrics.wait_for(|metrics| metrics.state != ServerState::Leader).await;
}

fn current(metrics: &Metrics) -> Current {
    let list = metrics.membership_config.membership();
    let voters: BTreeSet<MemberId> = list.voter_ids().collect();
    let learners = list.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect();
    let is_joint = list.get_joint_config().len() > 1;
    Current { voters, learners, is_joint }
}

/// Who should be in the list, and how each fares.
fn candidates(inner: &Inner, metrics: &Metrics, since: Instant) -> BTreeMap<MemberId, Candidate> {
    let view = inner.published.load();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = |member: &MemberId| {
        let replication = metrics.replication.as_ref()?;
        replication.get(member).copied().flatten().map(|id| id.index)
    };
    let staying = view.state.members().filter(|(_, node)| !node.leaving);
    let candidate = |member: MemberId, address: &str| Candidate {
        address: address.to_owned(),
        healthy: member == inner.own || is_healthy(&inner.contacts, member, since),
        caught_up: member == inner.own || matched(&member).is_some_and(|at| at + LAG_MAX >= last),
    };
    staying.map(|(member, node)| (member, candidate(member, &node.address))).collect()
}

/// A leader that is new gives everybody the time to be heard.
fn is_healthy(contacts: &Contacts, member: MemberId, since: Instant) -> bool {
    let silent = contacts.silent_for(member).unwrap_or(Duration::MAX);
    silent.min(since.elapsed()) < SILENT_MAX
}

/// Where in the log the change stands.
async fn change(inner: &Inner, step: Step) -> Option<LogId<MemberId>> {
    let node = |addr: String| BasicNode { addr };
    let changes: ChangeMembers<MemberId, BasicNode> = match step {
        Step::AddLearner(member, address) => {
            ChangeMembers::AddNodes(BTreeMap::from([(member, node(address))]))
        }
        Step::SetVoters(voters) => ChangeMembers::ReplaceAllVoters(voters),
        Step::Remove(members) => ChangeMembers::RemoveNodes(members),
    };
    let raft: &openraft::Raft<Types> = &inner.raft;
    match raft.change_membership(changes, true).await {
        Ok(done) => Some(done.log_id),
        Err(e) => {
            tracing::debug!(error = %e, "Raft's members could not be changed now");
            None
        }
    }
}
