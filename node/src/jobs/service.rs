//! What other nodes, and the commands of this one, ask of jobs: it is handed on to their holders.

use super::find::Found;
use super::said::{self, Said};
use super::{GUEST, Scratch, holder, keeper, later};
use crate::caps;
use crate::life::Station;
use crate::local_caller::{caller, same_version};
use krg_migrate::cluster::{Record, key};
use krg_migrate::facts;
use krg_migrate::job::Job;
use krg_migrate::place;
use krg_rpc::job::{Received, written};
use krg_rpc::peers::{Peer, Peers};
use krg_rpc::proto::job as wire;
use krg_rpc::proto::job::jobs_server::JobsServer;
use krg_rpc::proto::job::moves_client::MovesClient;
use krg_rpc::proto::job::moves_server::MovesServer;
use krg_rpc::proto::job::{FromJob, ToJob, from_job, to_job};
use krg_rpc::status::check_caller;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use krg_sys::ns;
use krg_types::limits::{JOB_MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use krg_types::{Capability, NodeId};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes received at once.
const READ_BYTES: usize = 256 << 10;
/// Messages on their way.
pub(super) const MESSAGES: usize = 16;
/// A holder, and a node, say what a job is within this.
const ABOUT_MAX: Duration = Duration::from_secs(1);

/// And what is agreed is known within this, or the last that was heard is told.
const AGREED_MAX: Duration = Duration::from_millis(400);

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// For the other nodes.
#[derive(Clone)]
pub struct Service {
    pub(super) station: Arc<Station>,
    pub(super) dir: PathBuf,
    pub(super) config_path: Option<PathBuf>,
}

/// For other nodes.
pub fn moves(station: &Arc<Station>) -> MovesServer<Service> {
    MovesServer::new(Service::new(station)).max_decoding_message_size(JOB_MESSAGE_BYTES_MAX)
}

/// For the commands of this machine.
pub fn commands(station: &Arc<Station>) -> JobsServer<Service> {
    JobsServer::new(Service::new(station))
}

/// Who is meant by a number that a user of this machine has said.
///
/// # Errors
/// When a node that must know does not answer.
pub async fn locate(station: &Arc<Station>, number: u32) -> Result<Found, Status> {
    Service::new(station).locate(number).await
}

/// Does a job that is here move now?
pub async fn is_moving(station: &Arc<Station>, job: u32) -> bool {
    let Some(mut talk) = Service::new(station).talk(job).await else { return false };
    talk.about().await.is_some_and(|info| info.state == "moving")
}

/// A conversation with the holder of a job.
pub(super) struct Talk {
    stream: UnixStream,
    received: Received,
    buf: Vec<u8>,
}

/// Where a job is that was asked for.
pub(super) enum Held {
    /// Here: with its holder, and what that says of it.
    Here(Talk, Box<wire::JobInfo>),
    /// On this node, under this number; the last is its home.
    At(NodeId, u32, u32),
}

impl Talk {
    fn new(stream: UnixStream) -> Talk {
        Talk { stream, received: Received::default(), buf: vec![0; READ_BYTES] }
    }

    pub(super) async fn say(&mut self, what: to_job::What) -> std::io::Result<()> {
        self.stream.write_all(&written(&ToJob { what: Some(what) })).await
    }

    /// What it says next; `None` at the end. Can be dropped and asked again.
    pub(super) async fn hear(&mut self) -> Option<from_job::What> {
        loop {
            if let Ok(Some(message)) = self.received.take::<FromJob>() {
                return message.what;
            }
            match self.stream.read(&mut self.buf).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.received.add(&self.buf[..n]),
            }
        }
    }

    pub(super) async fn about(&mut self) -> Option<wire::JobInfo> {
        let asked = async {
            self.say(to_job::What::About(wire::About { version: PROTOCOL_VERSION }))
                .await
                .ok()?;
            match self.hear().await? {
                from_job::What::Info(info) => Some(info),
                _ => None,
            }
        };
        timeout(ABOUT_MAX, asked).await.ok()?
    }
}

