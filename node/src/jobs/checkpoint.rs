//! Jobs that are saved, frozen and begun again: what is asked of them is handed on to their
//! holders, and what is saved of them is looked through where it is.

use super::find::Found;
use super::numbers::{self, Numbers};
use super::said::{self, Said};
use super::service::{Answers, Held, MESSAGES, Service, rand_word, refused};
use super::{COMMAND, holder};
use crate::life::Station;
use crate::local_caller::{caller, same_version};
use anyhow::Result;
use krg_migrate::checkpoint::restart::Again;
use krg_migrate::checkpoint::shelf::{Shelf, USUAL};
use krg_migrate::holder::Equipment;
use krg_rpc::job::written;
use krg_rpc::proto::job as wire;
use krg_rpc::proto::job::checkpoints_server::CheckpointsServer;
use krg_rpc::proto::job::save_request::What;
use krg_rpc::proto::job::saves_client::SavesClient;
use krg_rpc::proto::job::saves_server::SavesServer;
use krg_rpc::proto::job::{FromJob, SaveOrder, SaveRequest, ToJob, from_job, to_job};
use krg_rpc::tonic::{self, Request, Response, Status};
use krg_sys::fd_passing;
use krg_types::{GlobalPid, NodeId};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A node looks through what is saved there within this.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Versions that are told of one node.
const VERSIONS_MAX: usize = 10_000;

/// For other nodes.
pub fn orders(station: &Arc<Station>) -> SavesServer<Service> {
    SavesServer::new(Service::new(station))
}

/// For the commands of this machine.
pub fn commands(station: &Arc<Station>) -> CheckpointsServer<Service> {
    CheckpointsServer::new(Service::new(station))
}

/// In the holder: begins again what was saved, and holds it.
///
/// # Errors
/// When he who has asked cannot be told why it does not begin.
pub fn begin_again(again: Again, equipment: Equipment, runtime: &Runtime) -> Result<()> {
    let (dir, own) = (equipment.dir.clone(), equipment.cluster.own());
    let mut held: Option<Numbers> = None;
    let mut take = |first: Option<u32>| {
        held = match first {
            Some(first) => numbers::take_from(&dir, own, first),
            None => numbers::take(&dir, own),
        };
        held.as_ref().map(Numbers::range)
    };
    again.hold(equipment, &mut take, trace(), runtime)?;
    drop(held);
    Ok(())
}

fn trace() -> String {
    format!("{:08x}", rand_word())
}

/// Where a job of this number was started.
fn home_of(app: u32, own: NodeId) -> NodeId {
    let global = GlobalPid::from_raw(app).map(GlobalPid::node);
    global.or_else(|| NodeId::new(app >> 15)).unwrap_or(own)
}

fn may_choose(dir: &str, uid: u32) -> Result<(), Status> {
    let plain = dir.starts_with('/') && !dir.contains('\0') && !dir.split('/').any(|w| w == "..");
    match (dir.is_empty(), plain && dir.len() <= 4_096, uid) {
        (true, ..) => Ok(()),
        (_, false, _) => Err(Status::invalid_argument("the directory must begin at the root")),
        (_, _, 0) => Ok(()),
        _ => Err(Status::permission_denied("only root may choose the directory of versions")),
    }
}

impl Service {
    /// To the node that can do it.
    async fn hand(&self, node: NodeId, order: SaveOrder) -> Result<Said, Status> {
        if node == self.own() {
            return self.save(order).await;
        }
        let channel = self.peer(node)?.channel;
        Ok(said::there(SavesClient::new(channel).order(order).await?.into_inner()))
    }

