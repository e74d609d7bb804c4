//! One member goes on alone after the others were lost for good: its log is applied to the end, and
//! a new group begins with what that gives.

use crate::command::{Batch, Command, Proposal, Reply, SURVIVOR_EPOCH, Ticket};
use crate::open::Opened;
use crate::published::View;
use crate::raft::{LogId, StorageError, StoredMembership, Vote};
use crate::snapshot;
use crate::state::{self, State};
use krg_types::MemberId;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, CommittedLeaderId, EntryPayload, LogIdOptionExt, Membership, RaftLogReader,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why a member cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Its store fails.
    #[error("the store fails: {0}")]
    Store(#[from] Box<StorageError>),
    /// The state does not allow it.
    #[error("{0}")]
    Refused(String),
}

impl From<StorageError> for RecoverError {
    fn from(error: StorageError) -> RecoverError {
        RecoverError::Store(Box::new(error))
    }
}

/// What a survivor knows.
#[derive(Debug)]
pub struct Survivor {
    /// Everything in its log applied: also what may never have been agreed on, so that nothing
    /// that was acknowledged is missing.
    pub state: State,
    /// The last place in its log.
    last: Option<LogId>,
    /// The highest term it has heard of.
    term: u64,
    /// Who speaks in the commands that follow.
    speaker: MemberId,
    spoken: u64,
}

/// Reads a survivor's store to the end of its log. `own` is the membership it had.
///
/// # Errors
/// When the store fails.
pub async fn read(mut opened: Opened, own: MemberId) -> Result<Survivor, RecoverError> {
    let view = opened.published.load();
    let mut state = view.state.clone();
    let mut next = view.applied.next_index();
    let last = opened.log.get_log_state().await?.last_log_id;
    while next < last.next_index() {
        let entries = opened.log.try_get_log_entries(next..last.next_index()).await?;
        if entries.is_empty() {
            break;
        }
        next += entries.len() as u64;
        for entry in entries {
            if let EntryPayload::Normal(batch) = entry.payload {
                state::apply(&mut state, &batch);
            }
        }
    }
    state.take_changes();
    let vote = opened.log.read_vote().await?;
    let term = vote.map_or(0, |vote| vote.leader_id.term);
    Ok(Survivor { state, last, term, speaker: own, spoken: 0 })
}

impl Survivor {
    /// Applies a command of the administrator's to what it knows.
    ///
    /// # Errors
    /// When the state refuses it.
    pub fn apply(&mut self, command: Command) -> Result<Reply, RecoverError> {
        let number = self.spoken;
        self.spoken += 1;
        let ticket =
            Ticket { origin: self.speaker, epoch: SURVIVOR_EPOCH, number, settled: number };
        let proposals = vec![Proposal { ticket, command }];
        let batch = Batch { now_ms: self.state.now_ms, proposals: proposals.into() };
        match state::apply(&mut self.state, &batch).0.pop() {
            Some(Reply::Refused(words)) => Err(RecoverError::Refused(words)),
            Some(reply) => Ok(reply),
            None => Err(RecoverError::Refused("nothing was answered".into())),
        }
    }

    /// Begins a group of `member` alone in a new store.
    ///
    /// # Errors
    /// When that store fails.
    pub async fn seed(
        self,
        mut fresh: Opened,
        member: MemberId,
        address: &str,
    ) -> Result<(), RecoverError> {
        let node = BasicNode { addr: address.to_owned() };
        let voters = vec![BTreeSet::from([member])];
        let membership = Membership::new(voters, BTreeMap::from([(member, node)]));
        let leader = CommittedLeaderId::new(self.term + 1, member);
        let at = LogId::new(leader, self.last.next_index());
        let mut state = self.state;
        state.take_changes();
        let membership = StoredMembership::new(Some(at), membership);
        let view = View { state, applied: Some(at), membership };
        let bytes = snapshot::encode(&view).map_err(|e| RecoverError::Refused(e.to_string()))?;
        let meta = snapshot::meta_of(&view);
        // Older than its own log a vote cannot be.
        fresh.log.save_vote(&Vote::new(self.term + 1, member)).await?;
        fresh.machine.install_snapshot(&meta, Box::new(bytes)).await?;
        fresh.log.purge(at).await?;
        Ok(())
    }
}
