//! What the commands of this machine ask. Anybody may ask who is there; what changes something or
//! tells a secret is for root.

mod cluster;
mod config;
mod mount;
mod nodes;
mod restore;
mod signal;
mod status;
mod tokens;

use crate::life::{Station, Turn};
use crate::local_caller::root_only;
use crate::mounts::Kind;
use krg_meta::MetaError;
use krg_meta::command::{Command, Reply};
use krg_rpc::proto::control as wire;
use krg_rpc::proto::control::control_server::Control;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_types::limits::PROTOCOL_VERSION;
use krg_types::mfs::Patience;
use krg_types::version::understood;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;

/// A change is waited for so long.
const CHANGE_MAX: Duration = Duration::from_secs(8);

pub use status::nodes as nodes_of;

/// The service on the unix socket.
pub struct Service(pub Arc<Station>);

/// What a streaming answer is.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

fn check_version(version: u32) -> Result<(), Status> {
    match understood(version) {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!(
            "krg of another version: it speaks {version}, krgd {PROTOCOL_VERSION}"
        ))),
    }
}

/// Only root, and only of this version.
fn change<T>(request: Request<T>, version: impl Fn(&T) -> u32) -> Result<T, Status> {
    root_only(&request)?;
    let ask = request.into_inner();
    check_version(version(&ask))?;
    Ok(ask)
}

fn failed(error: MetaError) -> Status {
    match error {
        MetaError::Refused(words) => Status::failed_precondition(words),
        MetaError::Busy | MetaError::NoMajority(_) => Status::unavailable(error.to_string()),
        other => Status::internal(other.to_string()),
    }
}

/// Has it agreed on. Whoever asks this node next sees what this node has said was done.
async fn agree(station: &Station, command: Command) -> Result<(), Status> {
    let reply = station.meta.propose(command, CHANGE_MAX).await.map_err(failed)?;
    match reply {
        Reply::Done(revision) => {
            station.meta.wait_revision(revision, CHANGE_MAX).await.map_err(failed)
        }
        _ => Ok(()),
    }
}

fn done(note: impl Into<String>) -> Answer<wire::Done> {
    Ok(Response::new(wire::Done { note: note.into() }))
}

impl Service {
    async fn turn(&self, turn: Turn) -> Result<(), Status> {
        let sent = self.0.turns.send(turn).await;
        sent.map_err(|_| Status::unavailable("krgd is ending"))
    }
}

#[tonic::async_trait]
impl Control for Service {
    type MembersStream = Answers<wire::MemberList>;
    type RotateCaStream = Answers<wire::Progress>;
    type NodesAddStream = Answers<wire::NodesAddProgress>;
    type ConfigWatchStream = Answers<wire::ConfigEvent>;
    type BackupStream = Answers<wire::Piece>;

    async fn status(&self, ask: Request<wire::StatusRequest>) -> Answer<wire::StatusReply> {
        check_version(ask.get_ref().version)?;
        Ok(Response::new(status::reply(&self.0)))
    }

    async fn wait_online(
        &self,
        ask: Request<wire::WaitOnlineRequest>,
    ) -> Answer<wire::StatusReply> {
        check_version(ask.get_ref().version)?;
        status::wait_online(&self.0, &ask.into_inner()).await;
        Ok(Response::new(status::reply(&self.0)))
    }

    async fn mount_proc(
        &self,
        ask: Request<wire::MountProcRequest>,
    ) -> Answer<wire::MountProcReply> {
        let ask = change(ask, |a| a.version)?;
        let pid = mount::now(&self.0, ask.path, Kind::Proc).await?;
        Ok(Response::new(wire::MountProcReply { pid }))
    }

    async fn mount_mfs(
        &self,
        ask: Request<wire::MountMfsRequest>,
    ) -> Answer<wire::MountMfsReply> {
        let ask = change(ask, |a| a.version)?;
        let pid = mount::now(&self.0, ask.path, Kind::Mfs(Patience::hard(ask.hard))).await?;
        Ok(Response::new(wire::MountMfsReply { pid }))
    }

    async fn mount_node(
        &self,
        ask: Request<wire::MountNodeRequest>,
    ) -> Answer<wire::MountNodeReply> {
        let ask = change(ask, |a| a.version)?;
        mount::node(&self.0, ask).await
    }

    async fn members(&self, ask: Request<wire::MembersRequest>) -> Answer<Self::MembersStream> {
        change(ask, |a| a.version)?;
        Ok(Response::new(status::members(self.0.clone())))
    }

