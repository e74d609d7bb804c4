//! What must hold whatever happens: one rule in each file, with where it comes from.

mod acknowledged;
mod election_safety;
mod exactly_once;
mod leader_completeness;
mod leases;
mod linearizability;
mod log_matching;
mod never_back;
mod old_membership;
mod real_time;
mod state_machine_safety;
mod unique_numbers;
mod voters;
mod watchers;

use super::oracle::Now;

/// One rule.
pub trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Does it hold now?
    ///
    /// # Errors
    /// How it does not.
    fn look(&mut self, now: &Now<'_>) -> Result<(), String> {
        let _ = now;
        Ok(())
    }

    /// Did it hold in the end, when the cluster has healed?
    ///
    /// # Errors
    /// How it did not.
    fn end(&mut self, now: &Now<'_>) -> Result<(), String> {
        let _ = now;
        Ok(())
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<election_safety::ElectionSafety>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<leader_completeness::LeaderCompleteness>::default(),
        Box::<state_machine_safety::StateMachineSafety>::default(),
        Box::<never_back::NeverBack>::default(),
        Box::<old_membership::OldMembership>::default(),
        Box::<exactly_once::ExactlyOnce>::default(),
        Box::<unique_numbers::UniqueNumbers>::default(),
        Box::<leases::Leases>::default(),
        Box::<watchers::Watchers>::default(),
        Box::<voters::Voters>::default(),
        Box::<real_time::RealTime>::default(),
        Box::<acknowledged::Acknowledged>::default(),
        Box::<linearizability::Linearizability>::default(),
    ]
}
