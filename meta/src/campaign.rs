//! Elections that openraft leaves undone, when nobody has led for a while.
//!
//! A voter that is being taken out of Raft's list may hold that change before it is agreed on, and
//! those who stay may not; they cannot be elected without its vote, which it owes to nobody with a
//! shorter log. So it has to lead once more, with the votes of those who stay (Ongaro's thesis,
//! 4.2.2). openraft elects only voters: the votes are gathered here, and Raft is told the outcome.
//!
//! Candidates may spoil each other's elections again and again: openraft draws the time between
//! two attempts only once, and on slow disks no election is over before the next begins. Then one
//! stands back for a random time.

use crate::meta::Inner;
use crate::raft::{Members, Metrics, Raft, StoredMembership, Vote, votes};
use crate::runtime::Runtime;
use krg_types::MemberId;
use openraft::error::RaftError;
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::{AsyncRuntime, ServerState};
use rand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Voters have elected somebody by then, if they can.
const SILENT_MIN: Duration = Duration::from_secs(2);
/// After so long without a leader candidates seem to be in each other's way.
const STUCK: Duration = Duration::from_secs(4);
/// So long, at most, a candidate stands back: time for another to be elected.
const STAND_BACK_MAX: Duration = Duration::from_millis(1_500);
/// And so long it may stand after that.
const ATTEMPT: Duration = Duration::from_secs(1);
/// A vote may take so long.
const VOTE_MAX: Duration = Duration::from_millis(500);

/// What a member that follows nobody does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Raft sees to it.
    Wait,
    /// It stands for election, without a vote of its own.
    Stand,
    /// It leaves others the time to be elected.
    StandBack,
}

/// Whose turn is it? `applied` is the last list that is known here to be agreed on, `silent` for
/// how long no leader was heard.
pub fn turn(
    own: MemberId,
    metrics: &Metrics,
    applied: &StoredMembership,
    silent: Duration,
) -> Turn {
    let list = &metrics.membership_config;
    let votes_now = votes(list.membership(), own);
    // The list that takes its vote is not agreed on, as far as it knows.
    let is_leaving =
        !votes_now && list.log_id() > applied.log_id() && votes(applied.membership(), own);
    match metrics.state {
        ServerState::Leader => Turn::Wait,
        ServerState::Candidate if votes_now && silent > STUCK => Turn::StandBack,
        _ if is_leaving && silent > SILENT_MIN => Turn::Stand,
        _ => Turn::Wait,
    }
}

/// Begins no election for a random time, then may for a while.
pub async fn stand_back(raft: &Raft) {
    let pause = Runtime::thread_rng().gen_range(Duration::ZERO..STAND_BACK_MAX);
    raft.runtime_config().elect(false);
    sleep_until(Instant::now() + pause).await;
    raft.runtime_config().elect(true);
    sleep_until(Instant::now() + ATTEMPT).await;
}

/// Stands for election, once, if those who stay would have it; who is elected leads from then on.
///
/// # Errors
/// When Raft has ended.
pub async fn stand(inner: &Inner) -> Result<(), RaftError<MemberId>> {
    // The log first: if it grows meanwhile, the list may be a later one than this end of it, and
    // the log is then too short for the last of these questions.
    let last = inner.log.last();
    let now = inner.raft.with_raft_state(|state| {
        let list = state.membership_state.effective().membership().clone();
        (state.vote_ref().leader_id().get_term(), list)
    });
    let (term, list) = now.await.map_err(RaftError::Fatal)?;
    if list.get_node(&inner.own).is_none() {
        // Raft lets nobody lead who is not even told of anything.
        return Ok(());
    }
    // A vote for the past counts for nothing, but all tell how long their logs are, and which term
    // it is. Who stood in vain would only depose whoever leads, by a later term.
    let past = Vote::new(0, inner.own);
    let replies = ask_all(inner, &list, VoteRequest::new(past, last)).await;
    let leads = |id: &MemberId, vote: &Vote| vote.committed && vote.leader_id.node_id == *id;
    if replies.iter().any(|(id, reply)| leads(id, &reply.vote)) {
        return Ok(());
    }
    let shorter = replies.iter().filter(|(_, reply)| reply.last_log_id <= last);
    if !is_majority(&list, &shorter.map(|(id, _)| *id).collect()) {
        return Ok(());
    }
    let terms = replies.iter().map(|(_, reply)| reply.vote.leader_id().get_term());
    let term = terms.fold(term, u64::max) + 1;
    let vote = Vote::new(term, inner.own);
    let replies = ask_all(inner, &list, VoteRequest::new(vote, last)).await;
    let for_us = replies.iter().filter(|(_, reply)| reply.vote_granted && reply.vote == vote);
    if !is_majority(&list, &for_us.map(|(id, _)| *id).collect()) {
        return Ok(());
    }
    tracing::info!(term, "elected without a vote of its own, to end a change of voters");
    let lead = Vote::new_committed(term, inner.own);
    inner.raft.vote(VoteRequest::new(lead, last)).await.map(drop)
}

