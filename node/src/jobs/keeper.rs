//! Looks after jobs whose holders have died: what they have left on this node is put away, and what
//! became of the jobs is written in their records.

use crate::life::Station;
use krg_meta::command::Command;
use krg_meta::table::{config, nodes};
use krg_migrate::cluster::{Lost, PREFIX, Record};
use krg_migrate::place;
use krg_migrate::plan::keep::{Keep, keep};
use krg_rpc::peers::Peers;
use krg_types::NodeId;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Something must be so for this long: a holder that ends puts its record away first.
const HOME_GONE: Duration = Duration::from_secs(2);
/// What a holder that was killed was sending away may be whole on the other side, which then takes
/// it: longer than that waits.
const HOLDER_GONE: Duration = Duration::from_secs(15);
/// What was lost is told for so long.
const TOLD: Duration = Duration::from_secs(3_600);
/// To agree.
const AGREE_MAX: Duration = Duration::from_secs(6);

/// For as long as it is polled.
pub async fn run(station: Arc<Station>) {
    let dir = station.config.run_dir.join("jobs");
    let mut seen = HashMap::new();
    loop {
        sleep_until(Instant::now() + LOOK_AGAIN).await;
        let swept = dir.clone();
        let put_away = move || place::sweep(&swept).iter().for_each(|left| place::clear(left));
        let _ = spawn_blocking(put_away).await;
        look(&station, &dir, &mut seen).await;
    }
}

/// All that is recorded: jobs, with the revisions of their records.
pub fn records(station: &Station) -> Vec<(u32, Record, u64)> {
    let view = station.meta.view();
    let rows = view.state.config.iter().filter_map(|(key, row)| {
        let job = key.strip_prefix(PREFIX)?.parse().ok()?;
        Some((job, Record::parse(&row.value.0)?, row.revision))
    });
    rows.collect()
}

async fn look(station: &Station, dir: &Path, seen: &mut HashMap<(u32, u64), Instant>) {
    let own = station.members.own().get();
    let records = records(station);
    seen.retain(|(job, revision), _| records.iter().any(|(j, _, r)| (j, r) == (job, revision)));
    for (job, record, revision) in records {
        let view = station.meta.view();
        let is_member = |node: u32| {
            let row = NodeId::new(node).and_then(|node| view.state.nodes.get(&nodes::key(node)));
            row.is_some_and(|node| node.member.is_some())
        };
        let due = keep(&record, own, place::is_held(dir, job), is_member);
        let after = match due {
            Keep::Leave => {
                seen.remove(&(job, revision));
                continue;
            }
            Keep::Mark(Lost::Home) => HOME_GONE,
            Keep::Mark(Lost::Holder) => HOLDER_GONE,
            Keep::Forget => TOLD,
        };
        if seen.entry((job, revision)).or_insert_with(Instant::now).elapsed() < after {
            continue;
        }
        let value = match due {
            Keep::Mark(lost) => {
                let record = Record { lost: Some(lost), ..record };
                tracing::error!(job, why = record.why_lost(), "a job is lost");
                Some(record.to_text())
            }
            _ => None,
        };
        let key = format!("{PREFIX}{job}");
        let set = config::Command::Set { key, value, if_revision: Some(revision) };
        if let Err(e) = station.meta.propose(Command::Config(set), AGREE_MAX).await {
            tracing::warn!(job, error = %e, "what became of it is not recorded");
        }
    }
}