    async fn save(&self, order: SaveOrder) -> Result<Said, Status> {
        let ask = order.ask.clone().unwrap_or_default();
        let ask = match ask.what {
            Some(What::Restart(restart)) => {
                may_choose(&restart.dir, order.uid)?;
                return self.restart(restart, order.uid);
            }
            Some(What::Save(save)) => {
                may_choose(&save.dir, order.uid)?;
                to_job::What::Save(save)
            }
            Some(What::Freeze(freeze)) => to_job::What::Freeze(freeze),
            None => return Err(Status::invalid_argument("nothing is asked for")),
        };
        let none = "is not part of a checkpointable application: only what was started with \
                    `krg run` is";
        let (job, mut talk) = match self.held(order.pid, order.job, order.uid, none).await? {
            Held::Here(talk, info) => (info.id, talk),
            Held::At(node, job, _) => {
                let order = SaveOrder { pid: 0, job, ..order };
                return Box::pin(self.hand(node, order)).await;
            }
        };
        if let to_job::What::Save(_) = &ask {
            let number = if order.job == 0 { job } else { order.job };
            crate::caps::application(&self.station, job, order.pid, number)?;
        }
        let (say, said) = mpsc::channel(MESSAGES);
        tokio::spawn(async move {
            if talk.say(ask).await.is_ok() {
                while let Some(what) = talk.hear().await {
                    if matches!(what, from_job::What::Output(_)) {
                        continue;
                    }
                    let _ = say.send(what).await;
                    return;
                }
            }
            let _ = say.send(refused("its holder has ended")).await;
        });
        Ok(said)
    }

    /// In the background, for a user of any node.
    fn restart(
        &self,
        restart: wire::Restart,
        uid: u32,
    ) -> Result<mpsc::Receiver<from_job::What>, Status> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let restart = wire::Restart { background: true, uid: Some(uid), ..restart };
        let bytes = written(&ToJob { what: Some(to_job::What::Restart(restart)) });
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let sent = fd_passing::send(&ours, &bytes, &[null.as_fd(), null.as_fd(), null.as_fd()])?;
        (&ours).write_all(&bytes[sent..])?;
        let (config, dir) = (self.config_path.as_deref(), self.dir.clone());
        let started = holder(COMMAND, theirs, config, dir, None, ());
        started.map_err(|e| Status::internal(format!("{e:#}")))?;
        ours.set_nonblocking(true)?;
        let mut talk = Service::talk_on(UnixStream::from_std(ours)?);
        let (say, said) = mpsc::channel(MESSAGES);
        tokio::spawn(async move {
            let what = talk.hear().await;
            let _ = say.send(what.unwrap_or_else(|| refused("its holder has ended"))).await;
        });
        Ok(said)
    }

    /// What is saved on this node, of what this user may know.
    async fn versions_here(
        &self,
        ask: wire::VersionsRequest,
        uid: u32,
    ) -> Result<wire::VersionsReply, Status> {
        may_choose(&ask.dir, uid)?;
        let own = self.own().get();
        let found = tokio::task::spawn_blocking(move || look(&ask, uid, own)).await;
        found.map_err(|e| Status::internal(e.to_string()))?
    }
}

fn look(ask: &wire::VersionsRequest, uid: u32, own: u32) -> Result<wire::VersionsReply, Status> {
    let root = Path::new("/");
    let dir = if ask.dir.is_empty() { USUAL } else { &ask.dir };
    let apps = if ask.app > 0 { vec![ask.app] } else { Shelf::all(root, dir) };
    let mut versions = Vec::new();
    for app in apps {
        let shelf = match Shelf::open(root, dir, app) {
            Ok(shelf) => shelf,
            Err(e) if ask.remove > 0 => return Err(Status::not_found(e.to_string())),
            Err(_) => continue,
        };
        let owner = shelf.owner()?;
        if uid != 0 && uid != owner {
            if ask.remove > 0 {
                let why = format!("what is saved of {app} is another user's");
                return Err(Status::permission_denied(why));
            }
            continue;
        }
        if ask.remove > 0 {
            shelf.remove(ask.remove).map_err(|e| match e.kind() {
                ErrorKind::NotFound => Status::not_found(e.to_string()),
                _ => Status::internal(e.to_string()),
            })?;
        }
        for number in shelf.versions().unwrap_or_default() {
            if versions.len() >= VERSIONS_MAX {
                break;
            }
            versions.push(told(&shelf, app, number, owner, own));
        }
    }
    Ok(wire::VersionsReply { versions, silent: Vec::new() })
}

