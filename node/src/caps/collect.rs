//! What was kept of processes that have ended is forgotten, by the nodes that know.

use super::orphans::Families;
use super::{change, jobs_dir, kept, look};
use crate::jobs;
use crate::life::Station;
use krg_meta::published::View;
use krg_migrate::caps::{PREFIX, Whose, block_of, home_of};
use krg_migrate::place::About;
use krg_migrate::{cluster, members, place};
use krg_rpc::peers::Peers;
use krg_sys::procfs;
use krg_types::NodeId;
use krg_types::capability::Sets;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks: none but at what is kept, and mostly that is nothing.
const PERIOD: Duration = Duration::from_secs(2);

/// Forgets, for as long as it is polled.
pub async fn run(station: Arc<Station>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A list of processes that is taken while they change may leave one out.
    let mut missed = HashSet::new();
    let mut families = Families::default();
    loop {
        ticks.tick().await;
        for (orphan, had) in orphans(&station, &mut families) {
            let _ = change::set(&station, &orphan, Some(&had), Some(0)).await;
        }
        let gone = gone(&station, &station.meta.view());
        let (now, later): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|(whose, _)| missed.contains(whose));
        missed = later.into_iter().map(|(whose, _)| whose).collect();
        for (whose, revision) in now {
            if change::set(&station, &whose, None, Some(revision)).await.is_err() {
                // Another time: there is no majority now.
                break;
            }
        }
    }
}

/// Who has lost a parent since the last look, with what it had.
fn orphans(station: &Station, families: &mut Families) -> Vec<(Whose, Sets)> {
    let view = station.meta.view();
    let own = format!("{PREFIX}node/{}/", station.members.own());
    let all = match view.state.config.with_prefix(&own).next() {
        // Mostly: all have what everybody has.
        None => Vec::new(),
        Some(_) => look(station, |looking| looking.all()).unwrap_or_default(),
    };
    families.look(all, kept(&view))
}

/// What this node knows to have ended, with the revisions of what is kept of it.
fn gone(station: &Station, view: &View) -> Vec<(Whose, u64)> {
    let all = view.state.config.with_prefix(PREFIX);
    let mut kept = all.filter_map(|(key, row)| Some((Whose::parse(key)?, row.revision)));
    let Some(first) = kept.next() else { return Vec::new() };
    let jobs = place::all(&jobs_dir(station));
    let own = station.members.own().get();
    let is_member = |node| NodeId::new(node).is_some_and(|n| station.members.get(n).is_some());
    let boot = procfs::own().map(krg_migrate::lineage::boot).unwrap_or_default();
    [first]
        .into_iter()
        .chain(kept)
        .filter(|(whose, _)| match *whose {
            Whose::Process { node, boot: then, pid, .. } if node == own => {
                let now = look(station, |looking| looking.at(pid)).ok().flatten();
                then != boot || now.and_then(|now| now.lineage.own()) != Some(*whose)
            }
            Whose::Process { node, .. } => !is_member(node),
            Whose::Member { job, number } => {
                let home = home_of(job);
                let about = jobs.iter().find(|about| about.id == job);
                match about {
                    None if home == own => !begins(station, job),
                    None => !is_member(home),
                    Some(about) => number > 0 && is_here(view, about, own) && !has(about, number),
                }
            }
        })
        .collect()
}

/// Is the job being started?
fn begins(station: &Station, job: u32) -> bool {
    block_of(job).is_some_and(|block| jobs::is_taken(&jobs_dir(station), block))
}

/// Do all agree that it is this node which has it?
fn is_here(view: &View, about: &About, own: u32) -> bool {
    let record = view.state.config.get(&cluster::key(about.id));
    let record = record.and_then(|text| cluster::Record::parse(&text.0));
    let holder = record.map_or_else(|| home_of(about.id), |record| record.holder);
    holder == own && about.init > 0
}

fn has(about: &About, number: u32) -> bool {
    members::find(about.init, number).is_some()
}
