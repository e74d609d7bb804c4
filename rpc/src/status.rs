//! Errors of the wire. The only file that turns a `tonic::Status` into something else.

use krg_types::NodeId;
use krg_types::limits::{CLUSTER_NAME_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::version::understood;
use tonic::{Code, Status};

/// Why another node did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// It did not answer in time, or its connection ended.
    #[error("node {0} does not answer: {1}")]
    Unreachable(NodeId, String),
    /// It answered with something that is not of this protocol, version or cluster.
    #[error("node {0} is not one of us: {1}")]
    Refused(NodeId, String),
}

impl RpcError {
    /// What a call's failure means.
    pub fn from_status(node: NodeId, status: &Status) -> RpcError {
        let why = why(status);
        match status.code() {
            Code::FailedPrecondition | Code::PermissionDenied | Code::Unimplemented => {
                RpcError::Refused(node, why)
            }
            _ => RpcError::Unreachable(node, why),
        }
    }

    /// The call took longer than it may.
    pub fn deadline(node: NodeId, ms: u64) -> RpcError {
        RpcError::Unreachable(node, format!("no answer within {ms} ms"))
    }
}

/// Why a call failed, with the cause at the root: a channel that cannot connect says only
/// "transport error" itself.
pub fn why(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut words = status.message().to_owned();
    while let Some(error) = cause {
        cause = error.source();
        if cause.is_none() {
            words = error.to_string();
        }
    }
    if words.is_empty() { format!("{:?}", status.code()) } else { words }
}

/// Refuses a caller of another protocol version or another cluster.
///
/// # Errors
/// FAILED_PRECONDITION, saying both sides' words.
pub fn check_caller(ours: &str, version: u32, cluster: &str) -> Result<(), Status> {
    if !understood(version) {
        return Err(Status::failed_precondition(format!(
            "protocol version {version}, this node speaks {PROTOCOL_VERSION}"
        )));
    }
    if cluster.len() > CLUSTER_NAME_BYTES_MAX || cluster != ours {
        return Err(Status::failed_precondition(format!(
            "this node is of the cluster `{ours}`, not of yours"
        )));
    }
    Ok(())
}
