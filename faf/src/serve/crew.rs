//! The threads of one connection. One of them has the seat at which requests are received. It gives
//! the seat away before it begins to work when more has come already, or when the work may take
//! long; else it comes back to the seat, because waking another thread takes longer than most of
//! what is asked. When it does not come back soon, the relief gives the seat to somebody else: no
//! request waits for the disk of another.

use super::spawn;
use crate::op::{Answer, Op, Request};
use crate::server::{Out, Server, Session, enter_thread};
use krg_rpc::frame::Frame;
use krg_rpc::link::{Inbox, Link};
use krg_types::limits::FILE_THREADS_PER_LINK_MAX;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::Duration;

/// Who is not back at the seat after so long may find somebody else there.
const PATIENCE: Duration = Duration::from_millis(2);
/// It looks so often whether it is still needed.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// After so many looks at which nobody had worked, the relief sleeps until somebody does.
const IDLE_LOOKS: u32 = 50;

/// The threads, and what they share.
pub(super) struct Crew {
    server: Arc<Server>,
    session: Arc<Session>,
    link: Arc<Link>,
    /// The small questions: who receives one does it himself. What has many bytes is handed over.
    small: bool,
    seat: Mutex<Seat>,
    free: Condvar,
    relief: OnceLock<Weak<Relief>>,
}

struct Seat {
    /// What has been received and not looked at; `None` while somebody receives.
    inbox: Option<Inbox>,
    /// Anybody may take it.
    open: bool,
    /// Counts who leaves it for a moment, and comes back.
    turns: u64,
    /// Threads that wait for it.
    waiting: usize,
    threads: usize,
    /// The connection has ended.
    over: bool,
}

