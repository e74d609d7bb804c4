//! A process of this node gets other capabilities.

use super::{kept, look, wire as words};
use crate::jobs;
use crate::life::Station;
use krg_meta::command::{Command, Reply};
use krg_meta::published::View;
use krg_meta::table::config;
use krg_migrate::caps::{PREFIX, Whose};
use krg_migrate::lineage::Subject;
use krg_rpc::peers::Peers;
use krg_rpc::proto::capability as wire;
use krg_types::Capability::CanMigrate;
use krg_types::capability::{CapSet, Edits, Sets};
use krg_types::limits::CAPABILITY_RECORDS_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// It is agreed on within this.
const AGREE_MAX: Duration = Duration::from_secs(6);
/// The views of this node know of it within this, or a moment later.
const SEEN_MAX: Duration = Duration::from_millis(500);
/// Others may change the same process meanwhile.
const TRIES: u32 = 4;

/// Tells what a process has, after this change if there is one.
pub async fn change(
    station: &Arc<Station>,
    pid: u32,
    order: &wire::Order,
    edits: Option<Edits>,
) -> wire::Reply {
    let own = station.members.own();
    let none = || words::refused(libc::ESRCH, format!("there is no process {pid} on node {own}"));
    for _ in 0..TRIES {
        let view = match (station.meta.view_linearizable().await, edits) {
            (Ok(view), _) => view,
            (Err(_), None) => station.meta.view(),
            (Err(e), Some(_)) => return words::refused(libc::EAGAIN, e.to_string()),
        };
        let Ok(Some(subject)) = look(station, |looking| looking.at(pid)) else { return none() };
        let old = subject.lineage.sets(kept(&view));
        let told = |sets: &Sets| wire::Reply {
            sets: Some(words::told(sets)),
            node: own.get(),
            pid,
            ..wire::Reply::default()
        };
        let Some(edits) = &edits else { return told(&old) };
        if order.uid != 0 && order.uid != subject.uid {
            return words::refused(libc::EPERM, format!("process {pid} is another user's"));
        }
        let in_use = in_use(station, &subject).await;
        let new = match old.change(edits, in_use) {
            Ok(new) => new,
            Err(e) => return words::refused(words::errno(&e), e.to_string()),
        };
        match make(station, &view, (&subject, order.caller), &old, &new).await {
            Ok(true) => return told(&new),
            Ok(false) => {}
            Err(reply) => return reply,
        }
    }
    words::refused(libc::EAGAIN, format!("others change process {pid} at the same time"))
}

/// What it cannot be without now.
async fn in_use(station: &Arc<Station>, subject: &Subject) -> CapSet {
    match subject.job {
        Some(job) if jobs::service::is_moving(station, job).await => CapSet::of(&[CanMigrate]),
        _ => CapSet::EMPTY,
    }
}

/// Has it agreed on; false if somebody else has changed it meanwhile.
async fn make(
    station: &Arc<Station>,
    view: &View,
    (subject, caller): (&Subject, u32),
    old: &Sets,
    new: &Sets,
) -> Result<bool, wire::Reply> {
    let Some(own) = subject.lineage.own() else { return Ok(false) };
    if old == new {
        return Ok(true);
    }
    let mut keep = Vec::new();
    if old.fork() != new.fork() {
        // Those who are born already have what was inheritable then.
        let children = look(station, |looking| looking.children(subject)).unwrap_or_default();
        let others = children.into_iter().filter(|child| child.pid != caller);
        let born = others.filter_map(|child| child.lineage.own());
        keep.extend(born.filter(|whose| kept(view)(whose).is_none()));
    }
    let there = view.state.config.with_prefix(PREFIX).count();
    if there + keep.len() + 1 > CAPABILITY_RECORDS_MAX {
        let why = format!("the capabilities of {there} processes are kept already");
        return Err(words::refused(libc::ENOSPC, why));
    }
    let mut kept_first = JoinSet::new();
    for child in keep {
        let (station, sets) = (station.clone(), old.fork());
        kept_first.spawn(async move { set(&station, &child, Some(&sets), Some(0)).await });
    }
    while let Some(done) = kept_first.join_next().await {
        // One that somebody has changed meanwhile has what that one says.
        done.map_err(|e| words::refused(libc::EIO, e.to_string()))??;
    }
    let revision = view.state.config.row(&own.key()).map_or(0, |row| row.revision);
    let Some(revision) = set(station, &own, Some(new), Some(revision)).await? else {
        return Ok(false);
    };
    let waited = station.meta.wait_revision(revision, AGREE_MAX).await;
    waited.map_err(|e| words::refused(libc::EAGAIN, e.to_string()))?;
    station.followers.know(revision, SEEN_MAX).await;
    Ok(true)
}

/// Keeps sets or forgets them: the revision of that; `None` if they have another than this.
pub async fn set(
    station: &Station,
    whose: &Whose,
    sets: Option<&Sets>,
    if_revision: Option<u64>,
) -> Result<Option<u64>, wire::Reply> {
    let (key, value) = (whose.key(), sets.map(Sets::to_text));
    let command = Command::Config(config::Command::Set { key, value, if_revision });
    match station.meta.propose(command, AGREE_MAX).await {
        Ok(Reply::Done(revision)) => Ok(Some(revision)),
        Ok(_) => Ok(None),
        Err(e) => Err(words::refused(libc::EAGAIN, e.to_string())),
    }
}
