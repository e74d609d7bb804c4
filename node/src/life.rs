//! One life of the daemon: from who this node is to the services of that membership. A node that
//! joins, leaves or is taken out ends one life and begins another, behind the same doors.

use crate::caps;
use crate::config::Config;
use crate::control;
use crate::jobs::{self, blocks::Places};
use crate::mounts::{Kind, Mounts};
use crate::orders;
use crate::papers::{Papers, RELEASE};
use crate::{load, metrics, shutdown};
use anyhow::{Context, Result};
use krg_cluster::admit::Admission;
use krg_cluster::follow::{self, Follow};
use krg_cluster::gossip::{self, Gossip, GossipMembers};
use krg_cluster::home::Home;
use krg_cluster::identity::Identity;
use krg_cluster::probe::Asking;
use krg_cluster::serve::{Duties, Order, Service};
use krg_cluster::upkeep::{Description, Upkeep};
use krg_cluster::{Members, farewell, probe};
use krg_meta::command::Command;
use krg_meta::state::STATE_VERSION;
use krg_meta::table::admission::{self, Applicant};
use krg_meta::{Meta, Options};
use krg_procview::live::Live;
use krg_procview::sample::Sampler;
use krg_procview::serve;
use krg_rpc::bulk::Preface;
use krg_rpc::dial::{Dial, Secure};
use krg_rpc::pool;
use krg_rpc::proto::control::control_server::ControlServer;
use krg_rpc::proto::join::join_server::JoinServer;
use krg_rpc::proto::member::member_server::MemberServer;
use krg_rpc::proto::proc::NodeFacts;
use krg_rpc::tls;
use krg_rpc::tonic::service::interceptor::InterceptedService;
use krg_sys::clock::{boot_ns, page_size, ticks_per_s, wall_ns};
use krg_sys::procfs::{HidePid, Procfs};
use krg_types::MemberId;
use krg_types::limits::{BULK_COMING_MAX, CERTIFICATE_BYTES_MAX, GROUP_MAIN, MESSAGE_BYTES_MAX};
use krg_types::mfs::Patience;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::UnixListenerStream;

/// Between probes of a node that answers.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// Answers that are under way when a life ends have so long.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Making a cluster of one takes an agreement with oneself.
const FOUND_MAX: Duration = Duration::from_secs(10);
/// A port may be taken for so long by what is ending, and is tried again this often.
const BIND_MAX: Duration = Duration::from_secs(10);
const BIND_PAUSE: Duration = Duration::from_millis(100);
/// Orders that wait.
const ORDERS_MAX: usize = 16;

/// How a life ends.
#[derive(Debug)]
pub enum End {
    /// The daemon ends.
    Stop,
    /// It ends, and is to be started again by whoever started it.
    Reboot,
    /// Another life begins.
    Again(Next),
}

/// Who this node is in its next life.
#[derive(Debug)]
pub enum Next {
    /// Somebody else: these are its papers.
    Other(Box<Identity>),
    /// The founder of a new cluster of one.
    Founder,
    /// The one that goes on when the others were lost for good.
    Survivor,
}

/// What a command has this life do.
#[derive(Debug)]
pub enum Turn {
    /// Another member's order.
    Order(Order),
    /// This node has other papers.
    Become(Box<Identity>),
    /// This node forgets its cluster and makes a new one.
    Forget,
    /// It goes on alone.
    Survive,
}

/// Both doors, held open over lives.
pub struct Doors {
    /// For other nodes.
    pub tcp: std::net::TcpListener,
    /// For the commands of this machine.
    pub local: std::os::unix::net::UnixListener,
}

impl Doors {
    fn open(&self) -> Result<(TcpListener, UnixListener)> {
        let tcp = TcpListener::from_std(self.tcp.try_clone()?)?;
        Ok((tcp, UnixListener::from_std(self.local.try_clone()?)?))
    }
}

/// Everything that the services of one life share.
pub struct Station {
    /// What this node was started with.
    pub config: Config,
    /// Where that was read.
    pub config_path: Option<PathBuf>,
    /// Its host name.
    pub hostname: String,
    /// What is agreed.
    pub meta: Meta,
    /// This node's papers.
    pub home: Arc<Home>,
    /// Who answers.
    pub members: Arc<Members>,
    /// What the gossip has brought, once it runs.
    pub gossip: Arc<OnceLock<Gossip>>,
    /// The mounts.
    pub mounts: Arc<Mounts>,
    /// Makes channels to members.
    pub dial: Arc<dyn Dial>,
    /// Ends or turns this life.
    pub turns: mpsc::Sender<Turn>,
    /// Mounts of the view that are told of capabilities.
    pub followers: caps::follow::Followers,
    /// A damaged store was put there.
    pub quarantined: Option<std::path::PathBuf>,
}

