//! What a holder says of what it was asked for, on its way to who has asked.

use super::service::{Answers, MESSAGES, refused};
use krg_rpc::proto::job::{FromJob, OrderReply, from_job};
use krg_rpc::status::why;
use krg_rpc::tonic::{Response, Status, Streaming};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Until it has said all, or ends.
pub(super) type Said = mpsc::Receiver<from_job::What>;

/// Of a job that is on another node.
pub(super) fn there(mut replies: Streaming<OrderReply>) -> Said {
    let (say, said) = mpsc::channel(MESSAGES);
    tokio::spawn(async move {
        loop {
            let what = match replies.message().await {
                Ok(Some(reply)) => reply.said.and_then(|said| said.what),
                Ok(None) => return,
                Err(status) => Some(refused(&why(&status))),
            };
            let Some(what) = what else { return };
            if say.send(what).await.is_err() {
                return;
            }
        }
    });
    said
}

/// To another node, whose user has asked.
pub(super) fn to_node(said: Said) -> Response<Answers<OrderReply>> {
    pass(said, |said| OrderReply { said: Some(said) })
}

/// To a command of this machine.
pub(super) fn to_command(said: Said) -> Response<Answers<FromJob>> {
    pass(said, |said| said)
}

fn pass<T: Send + 'static>(mut said: Said, wrap: fn(FromJob) -> T) -> Response<Answers<T>> {
    let (say, told) = mpsc::channel(MESSAGES);
    tokio::spawn(async move {
        while let Some(what) = said.recv().await {
            let reply: Result<T, Status> = Ok(wrap(FromJob { what: Some(what) }));
            if say.send(reply).await.is_err() {
                return;
            }
        }
    });
    Response::new(Box::pin(ReceiverStream::new(told)))
}