fn told(shelf: &Shelf, app: u32, number: u32, uid: u32, home: u32) -> wire::Version {
    let empty = wire::Version { app, checkpoint: number, home, uid, ..wire::Version::default() };
    match shelf.version(number) {
        Ok(version) => {
            let bytes = version.manifest.bytes();
            let files = u32::try_from(version.manifest.files.len()).unwrap_or(u32::MAX);
            let path = version.path.to_string_lossy().into_owned();
            let krg_migrate::checkpoint::manifest::Manifest {
                name,
                command,
                date,
                description,
                ..
            } = version.manifest;
            wire::Version { name, command, date, bytes, description, path, files, ..empty }
        }
        Err(e) => wire::Version { broken: e.to_string(), ..empty },
    }
}

#[tonic::async_trait]
impl wire::saves_server::Saves for Service {
    type OrderStream = Answers<wire::OrderReply>;

    async fn order(
        &self,
        ask: Request<SaveOrder>,
    ) -> Result<Response<Self::OrderStream>, Status> {
        let order = ask.into_inner();
        let version = order.ask.as_ref().map_or(0, |ask| ask.version);
        self.check(version, &order.cluster)?;
        Ok(said::to_node(self.save(order).await?))
    }

    async fn versions(
        &self,
        ask: Request<wire::VersionsOrder>,
    ) -> Result<Response<wire::VersionsReply>, Status> {
        let order = ask.into_inner();
        let ask = order.ask.unwrap_or_default();
        self.check(ask.version, &order.cluster)?;
        Ok(Response::new(self.versions_here(ask, order.uid).await?))
    }
}

#[tonic::async_trait]
impl wire::checkpoints_server::Checkpoints for Service {
    type OrderStream = Answers<FromJob>;

    async fn order(
        &self,
        ask: Request<SaveRequest>,
    ) -> Result<Response<Self::OrderStream>, Status> {
        let uid = caller(&ask)?.uid();
        let mut ask = ask.into_inner();
        same_version(ask.version)?;
        let (node, pid, job) = match &ask.what {
            Some(What::Restart(restart)) => (home_of(restart.app, self.own()), 0, 0),
            _ => {
                let Found { node, pid, job } = self.locate(ask.pid).await?.named(ask.pid)?;
                (node, pid, job)
            }
        };
        if let Some(What::Save(save)) = &mut ask.what {
            save.trace = trace();
        }
        let cluster = self.cluster_name();
        let order = SaveOrder { cluster, ask: Some(ask), pid, job, uid };
        Ok(said::to_command(self.hand(node, order).await?))
    }

    async fn versions(
        &self,
        ask: Request<wire::VersionsRequest>,
    ) -> Result<Response<wire::VersionsReply>, Status> {
        let uid = caller(&ask)?.uid();
        let ask = ask.into_inner();
        same_version(ask.version)?;
        let own = self.own();
        let cluster = self.cluster_name();
        let order = wire::VersionsOrder { cluster, ask: Some(ask.clone()), uid };
        if ask.remove > 0 {
            let home = home_of(ask.app, own);
            if home == own {
                return Ok(Response::new(self.versions_here(ask, uid).await?));
            }
            return SavesClient::new(self.peer(home)?.channel).versions(order).await;
        }
        let asked: Vec<_> = (self.peers().into_iter().filter(|peer| peer.id != own))
            .map(|peer| {
                let order = order.clone();
                let answer = tokio::spawn(async move {
                    let mut client = SavesClient::new(peer.channel);
                    timeout(LOOK_MAX, client.versions(order)).await.ok()?.ok()
                });
                (peer.id, answer)
            })
            .collect();
        let mut reply = self.versions_here(ask.clone(), uid).await?;
        for (node, answer) in asked {
            match answer.await.ok().flatten() {
                Some(told) => reply.versions.extend(told.into_inner().versions),
                None => reply.silent.push(node.get()),
            }
        }
        reply.versions.sort_by_key(|version| (version.home, version.app, version.checkpoint));
        Ok(Response::new(reply))
    }
}