/// One life, until something ends it.
///
/// # Errors
/// When it cannot begin, or a door is closed from outside.
pub async fn live(
    config: &Config,
    config_path: Option<&Path>,
    hostname: &str,
    hide: HidePid,
    doors: &Doors,
    mounts: Arc<Mounts>,
    papers: Papers,
) -> Result<End> {
    let (turns, mut asked) = mpsc::channel(ORDERS_MAX);
    let Papers { home, opened, founder, epoch, quarantined } = papers;
    let member = home.identity().member;
    let dial: Arc<dyn Dial> = Arc::new(Secure(home.credentials().clone()));
    let meta = Meta::start(opened, options(member, epoch, &dial, &home)).await?;
    let identity = home.identity();
    let members = Arc::new(Members::new(identity.node, &identity.cluster, dial.clone()));
    let known = identity.founders.iter().map(|f| (f.member, f.address.clone()));
    members.set(&known.collect::<Vec<_>>());
    let station = Arc::new(Station {
        config: config.clone(),
        config_path: config_path.map(Path::to_owned),
        hostname: hostname.to_owned(),
        meta,
        home,
        members,
        gossip: Arc::default(),
        mounts: mounts.clone(),
        dial,
        turns,
        followers: caps::follow::Followers::default(),
        quarantined,
    });
    let (tcp, local) = doors.open()?;
    let last_words = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let services = services(&station, hide, epoch)?;
    let (images, coming) = mpsc::channel(BULK_COMING_MAX);
    // Ends with the door.
    tokio::spawn(jobs::freight::hand_on(coming, station.config.run_dir.join("jobs")));
    let home = station.home.clone();
    tasks.spawn(open_to_nodes(services, tcp, home, images, last_words.clone()));
    tasks.spawn(open_to_commands(station.clone(), local, last_words.clone()));
    if founder {
        found(&station).await?;
    }
    let mut work = work(&station, epoch);
    begin_views(&station).await;
    tracing::info!(%member, listen = %config.listen, "ready");
    let end = tokio::select! {
        signal = shutdown::asked() => signal.map(|()| End::Stop).map_err(Into::into),
        turn = asked.recv() => Ok(turned(turn)),
        ended = tasks.join_next() => door_closed(ended),
        ended = work.join_next() => Ok(work_ended(ended)),
    };
    // Who waits for the end of this life is answered with the last words.
    drop(asked);
    last_words.notify_waiters();
    let quiet = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(LAST_WORDS, quiet).await;
    tasks.shutdown().await;
    work.shutdown().await;
    station.meta.stop().await;
    end
}

fn turned(turn: Option<Turn>) -> End {
    match turn {
        Some(Turn::Order(Order::PowerOff { reboot: true })) => End::Reboot,
        Some(Turn::Order(Order::PowerOff { reboot: false })) | None => End::Stop,
        Some(Turn::Become(identity)) => End::Again(Next::Other(identity)),
        Some(Turn::Order(Order::Goodbye) | Turn::Forget) => End::Again(Next::Founder),
        Some(Turn::Survive) => End::Again(Next::Survivor),
    }
}