impl Service {
    /// Of this node.
    pub fn new(station: &Arc<Station>) -> Service {
        Service {
            dir: station.config.run_dir.join("jobs"),
            config_path: station.config_path.clone(),
            station: station.clone(),
        }
    }

    pub(super) fn own(&self) -> NodeId {
        self.station.members.own()
    }

    pub(super) fn cluster_name(&self) -> String {
        self.station.members.cluster().to_string()
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.station.members.all()
    }

    pub(super) fn talk_on(stream: UnixStream) -> Talk {
        Talk::new(stream)
    }

    pub(super) async fn talk(&self, job: u32) -> Option<Talk> {
        UnixStream::connect(place::socket(&self.dir, job)).await.ok().map(Talk::new)
    }

    pub(super) fn check(&self, version: u32, cluster: &str) -> Result<(), Status> {
        check_caller(&self.station.members.cluster(), version, cluster)
    }

    async fn jobs_here(&self) -> Vec<wire::JobInfo> {
        let mut jobs = Vec::new();
        for about in place::all(&self.dir) {
            if let Some(mut talk) = self.talk(about.id).await {
                let Some(mut info) = talk.about().await else { continue };
                if info.node != self.own().get() {
                    // It may have gone on since its home was told.
                    let agreed = timeout(AGREED_MAX, self.holder_of(about.id)).await;
                    info.node = agreed.ok().flatten().unwrap_or(info.node);
                }
                let node = NodeId::new(info.node);
                let up = node.and_then(|node| Some(self.station.members.get(node)?.up));
                if info.node != self.own().get() && up != Some(true) {
                    info.state = "unreachable".into();
                }
                jobs.push(info);
            }
        }
        jobs
    }

    /// To the node that can do it: `None` when that is this one.
    async fn give(&self, node: NodeId, order: wire::MoveOrder) -> Result<Said, Status> {
        if node == self.own() {
            return self.obey(order).await;
        }
        let Peer { channel, .. } = self.peer(node)?;
        Ok(said::there(MovesClient::new(channel).order(order).await?.into_inner()))
    }

    /// Is it agreed that jobs of other nodes do not come here?
    fn takes_no_guests(&self) -> bool {
        let key = format!("guests/{}/off", self.own());
        self.station.meta.view().state.config.get(&key).is_some_and(|text| text.0 == "true")
    }

    /// As all nodes have agreed on by now.
    pub(super) async fn holder_of(&self, job: u32) -> Option<u32> {
        let view = self.station.meta.view_linearizable().await.ok()?;
        let text = &view.state.config.get(&key(job))?.0;
        Some(Record::parse(text)?.holder)
    }

    pub(super) fn peer(&self, node: NodeId) -> Result<Peer, Status> {
        let none = || Status::not_found(format!("there is no node {node}"));
        let peer = self.station.members.get(node).ok_or_else(none)?;
        match peer.up {
            true => Ok(peer),
            false => Err(Status::unavailable(format!("node {node} does not answer"))),
        }
    }

    /// May this be done to the process that an order names, of a job that is here?
    async fn allowed(
        &self,
        job: u32,
        order: &wire::MoveOrder,
        capability: Capability,
    ) -> Result<(), Status> {
        let number = if order.job == 0 { job } else { order.job };
        caps::allowed(&self.station, job, order.pid, number, capability).await
    }

