//! Capabilities of the processes of this node: what is kept of them is agreed on by all nodes.

mod change;
pub mod collect;
pub mod follow;
mod orphans;
pub mod service;
pub mod sight;
mod wire;

use crate::life::Station;
use krg_meta::published::View;
use krg_migrate::caps::{Lineage, Whose, block_of, program_of};
use krg_migrate::checkpoint::boundary::{self, NoApplication, Process};
use krg_migrate::lineage::{Looking, Subject, boot};
use krg_migrate::{members, place};
use krg_rpc::peers::Peers;
use krg_rpc::tonic::Status;
use krg_sys::procfs;
use krg_types::capability::Sets;
use krg_types::{Capability, GlobalPid};
use std::io;

/// Where the holders of this node's jobs say what these are.
fn jobs_dir(station: &Station) -> std::path::PathBuf {
    station.config.run_dir.join("jobs")
}

/// Looks at processes of this node.
fn look<T>(station: &Station, with: impl FnOnce(&Looking<'_>) -> T) -> io::Result<T> {
    let (procfs, jobs) = (procfs::own()?, place::all(&jobs_dir(station)));
    let node = station.members.own().get();
    Ok(with(&Looking { node, boot: boot(procfs), procfs, jobs: &jobs }))
}

/// What is kept, as this copy has it.
fn kept(view: &View) -> impl Fn(&Whose) -> Option<Sets> {
    |whose| Sets::parse(&view.state.config.get(&whose.key())?.0)
}

/// The process of a job that is here which somebody means: by its number on this node, or in the
/// job's own numbers; or the job's program.
fn named(station: &Station, job: u32, pid: u32, number: u32) -> Option<Subject> {
    let about = place::all(&jobs_dir(station)).into_iter().find(|about| about.id == job)?;
    let pid = match (pid, number) {
        (0, number) if number == job => members::find(about.init, program_of(job, about.pids))?,
        (0, number) => members::find(about.init, number)?,
        (pid, _) => pid,
    };
    look(station, |looking| looking.at(pid)).ok()?
}

/// May this be done to the process of a job that is named as an order names it: `pid` as this node
/// numbers it, or else `number`, the job's or one of its own?
///
/// # Errors
/// EPERM, in words.
pub async fn allowed(
    station: &Station,
    job: u32,
    pid: u32,
    number: u32,
    capability: Capability,
) -> Result<(), Status> {
    // A program that has ended was what its job still is.
    let program = || Lineage(vec![Whose::Member { job, number: 0 }]);
    let lineage = named(station, job, pid, number).map_or_else(program, |named| named.lineage);
    if lineage.sets(kept(&station.meta.view())).effective.has(capability) {
        return Ok(());
    }
    let shown = match (lineage.own(), pid) {
        (Some(Whose::Member { job, number: 0 }), _) => job,
        (Some(Whose::Member { job, number }), _) if block_of(job).is_some() => number,
        (_, 0) => number,
        (_, pid) => GlobalPid::new(station.members.own(), pid).map_or(pid, GlobalPid::raw),
    };
    Err(Status::failed_precondition(format!(
        "process {shown} has no {capability}: `krg capset {shown} -e +{capability}` gives it"
    )))
}

/// Is all of the job one application, that of the process which is named as for [`allowed`]? What
/// is saved is saved together, so nothing of it may be without CHECKPOINTABLE.
///
/// # Errors
/// EPERM, in words.
pub fn application(station: &Station, job: u32, pid: u32, number: u32) -> Result<(), Status> {
    let Some(asked) = named(station, job, pid, number) else { return Ok(()) };
    let about = place::all(&jobs_dir(station)).into_iter().find(|about| about.id == job);
    let Some(init) = about.map(|about| about.init) else { return Ok(()) };
    let view = station.meta.view();
    let of = |looking: &Looking<'_>, pid: u32| {
        let subject = looking.at(pid)?;
        let sets = subject.lineage.sets(kept(&view));
        let parent = krg_sys::process::stat(pid).ok().flatten()?.parent;
        // Its first process is krg's own, and parent of all.
        let checkpointable = sets.effective.has(Capability::Checkpointable) && pid != init;
        Some(Process { pid, parent, checkpointable })
    };
    let all = members::all(init);
    let all: Vec<Process> =
        look(station, |looking| all.iter().filter_map(|pid| of(looking, *pid)).collect())?;
    let shown =
        |pid: u32| members::number(pid).filter(|_| block_of(job).is_some()).unwrap_or(pid);
    let not = |pid: u32| {
        Status::failed_precondition(format!(
            "process {} is not part of a checkpointable application: `krg capset {} -e \
             +CHECKPOINTABLE` makes it one",
            shown(pid),
            shown(pid)
        ))
    };
    boundary::application(&all, asked.pid).map_err(|e| match e {
        NoApplication::NotCheckpointable(pid) => not(pid),
        e => Status::failed_precondition(e.to_string()),
    })?;
    // Those whose parents have ended are no tree any more, and go along.
    match all.iter().find(|p| p.pid != init && !p.checkpointable) {
        Some(other) => Err(not(other.pid)),
        None => Ok(()),
    }
}