    async fn cluster_status(
        &self,
        ask: Request<wire::StatusRequest>,
    ) -> Answer<wire::ClusterReply> {
        check_version(ask.get_ref().version)?;
        Ok(Response::new(cluster::status(&self.0)))
    }

    async fn init(&self, ask: Request<wire::InitRequest>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        cluster::init(self, ask).await
    }

    async fn join(&self, ask: Request<wire::JoinRequest>) -> Answer<wire::JoinReply> {
        let ask = change(ask, |a| a.version)?;
        cluster::join(self, ask).await
    }

    async fn leave(&self, ask: Request<wire::LeaveRequest>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        cluster::leave(self, ask.force).await
    }

    async fn power_off(&self, ask: Request<wire::PowerOffRequest>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        cluster::power_off(self, ask.reboot).await
    }

    async fn recover(&self, ask: Request<wire::RecoverRequest>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        restore::recover(self, ask.force).await
    }

    async fn rotate_ca(
        &self,
        ask: Request<wire::RotateCaRequest>,
    ) -> Answer<Self::RotateCaStream> {
        let ask = change(ask, |a| a.version)?;
        cluster::rotate_ca(self.0.clone(), ask.force).await
    }

    async fn nodes_add(
        &self,
        ask: Request<wire::NodesAddRequest>,
    ) -> Answer<Self::NodesAddStream> {
        let ask = change(ask, |a| a.version)?;
        nodes::add(self.0.clone(), ask)
    }

    async fn nodes_del(
        &self,
        ask: Request<wire::NodesDelRequest>,
    ) -> Answer<wire::NodesDelReply> {
        let ask = change(ask, |a| a.version)?;
        nodes::del(&self.0, ask).await
    }

    async fn map_get(&self, ask: Request<wire::MapRequest>) -> Answer<wire::Map> {
        check_version(ask.get_ref().version)?;
        Ok(Response::new(nodes::map(&self.0)))
    }

    async fn map_set(&self, ask: Request<wire::Map>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        nodes::set_map(&self.0, ask).await
    }

    async fn token_create(
        &self,
        ask: Request<wire::TokenCreateRequest>,
    ) -> Answer<wire::TokenCreateReply> {
        let ask = change(ask, |a| a.version)?;
        tokens::create(&self.0, ask).await
    }

    async fn token_list(
        &self,
        ask: Request<wire::TokenListRequest>,
    ) -> Answer<wire::TokenListReply> {
        change(ask, |a| a.version)?;
        Ok(Response::new(tokens::list(&self.0)))
    }

    async fn token_revoke(&self, ask: Request<wire::TokenRevokeRequest>) -> Answer<wire::Done> {
        let ask = change(ask, |a| a.version)?;
        tokens::revoke(&self.0, ask.id).await
    }

    async fn config_get(
        &self,
        ask: Request<wire::ConfigGetRequest>,
    ) -> Answer<wire::ConfigReply> {
        check_version(ask.get_ref().version)?;
        config::get(&self.0, ask.into_inner()).await
    }

    async fn config_set(
        &self,
        ask: Request<wire::ConfigSetRequest>,
    ) -> Answer<wire::ConfigSetReply> {
        let ask = change(ask, |a| a.version)?;
        config::set(&self.0, ask).await
    }

    async fn config_watch(
        &self,
        ask: Request<wire::ConfigWatchRequest>,
    ) -> Answer<Self::ConfigWatchStream> {
        check_version(ask.get_ref().version)?;
        Ok(Response::new(config::watch(self.0.clone(), ask.into_inner())))
    }

    async fn backup(&self, ask: Request<wire::BackupRequest>) -> Answer<Self::BackupStream> {
        change(ask, |a| a.version)?;
        Ok(Response::new(restore::backup(&self.0)?))
    }

    async fn restore(&self, ask: Request<Streaming<wire::Piece>>) -> Answer<wire::Done> {
        root_only(&ask)?;
        restore::restore(&self.0, ask.into_inner()).await
    }

    async fn signal(&self, ask: Request<wire::SignalRequest>) -> Answer<wire::SignalReply> {
        check_version(ask.get_ref().version)?;
        signal::send(&self.0, ask).await
    }

    async fn renice(&self, ask: Request<wire::ReniceRequest>) -> Answer<wire::SignalReply> {
        check_version(ask.get_ref().version)?;
        signal::renice(&self.0, ask).await
    }

    async fn metrics(&self, ask: Request<wire::StatusRequest>) -> Answer<wire::Piece> {
        check_version(ask.get_ref().version)?;
        let data = crate::metrics::text(&self.0).await.into_bytes();
        Ok(Response::new(wire::Piece { data, version: PROTOCOL_VERSION }))
    }
}