    /// The job that an order names, for who may ask this of it. `none` is what is said of a process
    /// that is of no job.
    pub(super) async fn held(
        &self,
        pid: u32,
        number: u32,
        uid: u32,
        none: &str,
    ) -> Result<Held, Status> {
        let own = self.own();
        let none = || match pid {
            0 => Status::not_found(format!("there is no job {number}")),
            pid if ns::id(pid, "pid").is_err() => {
                Status::not_found(format!("there is no process {pid} on node {own}"))
            }
            pid => Status::failed_precondition(format!("process {pid} of node {own} {none}")),
        };
        let job = self.find(pid, number).ok_or_else(none)?.id;
        let mut talk = self.talk(job).await.ok_or_else(none)?;
        let info = talk.about().await;
        let info = info.ok_or_else(|| Status::unavailable("its holder does not answer"))?;
        if uid != 0 && uid != info.uid {
            return Err(Status::permission_denied(format!("job {job} is another user's")));
        }
        if info.node == own.get() {
            return Ok(Held::Here(talk, Box::new(info)));
        }
        // It may have gone on since its home was told.
        let holder = self.holder_of(job).await.unwrap_or(info.node);
        let node = NodeId::new(holder).ok_or_else(none)?;
        if node == own {
            return Err(Status::unavailable(format!("job {job} is on its way")));
        }
        Ok(Held::At(node, job, info.home))
    }

    /// By whoever holds the job, here or where it is.
    pub(super) async fn obey(&self, order: wire::MoveOrder) -> Result<Said, Status> {
        let none = "is of no job: only what was started with `krg run` moves";
        let (info, mut talk) = match self.held(order.pid, order.job, order.uid, none).await? {
            Held::Here(talk, info) => (info, talk),
            Held::At(node, job, home) => {
                let to = if order.to == 0 { home } else { order.to };
                let order = wire::MoveOrder { pid: 0, job, to, ..order };
                return Box::pin(self.give(node, order)).await;
            }
        };
        let job = info.id;
        let to = if order.to == 0 { info.home } else { order.to };
        if !order.only_where {
            self.allowed(job, &order, Capability::CanMigrate).await?;
        }
        let target = NodeId::new(to).ok_or_else(|| Status::not_found("there is no such node"))?;
        if target != self.own() && !order.anywhere {
            self.peer(target)?;
        }
        let wire::MoveOrder { dry_run, anywhere, only_where, uid, trace, .. } = order;
        let version = PROTOCOL_VERSION;
        let order = wire::Move { version, node: to, dry_run, anywhere, only_where, uid, trace };
        let (say, said) = mpsc::channel(MESSAGES);
        tokio::spawn(async move {
            if talk.say(to_job::What::Move(order)).await.is_err() {
                return;
            }
            while let Some(what) = talk.hear().await {
                let is_last =
                    matches!(what, from_job::What::Moved(_) | from_job::What::Refused(_));
                if say.send(what).await.is_err() || is_last {
                    return;
                }
            }
            let _ = say.send(refused("its holder has ended")).await;
        });
        Ok(said)
    }
}

/// Of a job that has no holder any more.
fn lost(id: u32, record: &Record) -> wire::JobInfo {
    wire::JobInfo {
        id,
        home: record.home,
        node: record.holder,
        moves: record.moves,
        state: "lost".into(),
        command: record.why_lost().unwrap_or_default(),
        ..wire::JobInfo::default()
    }
}

pub(super) fn refused(why: &str) -> from_job::What {
    from_job::What::Refused(wire::Refused { why: why.into(), errno: libc::EIO })
}

#[tonic::async_trait]
impl wire::moves_server::Moves for Service {
    type ArriveStream = Answers<wire::Arrived>;
    type LinkStream = Answers<wire::Frame>;
    type OrderStream = Answers<wire::OrderReply>;

