//! The connections of a file server: who is greeted, and the threads that answer.
//!
//! What is done for a connection, its `crew` does.

mod crew;

use crate::bytes::Bounded;
use crate::op::{Answer, Hello, Op, Request, Welcome};
use crate::server::{Ear, Server};
use crew::{Crew, Relief};
use krg_rpc::link::{Inbox, Link};
use krg_rpc::tls::{Credentials, Incoming, Protocol};
use krg_types::MemberId;
use krg_types::limits::FILE_LINKS_MAX;
use krg_types::version::understood;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;

/// Who connects has so long to say who it is.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// What a client had open is kept for so long after its last connection has ended.
const RETURN_MAX: Duration = Duration::from_secs(30);
/// A thread needs little: what is read goes into a buffer of the heap.
const STACK_BYTES: usize = 512 << 10;

/// A file server's doors.
pub struct Service {
    server: Arc<Server>,
    cluster: Arc<str>,
    links: AtomicUsize,
    relief: Arc<Relief>,
}

impl Service {
    /// For the nodes of this cluster.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn new(server: Arc<Server>, cluster: Arc<str>) -> io::Result<Arc<Service>> {
        let relief = Relief::start()?;
        Ok(Arc::new(Service { server, cluster, links: AtomicUsize::new(0), relief }))
    }

    /// What it serves.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Serves whoever comes to `listener`, for as long as the future is polled.
    ///
    /// # Errors
    /// When nobody can come any more.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        credentials: Arc<Credentials>,
    ) -> io::Result<()> {
        let mut incoming: Incoming =
            krg_rpc::tls::incoming(listener, credentials).speaking(Protocol::Files);
        while let Some(conn) = incoming.next().await {
            let link = match conn.and_then(|conn| conn.into_link()) {
                Ok(link) => link,
                Err(e) => {
                    tracing::warn!(error = %e, "a connection for files is refused");
                    continue;
                }
            };
            if self.links.fetch_add(1, Ordering::Relaxed) >= FILE_LINKS_MAX {
                tracing::warn!(member = %link.member(), "too many connections for files");
                link.close();
            }
            let (service, runtime) = (self.clone(), Handle::current());
            let closing = link.clone();
            let spawned = spawn(move || service.link(&link, &runtime));
            if spawned.is_err() {
                closing.close();
                self.links.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Err(io::Error::other("the listener is closed"))
    }

    /// One connection, on a thread of its own, to its end.
    fn link(self: Arc<Self>, link: &Arc<Link>, runtime: &Handle) {
        match self.greet(link, runtime) {
            Ok((id, inbox, hello)) => self.clone().answer(link, id, inbox, &hello, runtime),
            Err(e) => tracing::info!(member = %link.member(), error = %e, "not greeted"),
        }
        link.close();
        self.links.fetch_sub(1, Ordering::Relaxed);
    }

    fn greet(&self, link: &Arc<Link>, runtime: &Handle) -> io::Result<(u64, Inbox, Hello)> {
        let late = {
            let link = Arc::downgrade(link);
            let at = Instant::now() + GREETING_MAX;
            runtime.spawn(async move {
                sleep_until(at).await;
                if let Some(link) = link.upgrade() {
                    link.close();
                }
            })
        };
        let mut inbox = Inbox::default();
        let frame = link.receive(&mut inbox);
        late.abort();
        let frame = frame?;
        let request: Request = postcard::from_bytes(&frame.head).map_err(io::Error::other)?;
        let Op::Hello(hello) = request.op else {
            return Err(io::Error::other("it does not say who it is"));
        };
        if !understood(hello.version) || hello.cluster != cluster_name(&self.cluster) {
            send(link, frame.id, &Answer::Failed(libc::EPROTO), &[])?;
            return Err(io::Error::other("of another cluster or version"));
        }
        Ok((frame.id, inbox, hello))
    }

    fn answer(
        self: Arc<Self>,
        link: &Arc<Link>,
        id: u64,
        inbox: Inbox,
        hello: &Hello,
        runtime: &Handle,
    ) {
        let member = link.member();
        let session = self.server.join(member, hello.session);
        session.connected(link, hello.notices);
        if hello.notices {
            session.promises.set_ear(Ear::Link(Arc::downgrade(link)));
        }
        let welcome = match self.server.root() {
            Ok(root) => Answer::Welcome(Welcome { root, born: session.born }),
            Err(e) => Answer::Failed(e.raw_os_error().unwrap_or(libc::EIO)),
        };
        if send(link, id, &welcome, &[]).is_ok() {
            let (server, link) = (self.server.clone(), link.clone());
            let crew = Crew::new(server, session, link, inbox, hello.notices);
            self.relief.look_after(&crew);
            crew.work();
        }
        if let Some(left) = self.server.leave(member, hello.session) {
            runtime.spawn(self.forget(member, hello.session, left));
        }
    }

    async fn forget(self: Arc<Self>, member: MemberId, number: u128, left: u64) {
        sleep_until(Instant::now() + RETURN_MAX).await;
        self.server.forget(member, number, left);
    }
}

/// Where a file server listens: at the port after its daemon's.
pub fn door_beside(daemon: SocketAddr) -> Option<SocketAddr> {
    Some(SocketAddr::new(daemon.ip(), daemon.port().checked_add(1)?))
}

/// The same for `host:port`.
pub fn address_beside(daemon: &str) -> Option<String> {
    let (host, port) = daemon.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_add(1)?;
    Some(format!("{host}:{port}"))
}

/// A cluster's name as it is said on a connection.
pub fn cluster_name(cluster: &str) -> Bounded<64> {
    Bounded::new(cluster).unwrap_or_default()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("files".into()).stack_size(STACK_BYTES);
    thread.spawn(work).map(drop)
}

fn send(link: &Link, id: u64, answer: &Answer, data: &[u8]) -> io::Result<()> {
    let head = postcard::to_allocvec(answer).map_err(io::Error::other)?;
    link.send(id, &head, &[data])
}