impl Crew {
    /// Of a connection on which `inbox` has been received from; the calling thread belongs to it.
    pub(super) fn new(
        server: Arc<Server>,
        session: Arc<Session>,
        link: Arc<Link>,
        inbox: Inbox,
        small: bool,
    ) -> Arc<Crew> {
        let seat = Seat {
            inbox: Some(inbox),
            open: true,
            turns: 0,
            waiting: 0,
            threads: 1,
            over: false,
        };
        let (seat, free, relief) = (Mutex::new(seat), Condvar::new(), OnceLock::new());
        Arc::new(Crew { server, session, link, small, seat, free, relief })
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes requests until the connection ends.
    pub(super) fn work(self: &Arc<Self>) {
        if let Err(e) = enter_thread() {
            tracing::error!(error = %e, "a thread cannot serve files");
            self.link.close();
        }
        let (mut out, mut head) = (Out::default(), Vec::new());
        let mut seated = self.sit_down();
        while let Some(mut inbox) = seated {
            let Some(frame) = self.receive(&mut inbox) else { break };
            let Ok(request) = postcard::from_bytes::<Request>(&frame.head) else {
                tracing::warn!(member = %self.link.member(), "a malformed request");
                break;
            };
            // What lets go of something often comes with the next question, which need not be
            // somebody else's for that.
            let alone = request.op.lets_go() || !inbox.has_more();
            let returns = self.small && alone && !is_long(&request.op);
            if returns {
                self.leave(inbox);
            } else {
                self.give_away(inbox);
            }
            let done = self.answer(frame, request, &mut out, &mut head);
            if done.is_err() {
                break;
            }
            seated = returns.then(|| self.return_to()).flatten().or_else(|| self.sit_down());
        }
        self.link.close();
        self.seat().over = true;
        self.free.notify_all();
    }

    fn receive(&self, inbox: &mut Inbox) -> Option<Frame> {
        self.link.wait_for_room();
        self.link.receive(inbox).ok()
    }

    fn answer(
        &self,
        frame: Frame,
        request: Request,
        out: &mut Out,
        head: &mut Vec<u8>,
    ) -> io::Result<()> {
        let (server, session) = (&self.server, &self.session);
        let answer: Answer = server.answer(session, (frame.id, request), &frame.data, out);
        head.clear();
        let sent = postcard::to_extend(&answer, std::mem::take(head));
        *head = sent.map_err(io::Error::other)?;
        self.link.send(frame.id, head, &[out.bytes()])
    }

    /// Waits for the seat; `None` when the connection has ended.
    fn sit_down(&self) -> Option<Inbox> {
        let mut seat = self.seat();
        seat.waiting += 1;
        while !seat.over && (!seat.open || seat.inbox.is_none()) {
            seat = self.free.wait(seat).unwrap_or_else(PoisonError::into_inner);
        }
        seat.waiting -= 1;
        if seat.over {
            return None;
        }
        seat.open = false;
        seat.inbox.take()
    }

    /// Leaves the seat to whoever waits for it, or to a new thread.
    fn give_away(self: &Arc<Self>, inbox: Inbox) {
        let mut seat = self.seat();
        seat.inbox = Some(inbox);
        self.offer(seat);
    }

    fn offer(self: &Arc<Self>, mut seat: MutexGuard<'_, Seat>) {
        seat.open = true;
        if seat.waiting > 0 {
            drop(seat);
            return self.free.notify_one();
        }
        if seat.over || seat.threads >= FILE_THREADS_PER_LINK_MAX {
            return;
        }
        seat.threads += 1;
        drop(seat);
        let crew = self.clone();
        if spawn(move || crew.work()).is_err() {
            self.seat().threads -= 1;
        }
    }

    /// Leaves the seat for a moment.
    fn leave(&self, inbox: Inbox) {
        let mut seat = self.seat();
        seat.inbox = Some(inbox);
        seat.turns += 1;
        drop(seat);
        if let Some(relief) = self.relief.get().and_then(Weak::upgrade) {
            relief.wake();
        }
    }

    /// And comes back to it, unless it has been taken.
    fn return_to(&self) -> Option<Inbox> {
        let mut seat = self.seat();
        seat.open = false;
        seat.turns += 1;
        seat.inbox.take()
    }

    /// Is it left since `before`? Then it is somebody else's turn.
    fn relieve(self: &Arc<Self>, before: u64) -> u64 {
        let seat = self.seat();
        let turns = seat.turns;
        if turns == before && seat.inbox.is_some() && !seat.open {
            self.offer(seat);
        }
        turns
    }
}

/// May it take long, as is known beforehand?
fn is_long(op: &Op) -> bool {
    matches!(op, Op::Sync { .. } | Op::SyncDir { .. } | Op::Allocate { .. } | Op::Copy { .. })
}

/// Looks after the seats of all connections.
pub(super) struct Relief {
    crews: Mutex<Vec<(Weak<Crew>, u64)>>,
    awake: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Relief {
    /// On a thread of its own, for as long as it is held.
    pub(super) fn start() -> io::Result<Arc<Relief>> {
        let (crews, awake, thread) = <_>::default();
        let relief = Arc::new(Relief { crews, awake, thread });
        let weak = Arc::downgrade(&relief);
        let spawned =
            std::thread::Builder::new().name("relief".into()).spawn(move || run(&weak))?;
        *relief.thread.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(spawned.thread().clone());
        Ok(relief)
    }

    /// From now on looks after this one too.
    pub(super) fn look_after(self: &Arc<Self>, crew: &Arc<Crew>) {
        let _ = crew.relief.set(Arc::downgrade(self));
        let mut crews = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        crews.push((Arc::downgrade(crew), 0));
    }

    fn wake(&self) {
        if !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.iter().for_each(Thread::unpark);
        }
    }

    /// True if nobody has worked since the last look.
    fn look(&self) -> bool {
        let mut crews = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = true;
        crews.retain_mut(|(crew, before)| {
            let Some(crew) = crew.upgrade() else { return false };
            let turns = crew.relieve(*before);
            idle &= turns == *before;
            *before = turns;
            true
        });
        idle
    }
}

fn run(relief: &Weak<Relief>) {
    let mut idle = 0;
    while let Some(relief) = relief.upgrade() {
        idle = if relief.look() { idle + 1 } else { 0 };
        if idle < IDLE_LOOKS {
            std::thread::park_timeout(PATIENCE);
            continue;
        }
        relief.awake.store(false, Ordering::SeqCst);
        // Who left his seat before that has woken nobody.
        if relief.look() {
            std::thread::park_timeout(IDLE_MAX);
        }
        relief.awake.store(true, Ordering::SeqCst);
        idle = 0;
    }
}
