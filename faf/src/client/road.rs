//! The way to a server: two connections, made again when they break.

use super::pending::Generation;
use super::{BULK_BYTES, Client, receive};
use crate::op::{Answer, Caller, Hello, Op, Request, Welcome};
use crate::serve::cluster_name;
use krg_rpc::frame::Frame;
use krg_rpc::link::{Inbox, Link};
use krg_rpc::tls::{self, Credentials, Protocol};
use krg_types::MemberId;
use krg_types::limits::PROTOCOL_VERSION;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// A connection and its greeting have so long.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// Between attempts while the node is thought to be up, and while it is thought to be down.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_DOWN: Duration = Duration::from_secs(2);

/// Questions wait for so long for a server that should be there and is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Notices that may come before a greeting.
const EARLY_MAX: usize = 10_000;

/// Whom to connect to, and where.
#[derive(Clone)]
pub struct Route {
    /// The member; another one at the same place is refused. `None`: nobody is there now.
    pub to: watch::Receiver<Option<Destination>>,
    /// This node's.
    pub credentials: Arc<Credentials>,
    /// The cluster's name.
    pub cluster: Arc<str>,
}

/// A member's file server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Which.
    pub member: MemberId,
    /// `host:port`.
    pub address: String,
    /// Its daemon has answered the last probe.
    pub up: bool,
}

/// How it stands.
pub(super) enum State {
    /// Questions wait for the first connection, or for the one after a break.
    Connecting,
    /// There are connections.
    Up(Road),
    /// There are none: questions fail at once, but of those who wait.
    Down,
    /// Nor will there be: the node is no member.
    Gone,
}

/// Two connections of one session.
pub(super) struct Road {
    links: [Arc<Link>; 2],
    generation: Generation,
    doubted: Arc<AtomicBool>,
}

impl Road {
    pub(super) fn new(links: [Arc<Link>; 2], generation: Generation) -> Road {
        Road { links, generation, doubted: Arc::default() }
    }

    /// Which pair it is.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.links.iter().for_each(|link| link.close());
    }

    /// The one for small questions, or for many bytes.
    pub(super) fn link(&self, bulk: bool) -> &Arc<Link> {
        &self.links[usize::from(bulk)]
    }

    /// A question about it is under way, and others are not asked meanwhile.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire)
    }

    /// For who asks that question.
    pub(super) fn doubted(&self) -> Arc<AtomicBool> {
        self.doubted.clone()
    }

    /// True for who is the first to doubt it.
    pub(super) fn begin_doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::AcqRel)
    }
}

/// Keeps a client connected for as long as it is held.
pub(super) async fn keep(client: Weak<Client>, mut route: Route) {
    let mut broken_since = Instant::now();
    loop {
        let Some(session) = client.upgrade().map(|client| client.session()) else { return };
        let connected = connect(&mut route, session).await;
        let Some(held) = client.upgrade() else { return };
        match connected {
            Ok((greeted, welcome)) => {
                let links = [greeted[0].link.clone(), greeted[1].link.clone()];
                tracing::debug!(member = %links[0].member(), "connected to its files");
                held.begin(session, greeted, welcome);
                drop(held);
                tokio::select! {
                    () = links[0].ended() => {}
                    () = links[1].ended() => {}
                    () = gone(&mut route.to, links[0].member()) => {}
                }
                links.iter().for_each(|link| link.close());
                let Some(client) = client.upgrade() else { return };
                client.broke();
                broken_since = Instant::now();
            }
            Err(e) => {
                tracing::debug!(error = %e, "not connected to a node's files");
                let to = route.to.borrow().clone();
                let up = to.as_ref().is_some_and(|to| to.up);
                // Of a node that is there, the server may just be starting.
                if !up || broken_since.elapsed() > PATIENCE {
                    held.fail(to.is_some());
                }
                drop(held);
                let pause = if up { RETRY } else { RETRY_DOWN };
                tokio::select! {
                    () = sleep_until(Instant::now() + pause) => {}
                    _ = route.to.changed() => {}
                }
            }
        }
    }
}

