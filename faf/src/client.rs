//! Asks the file server of one node. Every question is answered, once and in time: by the server,
//! or with an errno when it is gone, silent, or who asked has been told to end.
//!
//! Who asks never waits here; the answer goes to a closure, on the thread that receives it.

mod local;
mod pending;
mod road;
mod watch;

pub use pending::{Done, Reply};
pub use road::{Destination, Route};

use crate::op::{Answer, Attr, Caller, Entry, Notice, Op, OpenId, Request};
use crate::server::{Open, Server};
use bytes::Bytes;
use krg_rpc::frame::Frame;
use krg_rpc::link::{Inbox, Link};
use krg_types::limits::FILE_OPENS_MAX;
use krg_types::mfs::Patience;
use local::Local;
use pending::{Found, Generation, Pending, Table};
use ring::rand::SecureRandom;
use road::State;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// What is read or written with more bytes goes over a connection of its own, so that a question
/// about a name does not wait for a megabyte.
const BULK_BYTES: usize = 32 << 10;
/// A node that is asked whether it is there has so long, seconds.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// Who waits for something else is looked after for so long at once.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// What a client tells its owner.
pub trait Events: Send + Sync + 'static {
    /// The server says that something has changed.
    fn notice(&self, notice: Notice);
    /// It is connected: to the server it was connected to before, or to one that has nothing of
    /// this client open.
    fn connected(&self, resumed: bool, root: Entry);
}

/// Who waits for an answer, as far as it matters here.
pub type Interrupted = Box<dyn Fn() -> bool + Send>;

/// One question.
pub struct Ask {
    /// For whom.
    pub caller: Caller,
    /// What.
    pub op: Op,
    /// How long it may take. Who waits for as long as it takes asks again then; not for what he
    /// gives less than a second.
    pub timeout: Duration,
    /// Has who waits been told to end?
    pub interrupted: Option<Interrupted>,
}

/// The client of one node's file server.
pub struct Client {
    /// That is this process itself.
    local: Option<Local>,
    patience: Patience,
    table: Table,
    state: Mutex<State>,
    /// Counts connections to servers that knew nothing of what was open.
    life: AtomicU64,
    next: AtomicU64,
    ticking: Mutex<bool>,
    tick: Condvar,
    events: Arc<dyn Events>,
    /// The number that this client has drawn.
    session: Mutex<u128>,
    /// What the server has said of the session when they last met.
    born: Mutex<Option<u64>>,
    generation: AtomicU64,
    /// What nobody waits for and the server has not heard.
    unsaid: Mutex<Vec<Op>>,
}