    async fn arrive(
        &self,
        ask: Request<Streaming<wire::Arrival>>,
    ) -> Result<Response<Self::ArriveStream>, Status> {
        let mut arrivals = ask.into_inner();
        let first = arrivals.message().await?;
        let Some(wire::arrival::What::Begin(begin)) = first.and_then(|first| first.what) else {
            return Err(Status::invalid_argument("it does not begin"));
        };
        self.check(begin.version, &begin.cluster)?;
        let job = begin.job;
        Job::hear(&begin).map_err(Status::invalid_argument)?;
        let stream = if begin.home == self.own().get() {
            let talk = self.talk(job).await;
            talk.ok_or_else(|| Status::not_found(format!("job {job} has no holder here")))?.stream
        } else if self.takes_no_guests() {
            return Err(Status::failed_precondition(facts::no_guests(self.own().get())));
        } else {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            let scratch = Scratch(place::criu_dir(&self.dir, job, &begin.trace));
            let (config, dir) = (self.config_path.as_deref(), self.dir.clone());
            let started = holder(GUEST, theirs, config, dir, Some(scratch), ());
            started.map_err(|e| Status::internal(format!("{e:#}")))?;
            ours.set_nonblocking(true)?;
            UnixStream::from_std(ours)?
        };
        let (mut from, mut to) = stream.into_split();
        let begin = wire::Arrival { what: Some(wire::arrival::What::Begin(begin)) };
        tokio::spawn(async move {
            let mut next = Some(begin);
            while let Some(arrival) = next {
                let bytes = written(&ToJob { what: Some(to_job::What::Arrival(arrival)) });
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
                next = arrivals.message().await.ok().flatten();
            }
        });
        let (say, said) = mpsc::channel(MESSAGES);
        tokio::spawn(async move {
            let (mut received, mut buf) = (Received::default(), vec![0; READ_BYTES]);
            loop {
                while let Ok(Some(message)) = received.take::<FromJob>() {
                    let Some(from_job::What::Arrived(arrived)) = message.what else { return };
                    if say.send(Ok(arrived)).await.is_err() {
                        return;
                    }
                }
                match from.read(&mut buf).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => received.add(&buf[..n]),
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn link(
        &self,
        ask: Request<Streaming<wire::Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut frames = ask.into_inner();
        let first = frames.message().await?;
        let Some(wire::frame::What::Hello(hello)) = first.and_then(|first| first.what) else {
            return Err(Status::invalid_argument("it does not begin"));
        };
        self.check(hello.version, &hello.cluster)?;
        let none = || Status::not_found(format!("job {} is not here", hello.job));
        let talk = self.talk(hello.job).await.ok_or_else(none)?;
        let (say, said) = mpsc::channel(MESSAGES);
        let (mut from, mut to) = talk.stream.into_split();
        let sends = tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                let bytes = written(&ToJob { what: Some(to_job::What::Frame(frame)) });
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let (mut received, mut buf) = (Received::default(), vec![0; READ_BYTES]);
            'all: loop {
                while let Ok(Some(message)) = received.take::<FromJob>() {
                    let Some(from_job::What::Frame(frame)) = message.what else { continue };
                    if say.send(Ok(frame)).await.is_err() {
                        break 'all;
                    }
                }
                let read = tokio::select! {
                    read = from.read(&mut buf) => read,
                    () = say.closed() => break,
                };
                match read {
                    Ok(0) | Err(_) => break,
                    Ok(n) => received.add(&buf[..n]),
                }
            }
            sends.abort();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn order(
        &self,
        ask: Request<wire::MoveOrder>,
    ) -> Result<Response<Self::OrderStream>, Status> {
        let order = ask.into_inner();
        self.check(order.version, &order.cluster)?;
        Ok(said::to_node(self.obey(order).await?))
    }

    async fn list(
        &self,
        ask: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListReply>, Status> {
        let ask = ask.into_inner();
        self.check(ask.version, &ask.cluster)?;
        let own = self.own().get();
        let mut jobs = self.jobs_here().await;
        // Guests are told of by their homes.
        jobs.retain(|job| job.home == own);
        Ok(Response::new(wire::ListReply { jobs, silent: Vec::new() }))
    }

    async fn find(
        &self,
        ask: Request<wire::FindRequest>,
    ) -> Result<Response<wire::FindReply>, Status> {
        let ask = ask.into_inner();
        self.check(ask.version, &ask.cluster)?;
        Ok(Response::new(self.find_number(ask.number).await))
    }

    async fn facts(
        &self,
        ask: Request<wire::FactsRequest>,
    ) -> Result<Response<wire::FactsReply>, Status> {
        let ask = ask.into_inner();
        self.check(ask.version, &ask.cluster)?;
        let told = spawn_blocking(facts::of_this_node).await;
        let told = told.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(wire::FactsReply { no_guests: self.takes_no_guests(), ..told }))
    }
}

#[tonic::async_trait]
impl wire::jobs_server::Jobs for Service {
    type MigrateStream = Answers<FromJob>;

    async fn migrate(
        &self,
        ask: Request<wire::MigrateRequest>,
    ) -> Result<Response<Self::MigrateStream>, Status> {
        let peer = caller(&ask)?;
        let ask = ask.into_inner();
        same_version(ask.version)?;
        let uid = ask.uid.unwrap_or(peer.uid());
        if uid != peer.uid() && peer.uid() != 0 {
            return Err(Status::permission_denied("only root may move jobs as somebody else"));
        }
        let own = peer.pid().and_then(|pid| self.find(u32::try_from(pid).ok()?, 0));
        let Found { node, pid, job } = match (ask.pid, &own) {
            (0, Some(own)) => Found { node: self.own(), pid: 0, job: own.id },
            (0, None) => return Err(later::of_none()),
            _ => self.locate(ask.pid).await?.named(ask.pid)?,
        };
        let trace = format!("{:08x}", rand_word());
        let order = wire::MoveOrder {
            version: PROTOCOL_VERSION,
            cluster: self.station.members.cluster().to_string(),
            pid,
            job,
            to: ask.node,
            dry_run: ask.dry_run,
            anywhere: ask.anywhere,
            only_where: ask.only_where,
            uid,
            trace,
        };
        if let Some(own) = own.filter(|own| node == self.own() && self.is_of(&order, own.id)) {
            return self.later(wire::MoveOrder { pid: 0, job: own.id, ..order }).await;
        }
        Ok(said::to_command(self.give(node, order).await?))
    }

    async fn everywhere(
        &self,
        ask: Request<wire::EverywhereRequest>,
    ) -> Result<Response<wire::ListReply>, Status> {
        same_version(ask.get_ref().version)?;
        let own = self.own();
        let cluster = self.station.members.cluster().to_string();
        let ask = wire::ListRequest { version: PROTOCOL_VERSION, cluster };
        let others = self.station.members.all().into_iter().filter(|peer| peer.id != own);
        let asked = others.map(|peer| {
            let ask = ask.clone();
            let answer = tokio::spawn(async move {
                let mut client = MovesClient::new(peer.channel);
                timeout(ABOUT_MAX, client.list(ask)).await.ok()?.ok()
            });
            (peer.id, answer)
        });
        let asked: Vec<_> = asked.collect();
        let jobs = self.jobs_here().await;
        let mut reply = wire::ListReply { jobs, silent: Vec::new() };
        let guests: Vec<_> = reply.jobs.extract_if(.., |job| job.home != own.get()).collect();
        for (node, answer) in asked {
            match answer.await.ok().flatten() {
                Some(told) => reply.jobs.extend(told.into_inner().jobs),
                None => reply.silent.push(node.get()),
            }
        }
        for (id, record, _) in keeper::records(&self.station) {
            if record.lost.is_some() && reply.jobs.iter().all(|job| job.id != id) {
                reply.jobs.push(lost(id, &record));
            }
        }
        // Why one has not gone on is known where it is.
        for job in &mut reply.jobs {
            if let Some(guest) = guests.iter().find(|guest| guest.id == job.id) {
                job.refusal.clone_from(&guest.refusal);
            }
        }
        reply.jobs.sort_by_key(|job| job.id);
        Ok(Response::new(reply))
    }
}

/// Different from those of all other moves.
pub(super) fn rand_word() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
