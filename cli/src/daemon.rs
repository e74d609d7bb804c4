//! Questions to the daemon of this machine, each with a deadline.

use anyhow::{Result, anyhow, bail};
use krg_rpc::local::{self, NoDaemon};
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{MountMfsRequest, MountProcRequest, StatusReply, StatusRequest};
use krg_rpc::status::why;
use krg_rpc::tonic::transport::Channel;
use krg_rpc::tonic::{Code, Response, Status, Streaming};
use krg_sys::process;
use krg_types::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The daemon of this machine.
pub type Krgd = ControlClient<Channel>;

/// krgd answers its own machine at once, or is stuck.
pub const STATUS_MAX: Duration = Duration::from_secs(2);
/// It asks another node, which answers soon.
pub const SIGNAL_MAX: Duration = Duration::from_secs(3);
/// What needs the agreement of other nodes.
pub const AGREE_MAX: Duration = Duration::from_secs(10);
/// A join is an exchange with another machine, and then an agreement.
pub const JOIN_MAX: Duration = Duration::from_secs(60);
/// A mount may take a moment.
const MOUNT_MAX: Duration = Duration::from_secs(15);

/// Where krgd listens: a daemon with another `run_dir` is reached through `KRG_SOCKET`.
pub fn socket() -> PathBuf {
    std::env::var_os("KRG_SOCKET").unwrap_or_else(|| local::SOCKET.into()).into()
}

/// Asks krgd one question.
///
/// # Errors
/// [`NoDaemon`] if nobody listens; else krgd's own words, or that it took longer than `limit`.
pub fn ask<T>(
    limit: Duration,
    question: impl AsyncFnOnce(Krgd) -> Result<Response<T>, Status>,
) -> Result<T> {
    run(async {
        let asked = async { question(connect().await?).await.map_err(|s| said(&s)) };
        in_time(limit, asked).await.map(Response::into_inner)
    })
}

/// Asks krgd a question that it answers bit by bit, and hands every bit to `each`. `limit` is for
/// the first sign of an answer; without one, only the user ends it.
///
/// # Errors
/// As [`ask`]; and whatever `each` returns, which ends it.
pub fn follow<T>(
    limit: Option<Duration>,
    question: impl AsyncFnOnce(Krgd) -> Result<Response<Streaming<T>>, Status>,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    run(async {
        let asked = async { question(connect().await?).await.map_err(|s| said(&s)) };
        let reply = match limit {
            Some(limit) => in_time(limit, asked).await?,
            None => asked.await?,
        };
        let mut stream = reply.into_inner();
        while let Some(message) = stream.message().await.map_err(|s| said(&s))? {
            // What is printed here may go to a `head` that has seen enough.
            process::default_sigpipe();
            each(message)?;
            process::ignore_sigpipe();
        }
        Ok(())
    })
}

/// Runs something that talks to krgd.
pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // krgd may close the connection first, when it ends or begins anew: that is no reason to die.
    process::ignore_sigpipe();
    let done = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
    process::default_sigpipe();
    done
}

/// Connects to krgd.
///
/// # Errors
/// [`NoDaemon`] if nobody listens there; or that the socket is not for this user.
pub async fn connect() -> Result<Krgd> {
    let socket = socket();
    match local::connect(&socket).await {
        Ok(channel) => {
            Ok(ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
        }
        Err(_) if forbidden(&socket) => {
            bail!("{}: krgd's socket is not for this user: use sudo", socket.display())
        }
        Err(e) => Err(e.into()),
    }
}

fn forbidden(socket: &Path) -> bool {
    UnixStream::connect(socket).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

/// Waits no longer than `limit`.
///
/// # Errors
/// What `asked` failed with; or that krgd took too long.
pub async fn in_time<T>(limit: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!(
            "krgd does not answer within {} s (is it stopped? see its log)",
            limit.as_secs()
        ),
    }
}

/// krgd's words, and what to do about them where it is always the same.
pub fn said(status: &Status) -> anyhow::Error {
    let words = why(status);
    match status.code() {
        Code::PermissionDenied if !words.contains("sudo") => anyhow!("{words}: use sudo"),
        Code::Unimplemented => anyhow!(
            "this krgd does not know the command; restart it if krg was upgraded (krg is {})",
            env!("CARGO_PKG_VERSION")
        ),
        _ => anyhow!("{words}"),
    }
}

/// Is this the error of a krgd that does not run?
pub fn is_absent(error: &anyhow::Error) -> bool {
    error.is::<NoDaemon>()
}

/// Who is there, and what is mounted.
pub fn status() -> Result<StatusReply> {
    let question = StatusRequest { version: PROTOCOL_VERSION };
    ask(STATUS_MAX, async |mut krgd| krgd.status(question).await)
}

/// Has the cluster's /proc mounted on `path`.
pub fn mount_proc(path: String) -> Result<u32> {
    let question = MountProcRequest { version: PROTOCOL_VERSION, path };
    let reply = ask(MOUNT_MAX, async |mut krgd| krgd.mount_proc(question).await)?;
    Ok(reply.pid)
}

/// Has the directory of the nodes' file trees mounted on `path`.
pub fn mount_mfs(path: String, hard: bool) -> Result<u32> {
    let question = MountMfsRequest { version: PROTOCOL_VERSION, path, hard };
    let reply = ask(MOUNT_MAX, async |mut krgd| krgd.mount_mfs(question).await)?;
    Ok(reply.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let denied = |words| said(&Status::permission_denied(words)).to_string();
        assert_eq!(denied("only root may"), "only root may: use sudo");
        assert_eq!(denied("use sudo krg"), "use sudo krg");
        assert_eq!(said(&Status::internal("broken")).to_string(), "broken");
        assert!(said(&Status::unimplemented("")).to_string().contains("restart it"));
    }
}
