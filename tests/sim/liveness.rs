//! The second phase: nothing is wrong any more, so the cluster has to heal, to serve everywhere and
//! to have lost nothing.

use super::cluster::Cluster;
use super::faults::Faults;
use super::orders::Order;
use super::world::{MACHINES, lock};
use krg_meta::voters::voters_wanted;
use std::time::Duration;

/// It must have healed after so long.
const HEAL_MAX: Duration = Duration::from_secs(60);
/// The clients go on for so long.
const CLIENTS_GO_ON: Duration = Duration::from_secs(3);
/// Looked at this often.
const PERIOD: Duration = Duration::from_millis(250);

/// Runs until the cluster has healed, then asks the last questions.
///
/// # Errors
/// What has not healed, or does not hold.
pub fn run(cluster: &mut Cluster, faults: &mut Faults) -> Result<(), String> {
    faults.heal(cluster);
    let until = cluster.now() + CLIENTS_GO_ON;
    while cluster.now() < until {
        cluster.step()?;
        faults.upkeep(cluster);
    }
    cluster.world.stop_clients();
    let deadline = cluster.now() + HEAL_MAX;
    wait(cluster, faults, deadline, "heal", healed)?;
    for machine in cluster.running() {
        probe(cluster, faults, machine, deadline)?;
    }
    wait(cluster, faults, deadline, "be the same everywhere", healed)?;
    cluster.oracle.end(&cluster.world)
}

fn wait(
    cluster: &mut Cluster,
    faults: &mut Faults,
    deadline: Duration,
    what: &str,
    mut is_so: impl FnMut(&mut Cluster, &Faults) -> Result<(), String>,
) -> Result<(), String> {
    loop {
        let until = cluster.now() + PERIOD;
        while cluster.now() < until {
            cluster.step()?;
            faults.upkeep(cluster);
        }
        tidy_up(cluster, faults);
        match is_so(cluster, faults) {
            Ok(()) => return Ok(()),
            Err(why) if cluster.now() > deadline => {
                let standing = cluster.standing();
                return Err(format!("liveness: it does not {what}: {why}\n{standing}"));
            }
            Err(_) => {}
        }
    }
}

/// An administrator sees to those who could not be told that they are members no more, and to
/// members whose papers have reached nobody.
fn tidy_up(cluster: &mut Cluster, faults: &Faults) {
    let Some(newest) = cluster.newest() else { return };
    for (member, node) in newest.state.members() {
        let nobody = cluster.world.machine_of(member).is_none() && faults.is_gathered();
        if nobody
            && !node.leaving
            && let Some((node, by)) = member.node().zip(cluster.running().first().copied())
        {
            cluster.order(by, Order::Leave(node));
        }
    }
    for machine in 0..MACHINES {
        if cluster.is_dismissed(machine, &newest) {
            cluster.dismiss(machine);
        }
    }
}

fn healed(cluster: &mut Cluster, faults: &Faults) -> Result<(), String> {
    if !faults.is_gathered() {
        return Err("somebody waits for papers".into());
    }
    for machine in 0..MACHINES {
        let has_papers = cluster.world.slot(machine).papers.is_some();
        if has_papers && !cluster.is_up(machine) {
            return Err(format!("machine {machine} does not run"));
        }
    }
    let Some(newest) = cluster.newest() else { return Err("nobody is there".into()) };
    let members: Vec<_> = newest.state.members().collect();
    if let Some((member, _)) = members.iter().find(|(_, node)| node.leaving) {
        return Err(format!("{member} has not left"));
    }
    if let Some((member, _)) =
        members.iter().find(|(m, _)| cluster.world.machine_of(*m).is_none())
    {
        return Err(format!("{member} is nobody"));
    }
    let wanted = voters_wanted(members.len());
    for glance in cluster.oracle.glances() {
        let stored = &glance.metrics.membership_config;
        let configs = stored.membership().get_joint_config();
        if configs.len() != 1 || configs[0].len() != wanted {
            return Err(format!("{} knows the voters {configs:?}", glance.member));
        }
        if stored.membership().nodes().count() != members.len() {
            return Err(format!("{} knows others in Raft's list", glance.member));
        }
        if glance.view.applied != newest.applied || glance.metrics.current_leader.is_none() {
            return Err(format!("{} is behind, or follows nobody", glance.member));
        }
    }
    Ok(())
}

fn probe(
    cluster: &mut Cluster,
    faults: &mut Faults,
    machine: usize,
    deadline: Duration,
) -> Result<(), String> {
    lock(&cluster.world.probes).clear();
    // An order to stop may still have been waiting there: then its next life is asked. Or one to
    // leave: then nobody is.
    let mut asked = None;
    wait(cluster, faults, deadline, "serve", |cluster, _| {
        if cluster.world.slot(machine).papers.is_none() {
            return Ok(());
        }
        let life = cluster.world.slot(machine).lives;
        if asked != Some(life) && cluster.order(machine, Order::Probe) {
            asked = Some(life);
        }
        let probes = lock(&cluster.world.probes);
        let none = || format!("machine {machine} has not answered");
        probes.get(&machine).map_or_else(|| Err(none()), |_| Ok(()))
    })?;
    let outcome = lock(&cluster.world.probes).remove(&machine);
    outcome.unwrap_or(Ok(())).map_err(|why| format!("liveness: machine {machine} {why}"))
}
