//! The mounts of the view, which show a process the cluster's numbers or its node's: they are told
//! what is kept, and say what they know, so that who has changed something is not answered before.

use crate::life::Station;
use krg_meta::published::View;
use krg_migrate::caps::PREFIX;
use krg_rpc::proto::capability as wire;
use krg_rpc::tonic::{Status, Streaming};
use krg_types::Capability::SeeLocalProcStat;
use krg_types::capability::Sets;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Lists on their way to one mount.
const LISTS: usize = 4;

/// How far one is.
#[derive(Clone, Copy, Default, Debug)]
struct Progress {
    /// What there was then makes no difference to it, or it was told.
    looked: u64,
    /// It was told then.
    told: u64,
    /// It has said that it knows this.
    knows: u64,
}

impl Progress {
    fn has(&self, revision: u64) -> bool {
        self.looked >= revision && self.knows >= self.told
    }
}

/// Who follows, and how far each is.
#[derive(Default, Debug)]
pub struct Followers {
    next: AtomicU64,
    all: watch::Sender<HashMap<u64, Progress>>,
}

impl Followers {
    /// Waits until all of them know of a revision, or for so long.
    pub async fn know(&self, revision: u64, limit: Duration) {
        let mut all = self.all.subscribe();
        let known = all.wait_for(|all| all.values().all(|one| one.has(revision)));
        let _ = timeout(limit, known).await;
    }

    fn change(&self, id: u64, how: impl FnOnce(&mut Progress)) {
        self.all.send_modify(|all| how(all.entry(id).or_default()));
    }
}

/// One of them, until this is dropped.
struct Follower(Arc<Station>, u64);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.all.send_modify(|all| {
            all.remove(&self.1);
        });
    }
}

/// What makes a difference to what is seen.
fn pairs(view: &View) -> Vec<wire::Pair> {
    let all = || view.state.config.with_prefix(PREFIX);
    let local = |sets: Sets| {
        sets.effective.has(SeeLocalProcStat) || sets.inheritable_effective.has(SeeLocalProcStat)
    };
    if !all().any(|(_, row)| Sets::parse(&row.value.0).is_some_and(local)) {
        return Vec::new();
    }
    let pair = |key: &str, value: &str| wire::Pair { key: key.into(), value: value.into() };
    all().map(|(key, row)| pair(key, &row.value.0)).collect()
}

/// Tells one of them, until it is gone.
pub fn follow(
    station: Arc<Station>,
    mut heard: Streaming<wire::Known>,
) -> mpsc::Receiver<Result<wire::Kept, Status>> {
    let (say, said) = mpsc::channel(LISTS);
    let id = station.followers.next.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let mut applied = station.meta.applied();
        let follower = Follower(station.clone(), id);
        let mut told: Option<(Arc<View>, Vec<wire::Pair>)> = None;
        loop {
            let view = station.meta.view();
            let same = |(old, _): &(Arc<View>, _)| old.state.config.same(&view.state.config);
            if !told.as_ref().is_some_and(same) {
                let (pairs, revision) = (pairs(&view), view.state.revision);
                let news = !told.as_ref().is_some_and(|(_, old)| *old == pairs);
                station.followers.change(id, |one| {
                    one.looked = revision;
                    one.told = if news { revision } else { one.told };
                });
                let kept = wire::Kept { revision, pairs: pairs.clone() };
                if news && say.send(Ok(kept)).await.is_err() {
                    break;
                }
                told = Some((view, pairs));
            }
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { break },
                known = heard.message() => match known {
                    Ok(Some(known)) => {
                        let revision = known.revision;
                        station.followers.change(id, |one| one.knows = one.knows.max(revision));
                    }
                    _ => break,
                },
            }
        }
        drop(follower);
    });
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_told_is_waited_for() {
        let followers = Followers::default();
        let soon = Duration::from_millis(20);
        let know = async |revision| {
            timeout(Duration::from_secs(9), followers.know(revision, soon)).await.unwrap();
            followers.all.borrow().values().all(|one| one.has(revision))
        };
        assert!(know(7).await, "nobody is there");
        followers.change(1, |one| one.looked = 7);
        assert!(know(7).await && !know(8).await);
        followers.change(1, |one| (one.looked, one.told) = (8, 8));
        assert!(!know(7).await && !know(8).await);
        followers.change(1, |one| one.knows = 8);
        assert!(know(8).await);
    }
}
