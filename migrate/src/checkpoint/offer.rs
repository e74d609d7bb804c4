//! A saved job that begins on another node: offered to it as if it moved there from its home. Its
//! images stay, so whoever dies it can be begun again; but the other node may have taken it, and
//! then it runs there.

use crate::cluster::{Cluster, Record};
use crate::depart::{READY_MAX, SAID, freight_to};
use crate::images::freight::Freight;
use crate::plan::{Move, Whose};
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::proto::job::{Arrival, Arrived, Begin, arrival, arrived};
use krg_rpc::tonic::Streaming;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// Between questions whose it is.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A conversation with the node where it is to begin.
pub(super) struct Offer {
    this: Move,
    job: u32,
    cluster: Arc<dyn Cluster>,
    /// What is said.
    pub(super) say: mpsc::Sender<Arrival>,
    answers: Streaming<Arrived>,
    /// For its images.
    pub(super) freight: Option<Freight>,
}

impl Offer {
    /// Has that node made ready. The job gets a record, of which this holds the revision.
    pub(super) async fn new(
        mut begin: Begin,
        to: u32,
        cluster: &Arc<dyn Cluster>,
    ) -> Result<Offer, String> {
        let words = |e: io::Error| e.to_string();
        let (job, home) = (begin.job, begin.home);
        let (record, revision) = cluster.record(job).await.map_err(words)?;
        if record.is_some() {
            return Err(format!("job {job} is recorded already"));
        }
        let first = Record { home, holder: begin.from, ..Record::default() };
        cluster.set_record(job, Some(&first), revision).await.map_err(words)?;
        match cluster.record(job).await.map_err(words)? {
            (Some(now), revision) if now == first => begin.revision = revision,
            _ => return Err("it could not be agreed on where it is".into()),
        }
        let this = Move::of(&begin, to);
        match announce(begin.clone(), to, cluster).await {
            Ok((say, answers)) => {
                let cluster = cluster.clone();
                let mut offer = Offer { this, job, cluster, say, answers, freight: None };
                if let Err(why) = offer.ready(&begin).await {
                    offer.forget().await;
                    return Err(why);
                }
                Ok(offer)
            }
            Err(why) => {
                forget(cluster, job).await;
                Err(why)
            }
        }
    }

    async fn ready(&mut self, begin: &Begin) -> Result<(), String> {
        match self.answer(READY_MAX).await? {
            arrived::What::Ready(_) => {}
            _ => return Err(NONSENSE.into()),
        }
        self.freight = Some(freight_to(&*self.cluster, begin, self.this.to).await?.0);
        Ok(())
    }

    /// What that node says next.
    pub(super) async fn answer(&mut self, most: Duration) -> Result<arrived::What, String> {
        let node = self.this.to;
        let told = timeout(most, self.answers.message()).await;
        let told = told.map_err(|_| format!("node {node} does not answer"))?;
        // What that node has against it comes as an answer: all else is the connection's own end.
        match told.ok().flatten().and_then(|told| told.what) {
            Some(arrived::What::Failed(why)) => Err(format!("node {node}: {why}")),
            Some(what) => Ok(what),
            None => Err(format!("node {node} has broken it off")),
        }
    }

    /// Whose it is from now on: that node's, if it is wanted there and nobody has said otherwise.
    /// Returns when that is known, however long it takes.
    pub(super) async fn decide(&self, wanted: bool) -> bool {
        let mut mine = if wanted { self.this.committed() } else { self.this.undone() };
        loop {
            let revision = self.this.revision;
            if let Ok(true) = self.cluster.set_record(self.job, Some(&mine), revision).await {
                return mine == self.this.committed();
            }
            // What was asked may still come to hold, until something else does.
            mine = self.this.undone();
            match self.cluster.record(self.job).await {
                Ok((record, revision)) => match self.this.whose(record.as_ref(), revision) {
                    Whose::Target | Whose::Passed => return true,
                    Whose::Source | Whose::Nobody => return false,
                    Whose::Open => {}
                },
                Err(e) => tracing::warn!(job = self.job, error = %e, "not known whose it is"),
            }
            sleep_until(Instant::now() + ASK_AGAIN).await;
        }
    }

    /// It has not begun anywhere.
    pub(super) async fn forget(&self) {
        forget(&self.cluster, self.job).await;
    }
}

pub(super) const NONSENSE: &str = "the other node says what makes no sense";

async fn forget(cluster: &Arc<dyn Cluster>, job: u32) {
    if let Ok((Some(_), revision)) = cluster.record(job).await {
        let _ = cluster.set_record(job, None, revision).await;
    }
}

async fn announce(
    begin: Begin,
    to: u32,
    cluster: &Arc<dyn Cluster>,
) -> Result<(mpsc::Sender<Arrival>, Streaming<Arrived>), String> {
    let channel = cluster.channel(to).await.map_err(|e| e.to_string())?;
    let (say, said) = mpsc::channel(SAID);
    let _ = say.send(Arrival { what: Some(arrival::What::Begin(begin)) }).await;
    let mut client = MovesClient::new(channel);
    let answers = timeout(READY_MAX, client.arrive(ReceiverStream::new(said))).await;
    let answers = answers.map_err(|_| format!("node {to} does not answer"))?;
    let answers = answers.map_err(|status| krg_rpc::status::why(&status))?;
    Ok((say, answers.into_inner()))
}
