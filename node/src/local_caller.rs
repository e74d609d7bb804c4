//! Who calls by a socket of this machine, and whether his words are understood.

use krg_rpc::tonic::transport::server::UdsConnectInfo;
use krg_rpc::tonic::{Request, Status};
use krg_types::version::understood;
use tokio::net::unix::UCred;

/// The process at the other end, as the kernel says.
///
/// # Errors
/// PERMISSION_DENIED where it says nothing.
pub fn caller<T>(ask: &Request<T>) -> Result<UCred, Status> {
    let peer = ask.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    peer.ok_or_else(|| Status::permission_denied("the caller is not known"))
}

/// Only root may go on from here.
///
/// # Errors
/// PERMISSION_DENIED for others.
pub fn root_only<T>(ask: &Request<T>) -> Result<(), Status> {
    match caller(ask).map(|peer| peer.uid()) {
        Ok(0) => Ok(()),
        _ => Err(Status::permission_denied("only root may do this: try sudo")),
    }
}

/// The command is of a version that is understood.
///
/// # Errors
/// FAILED_PRECONDITION for one of another.
pub fn same_version(version: u32) -> Result<(), Status> {
    match understood(version) {
        true => Ok(()),
        false => Err(Status::failed_precondition("krg is of another version than krgd")),
    }
}