/// Ready when the node is not where it was, is no member any more, or is silent.
async fn gone(to: &mut watch::Receiver<Option<Destination>>, member: MemberId) {
    let still =
        |to: &Option<Destination>| !to.as_ref().is_some_and(|to| to.member == member && to.up);
    if to.wait_for(still).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A connection that was greeted, and what came on it meanwhile.
struct Greeted {
    link: Arc<Link>,
    inbox: Inbox,
    early: Vec<Frame>,
}

async fn connect(route: &mut Route, session: u128) -> io::Result<([Greeted; 2], Welcome)> {
    let to = route.to.borrow_and_update().clone();
    let to = to.ok_or_else(|| io::Error::other("it is not a member"))?;
    let both = async {
        let (first, welcome) = one(&to, route, session, true).await?;
        let (second, again) = one(&to, route, session, false).await?;
        if again.born != welcome.born {
            return Err(io::Error::other("the server has begun anew meanwhile"));
        }
        Ok(([first, second], welcome))
    };
    timeout(CONNECT_MAX, both).await.map_err(io::Error::other)?
}

async fn one(
    to: &Destination,
    route: &Route,
    session: u128,
    notices: bool,
) -> io::Result<(Greeted, Welcome)> {
    let conn =
        tls::to_member(&to.address, to.member, &route.credentials, Protocol::Files).await?;
    let link = conn.into_link()?;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        cluster: cluster_name(&route.cluster),
        session,
        notices,
    };
    let request = Request { caller: Caller::default(), op: Op::Hello(hello), once: false };
    let head = postcard::to_allocvec(&request).map_err(io::Error::other)?;
    link.send(1, &head, &[])?;
    let greeted = link.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let (mut inbox, mut early) = (Inbox::default(), Vec::new());
        loop {
            let frame = greeted.receive(&mut inbox)?;
            match frame.id {
                1 => return io::Result::Ok((frame, inbox, early)),
                // Something has changed already.
                _ if early.len() < EARLY_MAX => early.push(frame),
                _ => return Err(io::Error::other("no greeting among many notices")),
            }
        }
    });
    let guard = CloseOnDrop(Some(link.clone()));
    let (frame, inbox, early) = answer.await.map_err(io::Error::other)??;
    match postcard::from_bytes(&frame.head).map_err(io::Error::other)? {
        Answer::Welcome(welcome) => {
            guard.keep();
            Ok((Greeted { link, inbox, early }, welcome))
        }
        Answer::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::other("an answer that is none")),
    }
}

/// A connection that is given up must not keep the thread that waits for its greeting.
struct CloseOnDrop(Option<Arc<Link>>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close();
        }
    }
}

impl Client {
    /// There are connections now: what was held goes out.
    fn begin(self: &Arc<Self>, session: u128, greeted: [Greeted; 2], welcome: Welcome) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        let resumed = born.replace(welcome.born) == Some(welcome.born);
        drop(born);
        if !resumed {
            self.life.fetch_add(1, Ordering::AcqRel);
        }
        self.events.connected(resumed, welcome.root);
        let links = greeted.map(|Greeted { link, inbox, early }| {
            let (client, receiver) = (Arc::downgrade(self), link.clone());
            let thread = std::thread::Builder::new().name("answers".into());
            if thread
                .spawn(move || receive(&client, &receiver, generation, inbox, early))
                .is_err()
            {
                link.close();
            }
            link
        });
        let road = Road::new(links, generation);
        let mut state = self.state();
        if session != self.session() {
            // It was to have nothing more to do with that one.
            road.close();
        }
        *state = State::Up(road);
        drop(state);
        self.send_held();
        // What it has not heard, it still has to, if it is the one that knows of it.
        for op in self.take_unsaid().into_iter().filter(|_| resumed) {
            self.tell(op);
        }
    }

    /// Sends what was held back, if there are connections.
    pub(super) fn send_held(&self) {
        let state = self.state();
        let State::Up(road) = &*state else { return };
        if road.is_doubted() {
            return;
        }
        for frame in self.table.to_send(road.generation()) {
            let bulk = frame.data.len() > BULK_BYTES;
            // If it fails, the connections have ended: that is seen to.
            let _ = road.link(bulk).send(frame.id, &frame.head, &[&frame.data]);
        }
    }

    /// The connections have ended: what was asked on them is not known to have been done.
    fn broke(&self) {
        *self.state() = State::Connecting;
        for pending in self.table.break_off() {
            (pending.done)(Err(libc::EHOSTDOWN));
        }
    }

    /// No connection can be made, now or, if it is no member, at all.
    fn fail(&self, is_member: bool) {
        *self.state() = if is_member { State::Down } else { State::Gone };
        let failed = if is_member { self.table.break_off() } else { self.table.drain() };
        for pending in failed {
            (pending.done)(Err(libc::EHOSTDOWN));
        }
    }
}
