//! Who votes: one, three or five members, healthy ones first. Pure: from who is a member and how
//! it fares to the next single change of Raft's own list.

use krg_types::MemberId;
use std::collections::{BTreeMap, BTreeSet};

/// One member that is to be in Raft's list.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Where it listens.
    pub address: String,
    /// It answers, or has not been silent for long.
    pub healthy: bool,
    /// Its log is near the leader's.
    pub caught_up: bool,
}

/// Raft's list as it is.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Current {
    /// Who votes.
    pub voters: BTreeSet<MemberId>,
    /// Who only listens.
    pub learners: BTreeSet<MemberId>,
    /// A change of the voters has been begun and not ended, perhaps by an earlier leader: then
    /// `voters` are the old ones and the new ones, and a majority of each is needed.
    pub is_joint: bool,
}

/// One change of Raft's list.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// This member listens from now on.
    AddLearner(MemberId, String),
    /// These vote from now on, and nobody else; who no longer votes goes on listening.
    SetVoters(BTreeSet<MemberId>),
    /// These are in the list no more; none of them votes.
    Remove(BTreeSet<MemberId>),
}

/// How many vote among so many members.
pub fn voters_wanted(members: usize) -> usize {
    match members {
        0..=2 => members.min(1),
        3 | 4 => 3,
        _ => 5,
    }
}

/// The next change, or `None` when all is as it should be. `members` are those who should be in
/// the list; `leader` decides, and goes on voting if it is one of them. Once it is out of Raft's
/// list it leads only until that is committed, and must change nothing more (openraft panics).
pub fn next_step(
    members: &BTreeMap<MemberId, Candidate>,
    current: &Current,
    leader: MemberId,
) -> Option<Step> {
    let known = |m: &MemberId| current.voters.contains(m) || current.learners.contains(m);
    if !known(&leader) {
        return None;
    }
    // Newcomers first: they need time to catch up, and may be needed as voters.
    if let Some((member, candidate)) = members.iter().find(|(m, _)| !known(m)) {
        return Some(Step::AddLearner(*member, candidate.address.clone()));
    }
    let voters = choose(members, current, leader);
    if current.is_joint && !voters.is_empty()
        || voters != current.voters && can_agree(&voters, members)
    {
        return Some(Step::SetVoters(voters));
    }
    let gone = |m: &&MemberId| !members.contains_key(m) && !current.voters.contains(m);
    let gone: BTreeSet<MemberId> = current.learners.iter().filter(gone).copied().collect();
    (!gone.is_empty()).then_some(Step::Remove(gone))
}

/// Do enough of them answer? A change to others could not be ended, nor taken back.
fn can_agree(voters: &BTreeSet<MemberId>, members: &BTreeMap<MemberId, Candidate>) -> bool {
    let answers = |m: &&MemberId| members.get(m).is_some_and(|candidate| candidate.healthy);
    2 * voters.iter().filter(answers).count() > voters.len()
}

