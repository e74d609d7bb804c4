//! What is to be expected of a move, before anything is touched.

use crate::cluster::Cluster;
use crate::facts;
use crate::locks;
use crate::obstacles::{self, Look};
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::proto::job::{FactsRequest, Moved};
use krg_rpc::status::why;
use krg_types::limits::PROTOCOL_VERSION;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The other node says what it is like within this.
const FACTS_MAX: Duration = Duration::from_secs(2);
/// What a job without memory stands still for, us, where none has moved yet to tell.
const FREEZE_US: u64 = 50_000;
/// And how much memory goes along in a second, bytes.
const BYTES_PER_S: u64 = 400 << 20;

/// A job that may move.
pub struct Outlook {
    /// Its first process here.
    pub init: u32,
    /// What leads out of it and goes along, as CRIU names it.
    pub names: Vec<String>,
    /// It is not at home.
    pub away: bool,
    /// Where it was started.
    pub home: u32,
    /// Where to.
    pub to: u32,
}

impl Outlook {
    /// What is in the way; `anywhere`: on this side only.
    ///
    /// # Errors
    /// When the other node does not say what it is like.
    pub async fn look(self, cluster: &Arc<dyn Cluster>, anywhere: bool) -> Result<Look, String> {
        let Outlook { init, names, away, home, to } = self;
        let seen = spawn_blocking(move || {
            let mut look = obstacles::look(init, &names);
            if away && locks::are_abroad() {
                look.obstacles.push(locks::ABROAD.into());
            }
            (look, facts::of_this_node())
        });
        let (mut look, here) = seen.await.map_err(|e| e.to_string())?;
        if here.criu.is_empty() {
            let why =
                "there is no CRIU 4 or newer on this node (`krg doctor` tells how to get it)";
            look.obstacles.push(why.into());
        }
        if !anywhere {
            let channel = cluster.channel(to).await.map_err(|e| e.to_string())?;
            let name = cluster.name().await.map_err(|e| e.to_string())?;
            let ask = FactsRequest { version: PROTOCOL_VERSION, cluster: name };
            let told = timeout(FACTS_MAX, MovesClient::new(channel).facts(ask)).await;
            let told = told.map_err(|_| format!("node {to} does not answer"))?;
            let there = told.map_err(|status| why(&status))?.into_inner();
            look.obstacles.extend(facts::compare(&here, &there, (to, to == home), look.rss_kib));
        }
        Ok(look)
    }
}

impl Look {
    /// As an answer: `last` is how long the last move took, us, and how many bytes it was.
    pub fn foretold(self, here: Moved, last: Option<(u64, u64)>) -> Moved {
        let image_bytes = self.rss_kib << 10;
        let frozen_us = match last {
            Some((us, bytes)) => {
                us.saturating_add(transfer_us(image_bytes.saturating_sub(bytes)))
            }
            None => FREEZE_US + transfer_us(image_bytes),
        };
        Moved { obstacles: self.obstacles, image_bytes, frozen_us, ..here }
    }
}

fn transfer_us(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000) / BYTES_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_takes_longer() {
        let frozen = |rss_kib, last| {
            let look = Look { rss_kib, ..Look::default() };
            look.foretold(Moved::default(), last).frozen_us
        };
        assert_eq!(frozen(0, None), FREEZE_US);
        assert_eq!(frozen(400 << 10, None), FREEZE_US + 1_000_000);
        assert_eq!(frozen(0, Some((70_000, 5))), 70_000);
        assert_eq!(frozen(800 << 10, Some((70_000, 400 << 20))), 1_070_000);
    }
}
