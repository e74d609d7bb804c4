//! A job that asks for its own move.

use super::service::{Answers, Service};
use krg_rpc::proto::job::{self as wire, FromJob, from_job};
use krg_rpc::status::why;
use krg_rpc::tonic::{Response, Status};
use krg_types::NodeId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// It ends the connection by which it has asked within this.
const HANG_UP_MAX: Duration = Duration::from_secs(5);

/// Who asks for the move of his own job is of none.
pub(super) fn of_none() -> Status {
    Status::failed_precondition(
        "the command is of no job: only what was started with `krg run` moves itself",
    )
}

impl Service {
    /// Does an order mean this job of this node?
    pub(super) fn is_of(&self, order: &wire::MoveOrder, job: u32) -> bool {
        !order.dry_run && self.find(order.pid, order.job).is_some_and(|about| about.id == job)
    }

    /// A job asks for its own move: that is done when its connection is gone, which could not move
    /// with it. What is known beforehand it is told; what is not, it may ask for afterwards.
    pub(super) async fn later(
        &self,
        order: wire::MoveOrder,
    ) -> Result<Response<Answers<FromJob>>, Status> {
        let info = match self.talk(order.job).await {
            Some(mut talk) => talk.about().await,
            None => None,
        };
        let info = info.ok_or_else(|| Status::unavailable("its holder does not answer"))?;
        if order.uid != 0 && order.uid != info.uid {
            return Err(Status::permission_denied(format!("job {} is another user's", info.id)));
        }
        let to = if order.to == 0 { info.home } else { order.to };
        let to = NodeId::new(to).ok_or_else(|| Status::not_found("there is no such node"))?;
        if to == self.own() {
            return Err(Status::failed_precondition("it is there already"));
        }
        self.peer(to)?;
        let order = wire::MoveOrder { to: to.get(), ..order };
        let (say, said) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let later = FromJob { what: Some(from_job::What::Later(true)) };
            let _ = say.send(Ok(later)).await;
            // One that stays would be in its own way: its holder says so.
            let _ = timeout(HANG_UP_MAX, say.closed()).await;
            let job = order.job;
            match service.obey(order).await {
                Ok(mut told) => while told.recv().await.is_some() {},
                Err(status) => tracing::warn!(job, why = why(&status), "it has not moved itself"),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}
