//! The end of a job's holder, when nothing of the job is left.

use super::{Holder, ended};
use crate::cluster::Record;
use krg_sys::process::Usage;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// After the job's end, what it has written is still taken for so long.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// How often it is tried to remove the record of a job that has ended, and between two attempts.
const FORGET_TRIES: u32 = 5;
const FORGET_AGAIN: Duration = Duration::from_millis(500);

impl Holder {
    /// Nothing of the job is left.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if self.outside.is_some() && self.ended.is_none() {
            // It was killed with all that it had started.
            self.ended = Some(ended(libc::SIGKILL, Usage::default()));
            self.end_outside();
            self.tell_end();
        }
        if self.outside.is_some() && self.is_recorded && !self.is_lost() {
            self.forget().await;
        }
        let _ = tokio::time::timeout(FAREWELL_MAX, async {
            if let Some(outside) = self.outside.take() {
                outside.settled().await;
            }
            self.clients.settled().await;
        })
        .await;
        Ok(())
    }

    /// It has ended, and nobody knows how.
    fn is_lost(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !ended.lost.is_empty())
    }

    /// The record of a job that has ended.
    async fn forget(&self) {
        let cluster = &self.equipment.cluster;
        for _ in 0..FORGET_TRIES {
            match cluster.record(self.job.id).await {
                Ok((Some(Record { .. }), revision)) => {
                    if let Ok(true) = cluster.set_record(self.job.id, None, revision).await {
                        return;
                    }
                }
                Ok((None, _)) => return,
                Err(e) => tracing::warn!(job = self.job.id, error = %e, "its record stays"),
            }
            sleep_until(Instant::now() + FORGET_AGAIN).await;
        }
    }
}