impl Client {
    /// Of the server that `route` leads to; it connects by itself, for as long as the client is
    /// held. Called within a tokio runtime.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start(
        route: Route,
        patience: Patience,
        events: Arc<dyn Events>,
    ) -> io::Result<Arc<Client>> {
        let client = Client::new(None, patience, State::Connecting, events);
        let weak = Arc::downgrade(&client);
        let watcher = std::thread::Builder::new().name("deadlines".into());
        watcher.spawn(move || watch::run(&weak))?;
        tokio::spawn(road::keep(Arc::downgrade(&client), route));
        Ok(client)
    }

    /// Of this node's own files: what is asked is done at once, by the thread that asks.
    ///
    /// # Errors
    /// When the root is gone.
    pub fn local(server: Arc<Server>, events: Arc<dyn Events>) -> io::Result<Arc<Client>> {
        let root = server.root()?;
        let local = Local::new(server, events.clone());
        let client = Client::new(Some(local), Patience::Soft, State::Down, events);
        client.events.connected(false, root);
        Ok(client)
    }

    fn new(
        local: Option<Local>,
        patience: Patience,
        state: State,
        events: Arc<dyn Events>,
    ) -> Arc<Client> {
        Arc::new(Client {
            local,
            patience,
            table: Table::default(),
            state: Mutex::new(state),
            life: AtomicU64::new(0),
            next: AtomicU64::new(1),
            ticking: Mutex::new(false),
            tick: Condvar::new(),
            events,
            session: Mutex::new(draw()),
            born: Mutex::default(),
            generation: AtomicU64::new(0),
            unsaid: Mutex::default(),
        })
    }

    /// Is the server in this process?
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// A file that is open on a server in this process.
    pub fn local_file(&self, open: OpenId) -> Option<Arc<Open>> {
        self.local.as_ref()?.file(open)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when what was open on the server is not any more.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Does the server answer, as far as is known?
    pub fn is_up(&self) -> bool {
        !matches!(*self.state(), State::Down | State::Gone)
    }

    /// Do questions wait for a server that does not answer?
    pub fn waits(&self) -> bool {
        self.patience.is_hard()
    }

    /// Is it connected, as far as is known?
    pub fn is_connected(&self) -> bool {
        matches!(*self.state(), State::Up(_)) || self.is_local()
    }

    /// Asks; `done` gets the answer.
    pub fn ask(&self, ask: Ask, data: &[&[u8]], done: Done) {
        let waits = self.patience.is_hard() && ask.timeout >= PROBE_MAX;
        self.ask_as(ask, data, waits, done);
    }

    fn ask_as(&self, ask: Ask, data: &[&[u8]], waits: bool, done: Done) {
        let Ask { caller, op, timeout, interrupted } = ask;
        if let Some(local) = &self.local {
            return done(local.perform(Request { caller, op, once: false }, data));
        }
        let bulk = is_bulk(&op, data);
        let once = waits && op.leaves_something();
        let Ok(head) = postcard::to_allocvec(&Request { caller, op, once }) else {
            return done(Err(libc::EINVAL));
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let head = Bytes::from(head);
        let mut pending = Pending { waits, ..Pending::new(done, timeout, interrupted) };
        let keep = |pending: &mut Pending| {
            let data = data.concat().into();
            pending.frame = Some(Frame { id, head: head.clone(), data });
        };
        if waits {
            keep(&mut pending);
        }
        let state = self.state();
        let link = match &*state {
            State::Gone => return self.refuse(state, pending),
            State::Down if !waits => return self.refuse(state, pending),
            State::Up(road) if road.is_doubted() && !waits => {
                return self.refuse(state, pending);
            }
            State::Up(road) if !road.is_doubted() => {
                Some((road.link(bulk).clone(), road.generation()))
            }
            _ => None,
        };
        if link.is_none() && !waits {
            keep(&mut pending);
        }
        pending.sent = link.as_ref().map(|(_, generation)| *generation);
        self.table.add(id, pending);
        drop(state);
        self.start_ticking();
        let Some((link, generation)) = link else { return };
        if link.send(id, &head, data).is_ok() {
            return;
        }
        // The link's end is being seen to; this question need not wait for that.
        if waits {
            self.table.unsend(id, generation);
            self.send_held();
        } else {
            self.settle(id, Err(libc::EHOSTDOWN));
        }
    }

    fn refuse(&self, state: MutexGuard<'_, State>, pending: Pending) {
        drop(state);
        (pending.done)(Err(libc::EHOSTDOWN));
    }

    /// Has `done` called if who waits for something else is told to end before `let_go` of the
    /// number.
    pub fn hold(&self, interrupted: Interrupted, done: Done) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // As long as it takes: that has deadlines of its own.
        let pending = Pending::new(done, HOLD_MAX, Some(interrupted));
        self.table.add(id, Pending { waits: true, ..pending });
        self.start_ticking();
        id
    }

    /// He need not wait any more.
    pub fn let_go(&self, held: u64) {
        drop(self.table.take(held));
    }

    /// Says something that nobody waits for; if it is not heard, again when there is a connection.
    pub fn tell(self: &Arc<Self>, op: Op) {
        let (client, said) = (Arc::downgrade(self), op.clone());
        let ask =
            Ask { caller: Caller::default(), op, timeout: PROBE_MAX * 5, interrupted: None };
        let done = move |reply: Reply| {
            if let (Err(libc::EHOSTDOWN), Some(client)) = (reply, client.upgrade()) {
                let mut unsaid = client.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
                if unsaid.len() < FILE_OPENS_MAX {
                    unsaid.push(said);
                }
            }
        };
        self.ask_as(ask, &[], false, Box::new(done));
    }

    fn take_unsaid(&self) -> Vec<Op> {
        std::mem::take(&mut *self.unsaid.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn session(&self) -> u128 {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has nothing more to do with what it has open: what the server may still be doing for it,
    /// it does in vain. Files are opened again when they are used.
    pub fn start_over(&self) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = draw();
        if let State::Up(road) = &*self.state() {
            road.close();
        }
    }

    /// Nobody waits any more for the answer to what was asked on these connections. That is said
    /// once, on the connection for small questions, and no answer is waited for.
    fn cancel(&self, question: u64, asked_on: Option<Generation>) {
        let state = self.state();
        let State::Up(road) = &*state else { return };
        if asked_on != Some(road.generation()) {
            return;
        }
        let (caller, op) = (Caller::default(), Op::Cancel { question });
        let Ok(head) = postcard::to_allocvec(&Request { caller, op, once: false }) else {
            return;
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // If it is not heard, the connections have ended, and with them what was asked on them.
        let _ = road.link(false).send(id, &head, &[]);
    }

    fn settle(&self, id: u64, result: Reply) {
        if let Some(pending) = self.table.take(id) {
            (pending.done)(result);
        }
    }

    /// A frame has come on these connections.
    fn received(self: &Arc<Self>, on: Generation, frame: Frame) -> Result<(), postcard::Error> {
        if frame.id == 0 {
            self.events.notice(postcard::from_bytes(&frame.head)?);
            return Ok(());
        }
        let mut answer: Answer = postcard::from_bytes(&frame.head)?;
        // Before it is known that the connections are still those: it is theirs then.
        set_life(&mut answer, self.life());
        match self.table.answered(frame.id, on) {
            Found::Waiting(pending) => (pending.done)(match answer {
                Answer::Failed(errno) => Err(sane(errno)),
                answer => Ok((answer, frame.data)),
            }),
            Found::AskedAgain => {}
            // Nobody waits any more: what was opened for them is not to stay open. Unless it was
            // answered on other connections too, and they have it.
            Found::Nobody => {
                let only = !self.waits() || on == self.generation.load(Ordering::Acquire);
                if let Some(open) = opened(&answer).filter(|_| only) {
                    self.tell(Op::Close { open, owner: None });
                }
            }
        }
        Ok(())
    }

    /// Something took longer than it may: nothing more is asked until the server has answered a
    /// question that takes no time.
    fn doubt(self: &Arc<Self>) {
        let State::Up(road) = &mut *self.state() else { return };
        if road.begin_doubt() {
            let request = Request { caller: Caller::default(), op: Op::Ping, once: false };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let link = road.link(false).clone();
            let (doubted, asked) = (road.doubted(), link.clone());
            let client = Arc::downgrade(self);
            let done: Done = Box::new(move |reply| match reply {
                Ok(_) => {
                    doubted.store(false, Ordering::Release);
                    client.upgrade().iter().for_each(|client| client.send_held());
                }
                Err(_) => {
                    tracing::info!(member = %asked.member(), "a file server is silent");
                    asked.close();
                }
            });
            let sent = Some(road.generation());
            self.table.add(id, Pending { sent, ..Pending::new(done, PROBE_MAX, None) });
            let head = postcard::to_allocvec(&request).unwrap_or_default();
            let _ = link.send(id, &head, &[]);
        }
    }
}

/// Numbers that are no errno (errno(3) ends at 4095) are EIO.
fn sane(errno: i32) -> i32 {
    if (1..4096).contains(&errno) { errno } else { libc::EIO }
}

fn is_bulk(op: &Op, data: &[&[u8]]) -> bool {
    match op {
        Op::Read { size, .. } => *size as usize > BULK_BYTES,
        _ => data.iter().map(|d| d.len()).sum::<usize>() > BULK_BYTES,
    }
}

fn opened(answer: &Answer) -> Option<OpenId> {
    match answer {
        Answer::Opened(opened) | Answer::Created { opened, .. } => Some(opened.open),
        Answer::Listed(listed) => listed.open,
        _ => None,
    }
}

/// In which life of the server something was opened.
fn set_life(answer: &mut Answer, life: u64) {
    match answer {
        Answer::Opened(opened) | Answer::Created { opened, .. } => opened.life = life,
        Answer::Listed(listed) => listed.life = life,
        _ => {}
    }
}

/// A number that nobody else draws.
fn draw() -> u128 {
    let mut bytes = [0; 16];
    // Without it the time has to do: two clients of one node are not that close.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = krg_sys::clock::boot_ns().to_le_bytes().repeat(2).try_into().unwrap_or(bytes);
    }
    u128::from_le_bytes(bytes)
}

/// Receives on one connection until it ends.
fn receive(
    client: &Weak<Client>,
    link: &Link,
    on: Generation,
    mut inbox: Inbox,
    early: Vec<Frame>,
) {
    let mut early = early.into_iter();
    loop {
        let frame = match early.next().map_or_else(|| link.receive(&mut inbox), Ok) {
            Ok(frame) => frame,
            Err(e) => {
                tracing::debug!(member = %link.member(), error = %e, "a link has ended");
                break;
            }
        };
        let Some(client) = client.upgrade() else { break };
        if client.received(on, frame).is_err() {
            tracing::warn!(member = %link.member(), "a malformed answer");
            break;
        }
    }
    link.close();
}

impl Client {
    /// The deadlines are looked after while anything waits.
    fn start_ticking(&self) {
        let mut ticking = self.ticking.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *ticking, true) {
            self.tick.notify_one();
        }
    }

    /// Asks the server for the root's attributes, and waits: for a start.
    ///
    /// # Errors
    /// The errno.
    pub fn ping(&self, timeout: Duration) -> Result<Attr, i32> {
        let (tx, rx) = std::sync::mpsc::channel();
        let ask = Ask { caller: Caller::default(), op: Op::Ping, timeout, interrupted: None };
        self.ask_as(ask, &[], false, Box::new(move |reply| drop(tx.send(reply))));
        match rx.recv() {
            Ok(Ok((Answer::Attr(attr), _))) => Ok(attr),
            Ok(Err(errno)) => Err(errno),
            _ => Err(libc::EPROTO),
        }
    }
}