/// The voters there should be now. Empty if nobody can vote yet.
fn choose(
    members: &BTreeMap<MemberId, Candidate>,
    current: &Current,
    leader: MemberId,
) -> BTreeSet<MemberId> {
    // Lower ranks are taken first. A voter that fares well stays: each change has its price.
    let rank = |(member, candidate): &(&MemberId, &Candidate)| {
        let votes = current.voters.contains(member);
        match (votes, candidate.healthy, candidate.caught_up) {
            _ if **member == leader => Some(0),
            (true, true, _) => Some(1),
            (false, true, true) => Some(2),
            // Silent, but counted: nobody is there to take its place.
            (true, false, _) => Some(3),
            // It must not vote before it knows what has been agreed on.
            (false, _, false) | (false, false, true) => None,
        }
    };
    let mut ranked: Vec<(u8, MemberId)> =
        members.iter().filter_map(|entry| Some((rank(&entry)?, *entry.0))).collect();
    ranked.sort_unstable();
    let wanted = voters_wanted(members.len());
    // A number of voters that is even bears no more losses than one fewer, so a learner is taken
    // in only when the count becomes odd with it. Voters that are there are not dropped for that.
    let standing = members.keys().filter(|m| current.voters.contains(m)).count();
    let count = match ranked.len().min(wanted) {
        n if n % 2 == 0 && n < wanted && n > standing => n - 1,
        n => n,
    };
    ranked.into_iter().take(count).map(|(_, member)| member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use krg_types::NodeId;
    use proptest::prelude::*;

    fn member(n: u32) -> MemberId {
        MemberId::new(NodeId::new(n).unwrap(), u64::from(n))
    }

    fn set(ids: &[u32]) -> BTreeSet<MemberId> {
        ids.iter().map(|n| member(*n)).collect()
    }

    fn members(ids: &[u32], sick: &[u32], behind: &[u32]) -> BTreeMap<MemberId, Candidate> {
        let candidate = |n: &u32| Candidate {
            address: format!("node{n}"),
            healthy: !sick.contains(n),
            caught_up: !behind.contains(n),
        };
        ids.iter().map(|n| (member(*n), candidate(n))).collect()
    }

    fn current(voters: &[u32], learners: &[u32]) -> Current {
        Current { voters: set(voters), learners: set(learners), is_joint: false }
    }

    #[test]
    fn a_cluster_grows_one_step_at_a_time() {
        let all = members(&[1, 2, 3], &[], &[3]);
        let step = |c: &Current| next_step(&all, c, member(1));
        assert_eq!(step(&current(&[1], &[])), Some(Step::AddLearner(member(2), "node2".into())));
        assert_eq!(step(&current(&[1], &[2])), Some(Step::AddLearner(member(3), "node3".into())));
        // The third is behind, and two voters are no better than one.
        assert_eq!(step(&current(&[1], &[2, 3])), None);
        let all = members(&[1, 2, 3], &[], &[]);
        let step = next_step(&all, &current(&[1], &[2, 3]), member(1));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 2, 3]))));
        assert_eq!(next_step(&all, &current(&[1, 2, 3], &[]), member(1)), None);
    }

    #[test]
    fn nobody_is_let_go_whose_voice_is_needed() {
        // Node 3 leaves, and node 1 is silent: two voters of whom one is silent agree on nothing.
        let all = members(&[1, 2, 4], &[1], &[4]);
        assert_eq!(next_step(&all, &current(&[1, 2, 3], &[4]), member(3)), None);
        let all = members(&[1, 2, 4], &[], &[4]);
        let step = next_step(&all, &current(&[1, 2, 3], &[4]), member(3));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 2]))));
        // When another has caught up, it votes in its place.
        let all = members(&[1, 2, 4], &[1], &[]);
        let step = next_step(&all, &current(&[1, 2, 3], &[4]), member(3));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 2, 4]))));
    }

    #[test]
    fn a_silent_voter_is_replaced_if_somebody_can() {
        let all = members(&[1, 2, 3, 4], &[2], &[]);
        let step = next_step(&all, &current(&[1, 2, 3], &[4]), member(3));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 3, 4]))));
        let all = members(&[1, 2, 3], &[2], &[]);
        assert_eq!(next_step(&all, &current(&[1, 2, 3], &[]), member(3)), None);
    }

    #[test]
    fn who_is_no_member_stops_voting_and_then_listening() {
        let all = members(&[2, 3], &[], &[]);
        let step = next_step(&all, &current(&[1, 2, 3], &[]), member(1));
        assert_eq!(step, Some(Step::SetVoters(set(&[2]))));
        let step = next_step(&all, &current(&[2], &[1, 3]), member(2));
        assert_eq!(step, Some(Step::Remove(set(&[1]))));
        // The leader itself leaves, and the only one left is a learner.
        let all = members(&[2], &[], &[]);
        let step = next_step(&all, &current(&[1], &[2]), member(1));
        assert_eq!(step, Some(Step::SetVoters(set(&[2]))));
    }

    #[test]
    fn a_leader_that_is_out_of_the_list_changes_nothing_more() {
        let all = members(&[2, 3, 4], &[], &[]);
        assert_eq!(next_step(&all, &current(&[2, 3], &[]), member(1)), None);
    }

    #[test]
    fn a_change_that_an_earlier_leader_began_is_ended() {
        let all = members(&[1, 2, 3], &[], &[]);
        let now = Current { is_joint: true, ..current(&[1, 2, 3], &[]) };
        let step = next_step(&all, &now, member(2));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 2, 3]))));
    }

    #[test]
    fn a_voter_that_comes_back_as_another_costs_no_other_its_vote() {
        let (one, two, old) = (member(1), member(2), member(3));
        let new = MemberId::new(NodeId::new(3).unwrap(), 99);
        let mut all = members(&[1, 2], &[], &[]);
        let behind = Candidate { address: "node3".into(), healthy: true, caught_up: false };
        all.insert(new, behind);
        let now =
            Current { voters: [one, two, old].into(), learners: [new].into(), is_joint: false };
        assert_eq!(next_step(&all, &now, one), Some(Step::SetVoters([one, two].into())));
        all.insert(new, Candidate { caught_up: true, ..all[&new].clone() });
        let now =
            Current { voters: [one, two].into(), learners: [new, old].into(), is_joint: false };
        assert_eq!(next_step(&all, &now, one), Some(Step::SetVoters([one, two, new].into())));
    }

    #[test]
    fn seven_members_have_five_voters() {
        let all = members(&[1, 2, 3, 4, 5, 6, 7], &[], &[]);
        let step = next_step(&all, &current(&[1, 2, 3], &[4, 5, 6, 7]), member(1));
        assert_eq!(step, Some(Step::SetVoters(set(&[1, 2, 3, 4, 5]))));
    }

    proptest! {
        #[test]
        fn steps_come_to_an_end(
            ids in proptest::collection::btree_set(1u32..=12, 1..12),
            sick in proptest::collection::btree_set(1u32..=12, 0..6),
            start in proptest::collection::btree_set(1u32..=12, 1..5),
        ) {
            let ids: Vec<u32> = ids.into_iter().collect();
            let sick: Vec<u32> = sick.into_iter().collect();
            let start: Vec<u32> = start.into_iter().collect();
            let all = members(&ids, &sick, &[]);
            let mut now = current(&start, &[]);
            let leader = *now.voters.first().unwrap();
            let mut steps = 0;
            while let Some(step) = next_step(&all, &now, leader) {
                steps += 1;
                prop_assert!(steps < 64, "it never ends: {now:?}");
                match step {
                    Step::AddLearner(m, _) => drop(now.learners.insert(m)),
                    Step::SetVoters(voters) => {
                        let all: BTreeSet<_> = now.voters.union(&now.learners).copied().collect();
                        prop_assert!(voters.is_subset(&all));
                        now.learners = all.difference(&voters).copied().collect();
                        now.voters = voters;
                    }
                    Step::Remove(gone) => {
                        prop_assert!(gone.is_disjoint(&now.voters));
                        now.learners = now.learners.difference(&gone).copied().collect();
                    }
                }
            }
            prop_assert!(!now.voters.is_empty());
            prop_assert!(now.voters.len() <= 5);
        }
    }
}