/// A majority of each of the sets that a list has while it is being changed.
fn is_majority(list: &Members, for_us: &BTreeSet<MemberId>) -> bool {
    let sets = list.get_joint_config();
    !sets.is_empty() && sets.iter().all(|set| 2 * set.intersection(for_us).count() > set.len())
}

/// The answers that come in time.
async fn ask_all(
    inner: &Inner,
    list: &Members,
    request: VoteRequest<MemberId>,
) -> Vec<(MemberId, VoteResponse<MemberId>)> {
    let ask = async |id: MemberId| {
        let node = list.get_node(&id)?;
        let mut link = inner.network.clone().new_client(id, node).await;
        let asked = link.vote(request.clone(), RPCOption::new(VOTE_MAX));
        Some((id, timeout(VOTE_MAX, asked).await.ok()?.ok()?))
    };
    let all = list.voter_ids().filter(|id| *id != inner.own).map(ask);
    futures_util::future::join_all(all).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LogId;
    use krg_types::NodeId;
    use openraft::CommittedLeaderId;

    fn member(n: u32) -> MemberId {
        MemberId::new(NodeId::new(n).unwrap(), 1)
    }

    fn list(sets: &[&[u32]]) -> Members {
        let set = |ids: &&[u32]| ids.iter().copied().map(member).collect::<BTreeSet<_>>();
        Members::new(sets.iter().map(set).collect(), None)
    }

    fn at(index: u64, sets: &[&[u32]]) -> StoredMembership {
        let id = LogId::new(CommittedLeaderId::new(1, member(1)), index);
        StoredMembership::new(Some(id), list(sets))
    }

    #[test]
    fn only_who_is_on_its_way_out_stands_and_only_if_nobody_leads() {
        let mut metrics = Metrics::new_initial(member(1));
        metrics.membership_config = at(8, &[&[2, 3]]).into();
        let long = Duration::from_secs(3);
        let turn = |metrics: &Metrics, applied: &StoredMembership, silent| {
            turn(member(1), metrics, applied, silent)
        };
        assert_eq!(turn(&metrics, &at(7, &[&[1, 2, 3], &[2, 3]]), long), Turn::Stand);
        assert_eq!(turn(&metrics, &at(3, &[&[1, 2, 3]]), long), Turn::Stand);
        let short = Duration::from_secs(1);
        assert_eq!(turn(&metrics, &at(7, &[&[1, 2, 3], &[2, 3]]), short), Turn::Wait);
        assert_eq!(turn(&metrics, &at(8, &[&[2, 3]]), long), Turn::Wait, "it is agreed on");
        assert_eq!(turn(&metrics, &at(3, &[&[2, 3]]), long), Turn::Wait, "it never voted");
        metrics.state = ServerState::Leader;
        assert_eq!(turn(&metrics, &at(3, &[&[1, 2, 3]]), long), Turn::Wait);
        metrics.state = ServerState::Learner;
        metrics.membership_config = at(8, &[&[1, 2], &[2, 3]]).into();
        assert_eq!(turn(&metrics, &at(3, &[&[1, 2]]), long), Turn::Wait, "it still votes");
    }

    #[test]
    fn a_candidate_that_is_never_elected_stands_back() {
        let mut metrics = Metrics::new_initial(member(1));
        let list = at(8, &[&[1, 2, 3]]);
        metrics.membership_config = list.clone().into();
        metrics.state = ServerState::Candidate;
        let turn = |metrics: &Metrics, s| turn(member(1), metrics, &list, Duration::from_secs(s));
        assert_eq!(turn(&metrics, 5), Turn::StandBack);
        assert_eq!(turn(&metrics, 2), Turn::Wait);
        metrics.state = ServerState::Follower;
        assert_eq!(turn(&metrics, 5), Turn::Wait);
    }

    #[test]
    fn a_majority_of_each_set_elects() {
        let by = |ids: &[u32]| ids.iter().copied().map(member).collect();
        assert!(is_majority(&list(&[&[2]]), &by(&[2])));
        assert!(!is_majority(&list(&[&[2]]), &by(&[3])));
        assert!(is_majority(&list(&[&[2, 3, 4]]), &by(&[2, 4])));
        assert!(!is_majority(&list(&[&[2, 3, 4]]), &by(&[2])));
        assert!(!is_majority(&list(&[&[1, 2, 3], &[4, 5, 6]]), &by(&[4, 5, 6])));
        assert!(!is_majority(&list(&[]), &by(&[1])));
    }
}