fn door_closed(ended: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<End> {
    match ended {
        Some(Ok(result)) => result.and_then(|()| anyhow::bail!("a door was closed")),
        Some(Err(e)) => Err(e).context("a door's task"),
        None => anyhow::bail!("there is no door"),
    }
}

/// Only one end is a good one: this node is not in the member list any more.
fn work_ended(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> End {
    match ended {
        Some(Ok("removed")) => End::Again(Next::Founder),
        other => {
            tracing::error!(?other, "a task has ended that should not");
            End::Reboot
        }
    }
}

fn options(member: MemberId, epoch: u64, dial: &Arc<dyn Dial>, home: &Arc<Home>) -> Options {
    let keys = home.clone();
    Options {
        member,
        group: GROUP_MAIN,
        epoch,
        dial: dial.clone(),
        new_key: Arc::new(krg_cluster::secret::new_key_text),
        authority_keys: Arc::new(move || keys.authority_keys()),
        farewell: farewell::by(dial.clone(), home.identity().cluster),
    }
}

/// Everything that works in the background of one life.
fn work(station: &Arc<Station>, epoch: u64) -> JoinSet<&'static str> {
    let mut work = JoinSet::new();
    let (gossip, gossipers) = watch::channel(None);
    let follow = Follow {
        meta: station.meta.clone(),
        home: station.home.clone(),
        members: station.members.clone(),
        gossip,
    };
    let upkeep = Upkeep {
        meta: station.meta.clone(),
        home: station.home.clone(),
        dial: station.dial.clone(),
        admission: admission_of(station),
        description: Description {
            hostname: station.hostname.clone(),
            address: station.config.reachable_at().to_string(),
            release: RELEASE.to_owned(),
            state_version: STATE_VERSION,
        },
    };
    let asking = Asking { incarnation: epoch, boot_ns, wall_ns };
    let members = station.members.clone();
    work.spawn(async move {
        match follow.run().await {
            follow::Ended::Removed => "removed",
            follow::Ended::Closed => "members",
        }
    });
    let served = metrics::serve(station.clone());
    work.spawn(async move {
        if let Err(e) = served.await {
            tracing::error!(error = %e, "there are no metrics over HTTP");
        }
        std::future::pending().await
    });
    work.spawn(async move {
        upkeep.run().await;
        "upkeep"
    });
    work.spawn(async move {
        probe::run(members, asking, PROBE_PERIOD).await;
        "probes"
    });
    let (mounts, members) = (station.mounts.clone(), station.members.clone());
    work.spawn(async move {
        mounts.follow(&members).await;
        std::future::pending().await
    });
    look_after(station, &mut work);
    let meta = station.meta.clone();
    work.spawn(async move {
        // A store that failed once is not to be trusted until it has been opened anew.
        let why = meta.failure().await;
        tracing::error!(why, "the agreement has failed on this node");
        "agreement"
    });
    let station = station.clone();
    work.spawn(async move {
        talk(&station, gossipers, epoch).await;
        std::future::pending().await
    });
    work
}

/// After jobs and processes that have ended: what is agreed on of them is put away.
fn look_after(station: &Arc<Station>, work: &mut JoinSet<&'static str>) {
    let keeps = station.clone();
    work.spawn(async move {
        jobs::keeper::run(keeps).await;
        "jobs"
    });
    let ends = caps::collect::run(station.clone());
    work.spawn(async move {
        ends.await;
        "capabilities"
    });
}

fn admission_of(station: &Station) -> Admission {
    Admission {
        meta: station.meta.clone(),
        home: station.home.clone(),
        dial: station.dial.clone(),
    }
}

/// Starts the gossip when the member list is there.
async fn talk(
    station: &Station,
    mut members: watch::Receiver<Option<Arc<GossipMembers>>>,
    epoch: u64,
) {
    let Ok(first) = members.wait_for(Option::is_some).await.map(|m| m.clone()) else { return };
    let Some(first) = first else { return };
    let (send, list) = watch::channel(first);
    let started = async {
        let wire = bind(station.config.listen).await?;
        let nudged = station.members.clone();
        let options = gossip::Options {
            own: station.meta.own(),
            incarnation: epoch,
            key_pkcs8: station.home.identity().key_pkcs8_der,
            members: list,
            wire: Arc::new(wire),
            sample: Arc::new(load::now),
            boot_ns,
            suspect: Arc::new(move |member| nudged.suspect(member)),
        };
        anyhow::Ok(Gossip::start(options).await?)
    };
    match started.await {
        Ok(gossip) => drop(station.gossip.set(gossip)),
        Err(e) => {
            tracing::error!(error = %e, "there is no gossip: loads of other nodes stay unknown");
            return;
        }
    }
    while members.changed().await.is_ok() {
        let now = members.borrow_and_update().clone();
        send.send_if_modified(|list| match now {
            Some(now) if *list != now => {
                *list = now;
                true
            }
            _ => false,
        });
    }
}

/// The socket of the life before may take a moment to be closed.
async fn bind(at: SocketAddr) -> std::io::Result<UdpSocket> {
    let until = Instant::now() + BIND_MAX;
    loop {
        match UdpSocket::bind(at).await {
            Err(e) if e.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                sleep_until(Instant::now() + BIND_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

/// The first entries of a new cluster.
async fn found(station: &Station) -> Result<()> {
    let identity = station.home.identity();
    station.meta.found(&identity.address).await?;
    if station.meta.view().state.info().newest_serial != 0 {
        return Ok(());
    }
    let command = first_command(station, &identity)?;
    let made = station.meta.propose(Command::Admission(command), FOUND_MAX).await;
    if made.is_err() {
        // After a crash its own copy may be behind its log: then it had been made before.
        let now = station.meta.view_linearizable().await;
        if now.is_ok_and(|view| view.state.info().newest_serial != 0) {
            return Ok(());
        }
    }
    made.context("cannot make a cluster of this node")?;
    Ok(())
}

fn first_command(station: &Station, identity: &Identity) -> Result<admission::Command> {
    use krg_cluster::{ca, fingerprint};
    let cas = identity.cas.iter().flatten().next().context("a founder without an authority")?;
    let public_key = ca::public_key_of_key(&identity.key_pkcs8_der)?;
    let founder = Applicant {
        hostname: station.hostname.clone(),
        address: identity.address.clone(),
        public_key: fingerprint::to_hex(&public_key),
        fingerprint: fingerprint::to_hex(&fingerprint::of(&identity.certificate_der)),
        release: RELEASE.to_owned(),
        state_version: STATE_VERSION,
    };
    Ok(admission::Command::Found {
        name: identity.cluster.clone(),
        session: identity.session,
        nodes_min: station.config.nodes_min,
        founder: Box::new(founder),
        node: identity.node,
        authority: (
            fingerprint::to_hex(&cas.fingerprint()),
            cas.certificate_pem(),
            station.home.wall_s() + ca::LIFETIME_DAYS * 86_400,
        ),
        gossip_key: krg_cluster::secret::new_key_text(),
    })
}

type Services = krg_rpc::tonic::transport::server::Router;

/// What other nodes can ask: only the first of these, if they are no members.
fn services(station: &Arc<Station>, hide: HidePid, epoch: u64) -> Result<Services> {
    let admission = admission_of(station);
    let (orders, mut given) = mpsc::channel(ORDERS_MAX);
    let turns = station.turns.clone();
    tokio::spawn(async move {
        while let Some(order) = given.recv().await {
            let _ = turns.send(Turn::Order(order)).await;
        }
    });
    let own = station.meta.own();
    let service = Service {
        node: station.home.identity().node,
        cluster: station.home.identity().cluster.into(),
        hostname: station.hostname.clone(),
        incarnation: epoch,
        boot_ns,
        wall_ns,
        release: RELEASE.to_owned(),
        members: Some(station.members.clone()),
        duties: Some(Duties { own, admission: admission.clone(), orders }),
    };
    let view = processes(station, hide, epoch)?;
    let cluster = station.home.identity().cluster.into();
    let small = 2 * CERTIFICATE_BYTES_MAX;
    let raft = station.meta.service().server();
    let join = JoinServer::new(admission).max_decoding_message_size(small);
    let member = MemberServer::new(service).max_decoding_message_size(small);
    Ok(pool::server()
        .add_service(join)
        .add_service(InterceptedService::new(member, tls::members_only))
        .add_service(InterceptedService::new(serve::server(view), tls::members_only))
        .add_service(InterceptedService::new(orders::server(cluster), tls::members_only))
        .add_service(InterceptedService::new(jobs::service::moves(station), tls::members_only))
        .add_service(InterceptedService::new(
            jobs::checkpoint::orders(station),
            tls::members_only,
        ))
        .add_service(InterceptedService::new(caps::service::nodes(station), tls::members_only))
        .add_service(InterceptedService::new(raft, tls::members_only)))
}

fn processes(station: &Station, hide: HidePid, epoch: u64) -> Result<serve::Service> {
    let procfs = Arc::new(Procfs::open(hide).context("cannot open /proc")?);
    let identity = station.home.identity();
    let facts = NodeFacts {
        node: identity.node.get(),
        hostname: station.hostname.clone(),
        cpus: load::count_cpus(&procfs),
        ticks_per_s: ticks_per_s(),
        page_size: page_size(),
        hidepid: hide.level,
        hidepid_gid: hide.gid,
        incarnation: epoch,
        session: identity.session,
    };
    Ok(serve::Service {
        cluster: identity.cluster.into(),
        facts,
        sampler: Sampler::new(procfs.clone(), Places(station.config.run_dir.join("jobs"))),
        live: Live::start(procfs).context("cannot start threads")?,
    })
}

async fn open_to_nodes(
    services: Services,
    tcp: TcpListener,
    home: Arc<Home>,
    images: mpsc::Sender<(Preface, TcpStream)>,
    last_words: Arc<Notify>,
) -> Result<()> {
    let incoming = tls::incoming(tcp, home.credentials().clone()).giving_images_to(images);
    let served = services.serve_with_incoming_shutdown(incoming, last_words.notified());
    served.await.context("the door for other nodes closed")
}

async fn open_to_commands(
    station: Arc<Station>,
    local: UnixListener,
    last_words: Arc<Notify>,
) -> Result<()> {
    let (jobs, saves) = (jobs::service::commands(&station), jobs::checkpoint::commands(&station));
    let caps = caps::service::commands(&station);
    let control = ControlServer::new(control::Service(station))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    pool::server()
        .add_service(control)
        .add_service(jobs)
        .add_service(saves)
        .add_service(caps)
        .serve_with_incoming_shutdown(UnixListenerStream::new(local), last_words.notified())
        .await
        .context("the door for commands closed")
}

async fn begin_views(station: &Station) {
    let (mounts, config) = (&station.mounts, &station.config);
    mounts.resume();
    for (at, kind) in
        [(&config.view.mount, Kind::Proc), (&config.mfs.mount, Kind::Mfs(Patience::Soft))]
    {
        if at != Path::new("") && mounts.keep(at.clone(), kind).is_ok() {
            tracing::debug!(path = %at.display(), "mounting");
        }
    }
    // One that was resumed is kept already.
    let _ = mounts.keep_files();
    mounts.settled().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}
