//! The holder of a job: the process that stays with it. At home it outlives the job's moves: it has
//! the files, pipes and terminals that the job was started with, and hands on what is read and
//! written. On another node it is there as long as the job is.

mod away;
mod ending;
mod info;
mod moving;
mod saving;

use crate::arrive::{Come, NotCome};
use crate::checkpoint::frost::Frost;
use crate::clients::{Clients, Said};
use crate::cluster::Cluster;
use crate::depart::Still;
use crate::flow::Chunk;
use crate::inside::{Inside, TERMINAL, Told};
use crate::job::Job;
use crate::link::Link;
use crate::outside::Outside;
use crate::place::Place;
use crate::report::{REPORT_BYTES, Report};
use krg_rpc::job::Received;
use krg_rpc::proto::job::{self as wire, Frame, Frozen, Unread, frame, from_job, to_job};
use krg_sys::process::{Signal, Usage, WindowSize};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// After its program's end, while something else has its terminal or pipes open.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Of what was written last, bytes that are kept for who comes later.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Where its processes are.
enum At {
    Here(Inside),
    /// It stands still: what would go in waits.
    Still(Inside, Vec<Unread>, Vec<Waits>),
    Away(u32),
    Gone,
}

/// What is said to a job while it stands still.
enum Waits {
    Channel(u32, Option<Chunk>),
    Signal(Signal),
    Size(wire::WindowSize),
}

/// What a holder is given.
pub struct Equipment {
    /// The other nodes.
    pub cluster: Arc<dyn Cluster>,
    /// For the places of jobs.
    pub dir: PathBuf,
    /// The program that is the hook too.
    pub program: PathBuf,
}

/// What happens.
enum Event {
    Comes(UnixStream),
    Said(u64, Said),
    Told(Told),
    /// From what the job was started with.
    Outside(u32, Option<Chunk>),
    /// It is to stand still.
    Still(Still),
    /// A move has ended.
    Moved(u64, u32, Result<wire::Moved, String>),
    /// It is back, or has not come, by the move of this name.
    Back(String, Result<Come, NotCome>),
    /// Of being saved or frozen.
    Kept(saving::Kept),
    /// From where it is.
    Link(LinkEvent),
    /// What was to come out of it after its end has not.
    Late,
    /// It is looked whether it has a home.
    Look,
    /// It has none any more.
    Homeless,
}

/// What the connection with where the job is brings.
pub enum LinkEvent {
    /// It is on this node: what is said goes this way.
    Up(u32, UnboundedSender<Frame>),
    /// This has come.
    Came(Frame),
    /// It is not there any more.
    Down,
    /// It is nowhere: why.
    Lost(String),
    /// It is agreed that it is here.
    Astray,
}

/// It.
pub struct Holder {
    equipment: Equipment,
    job: Job,
    at: At,
    /// At home: what it was started with. Away: its home is outside.
    outside: Option<Outside>,
    clients: Clients,
    starter: Option<u64>,
    background: bool,
    link: Link,
    /// To the other side, while there is a connection.
    linked: Option<Linked>,
    dialing: Option<JoinHandle<()>>,
    /// Messages of an arrival that goes on, by the move of this name.
    arriving: Option<(u64, String, mpsc::Sender<wire::Arrival>)>,
    is_moving: bool,
    /// How long the last move from here took it, us, and how many bytes it was.
    last_move: Option<(u64, u64)>,
    /// Why it has not moved when it was to do so last.
    refusal: String,
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
    said: UnboundedReceiver<(u64, Said)>,
    events: UnboundedReceiver<Event>,
    event: UnboundedSender<Event>,
    /// Its record may be there.
    is_recorded: bool,
    /// Channels on which more may come out of it.
    outs: HashSet<u32>,
    ended: Option<wire::Ended>,
    /// What its first process has said of the end.
    report: Vec<u8>,
    /// That is some time ago.
    is_late: bool,
    is_end_told: bool,
    /// Its first process has ended.
    is_over: bool,
    /// Nobody at home waits for what it says.
    is_homeless: bool,
    kept: Vec<u8>,
    place: Place,
    begun: Instant,
    /// It stands still because its user wants that.
    frost: Option<Frost>,
    /// What goes into it first.
    unread: Vec<Unread>,
    /// It was begun again from what was saved.
    restarted: Option<wire::Restarted>,
}

enum Linked {
    /// On this client's connection.
    Client(u64),
    /// That way.
    Call(UnboundedSender<Frame>),
}

/// Who has started a job.
pub struct Starter {
    /// Its connection.
    pub stream: UnixStream,
    /// Bytes of it that were read already.
    pub received: Received,
    /// Who it is.
    pub uid: u32,
    /// The job goes on without it.
    pub background: bool,
}

impl Holder {
    /// Of a job that runs here.
    ///
    /// # Errors
    /// When what is known of it cannot be noted in its place.
    pub fn new(
        equipment: Equipment,
        job: Job,
        inside: Inside,
        outside: Option<Outside>,
        place: Place,
    ) -> io::Result<Holder> {
        let init = inside.init_pid;
        Holder::at(equipment, job, At::Here(inside), init, outside, place)
    }

    fn at(
        equipment: Equipment,
        job: Job,
        at: At,
        init: u32,
        outside: Option<Outside>,
        place: Place,
    ) -> io::Result<Holder> {
        let (tell, told) = unbounded_channel();
        let (says, said) = unbounded_channel();
        let (event, events) = unbounded_channel();
        place.changed(&job, init)?;
        Ok(Holder {
            equipment,
            job,
            at,
            outside,
            clients: Clients::new(says),
            starter: None,
            background: false,
            link: Link::default(),
            linked: None,
            dialing: None,
            arriving: None,
            is_moving: false,
            last_move: None,
            refusal: String::new(),
            tell,
            told,
            said,
            events,
            event,
            is_recorded: false,
            outs: HashSet::new(),
            ended: None,
            report: Vec::new(),
            is_late: false,
            is_end_told: false,
            is_over: false,
            is_homeless: false,
            kept: Vec::new(),
            place,
            begun: Instant::now(),
            frost: None,
            unread: Vec::new(),
            restarted: None,
        })
    }

    /// For a job that was started here: until nothing of it is left.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn hold(mut self, starter: Starter) -> io::Result<()> {
        self.background = starter.background;
        let started = wire::Started { pid: self.job.id };
        let id = self.clients.add(starter.stream, starter.uid, starter.received);
        if let Some(id) = id {
            self.clients.watch(id);
            let told = match self.restarted.take() {
                Some(restarted) => from_job::What::Restarted(restarted),
                None => from_job::What::Started(started),
            };
            self.clients.tell(id, told);
        }
        self.starter = id;
        if let Some(outside) = &mut self.outside {
            let event = self.event.clone();
            outside.connect(move |channel, chunk| {
                let _ = event.send(Event::Outside(channel, chunk));
            })?;
        }
        let unread = std::mem::take(&mut self.unread);
        self.connect(unread)?;
        if matches!(self.at, At::Away(_)) {
            self.dial();
        }
        self.run().await
    }

    /// For a job that has come from another node: until nothing of it is here.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn hold_away(mut self, frozen: Frozen) -> io::Result<()> {
        let Frozen { unread, unsent, sent, received } = frozen;
        self.link = Link::resumed(sent, received, unsent);
        self.look_for_home();
        self.connect(unread)?;
        self.run().await
    }

    fn connect(&mut self, unread: Vec<Unread>) -> io::Result<()> {
        match &mut self.at {
            At::Here(inside) => {
                self.outs = inside.outs();
                inside.connect(&self.tell, unread)
            }
            _ => Ok(()),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let listener = self.place.listener()?;
        loop {
            let event = tokio::select! {
                // What the job says is in order before what others say of it.
                biased;
                Some(told) = self.told.recv() => Event::Told(told),
                Some((id, said)) = self.said.recv() => Event::Said(id, said),
                Some(event) = self.events.recv() => event,
                Ok((stream, _)) = listener.accept() => Event::Comes(stream),
            };
            match event {
                Event::Told(told) => self.hear_job(told),
                Event::Said(id, said) => self.hear_client(id, said).await,
                Event::Comes(stream) => self.greet(stream),
                Event::Outside(channel, chunk) => self.inward(channel, chunk),
                Event::Still(told) => {
                    let frozen = self.stand_still().await;
                    let _ = told.send(frozen);
                }
                Event::Moved(asker, to, result) => self.moved(asker, to, result).await?,
                Event::Back(trace, come) => self.back(&trace, come)?,
                Event::Kept(kept) => self.kept(kept)?,
                Event::Link(event) => self.hear_link(event),
                Event::Late => self.is_late = true,
                Event::Look => self.look_for_home(),
                Event::Homeless => self.end_homeless(),
            }
            self.end_when_all_is_told();
            let all_told = self.outside.is_some() || self.link.is_settled() || self.is_homeless;
            if matches!(self.at, At::Gone) && all_told {
                return self.finish().await;
            }
        }
    }

    /// What the job says.
    fn hear_job(&mut self, told: Told) {
        match told {
            Told::Out(channel, chunk) => self.outward(channel, chunk),
            Told::Deaf(channel) => self.deaf(channel),
            Told::Report(Some(report)) => self.report(&report),
            Told::Report(None) => {
                self.is_over = true;
            }
        }
    }

    fn outward(&mut self, channel: u32, chunk: Option<Chunk>) {
        if chunk.is_none() {
            self.outs.remove(&channel);
        }
        let Some(outside) = &mut self.outside else {
            let frame = match chunk {
                Some(chunk) => self.link.data(channel, chunk),
                None => self.link.say(frame::What::Closed(channel)),
            };
            return self.send(frame);
        };
        match chunk {
            Some(chunk) if outside.has(channel) => outside.push(channel, chunk),
            Some(chunk) => {
                self.kept.extend_from_slice(&chunk.bytes);
                let over = self.kept.len().saturating_sub(KEPT_BYTES_MAX);
                self.kept.drain(..over);
                self.clients.show(chunk);
            }
            None => outside.end(channel),
        }
    }

    /// The job reads nothing there any more.
    fn deaf(&mut self, channel: u32) {
        // Its end is closed here too: who reads there has come to the end.
        if let (At::Here(inside), 0) = (&mut self.at, channel) {
            inside.close(channel);
        }
        match &mut self.outside {
            Some(outside) => outside.close(channel),
            None if channel == 0 => {
                let frame = self.link.say(frame::What::Closed(channel));
                self.send(frame);
            }
            None => {}
        }
    }

    /// Its program has ended: that is told after what it has written.
    fn report(&mut self, report: &[u8; REPORT_BYTES]) {
        let Some(Report::Ended(status, usage)) = Report::read(report) else { return };
        self.ended = Some(ended(status, usage));
        self.report = report.to_vec();
        // What it has left running may have it open still.
        self.is_late = false;
        self.look_again(LAST_WORDS);
    }

    fn look_again(&self, after: Duration) {
        let event = self.event.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(tokio::time::Instant::now() + after).await;
            let _ = event.send(Event::Late);
        });
    }

    /// What the program has written last is written, and then its end is told; and when its first
    /// process has ended too, that is all.
    fn end_when_all_is_told(&mut self) {
        let At::Here(inside) = &self.at else { return };
        let all_read = self.outs.is_empty() || (self.is_late && inside.is_idle());
        let due = self.ended.is_some() && !self.is_end_told;
        if due && all_read && self.outside.is_some() && self.outs.is_empty() {
            self.end_outside();
        }
        let all_written = self.outside.as_ref().is_none_or(Outside::is_drained);
        if due && !(all_read && all_written) {
            if self.is_late {
                self.is_late = false;
                self.look_again(LAST_WORDS / 5);
            }
            return;
        }
        if due {
            self.is_end_told = true;
            match self.outside {
                Some(_) => self.tell_end(),
                None => {
                    let over = wire::Over { report: self.report.clone(), all: false };
                    let frame = self.link.say(frame::What::Over(over));
                    self.send(frame);
                }
            }
        }
        if self.is_over && self.outs.is_empty() {
            self.over();
        }
    }

    fn end_outside(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.end(1);
            outside.end(2);
        }
    }

    fn tell_end(&mut self) {
        let moved = self.job.moves > 0;
        if let Some(outside) = &mut self.outside {
            outside.put_positions(moved);
        }
        if let Some(ended) = &self.ended {
            self.clients.tell_all(&from_job::What::Ended(ended.clone()));
        }
    }

    /// Its first process has ended, and with it all of it.
    fn over(&mut self) {
        let At::Here(inside) = std::mem::replace(&mut self.at, At::Gone) else { return };
        let pid = inside.init_pid;
        let _ = inside.init.signal(Signal::SIGKILL);
        tokio::task::spawn_blocking(move || krg_sys::process::reap(pid));
        if self.outside.is_none() {
            let over = wire::Over { report: Vec::new(), all: true };
            let frame = self.link.say(frame::What::Over(over));
            self.send(frame);
        }
    }

    /// Into the job, wherever it is; `None`: nothing more comes in there, or nobody reads what it
    /// writes there.
    fn inward(&mut self, channel: u32, chunk: Option<Chunk>) {
        match (&mut self.at, chunk) {
            (At::Here(inside), Some(chunk)) => inside.push(channel, chunk),
            (At::Here(inside), None) if channel == 0 => inside.end(channel),
            (At::Here(inside), None) => {
                inside.close(channel);
                self.outs.remove(&channel);
            }
            (At::Still(_, _, waits), chunk) => waits.push(Waits::Channel(channel, chunk)),
            (At::Away(_), Some(chunk)) => {
                let frame = self.link.data(channel, chunk);
                self.send(frame);
            }
            (At::Away(_), None) => {
                let frame = self.link.say(frame::What::Closed(channel));
                self.send(frame);
            }
            (At::Gone, _) => {}
        }
    }

    fn greet(&mut self, stream: UnixStream) {
        let Ok(peer) = stream.peer_cred() else { return };
        if peer.uid() != 0 && peer.uid() != self.job.uid {
            return;
        }
        let _ = self.clients.add(stream, peer.uid(), Received::default());
    }

    async fn hear_client(&mut self, id: u64, said: Said) {
        match said {
            Said::Typed(chunk) => self.inward(TERMINAL, Some(chunk)),
            Said::Gone => self.client_is_gone(id),
            Said::Message(what) => self.obey(id, *what).await,
        }
    }

    fn client_is_gone(&mut self, id: u64) {
        self.clients.remove(id);
        if matches!(self.linked, Some(Linked::Client(linked)) if linked == id) {
            self.linked = None;
        }
        if let Some((from, _, says)) = &mut self.arriving
            && *from == id
        {
            // Nothing more is heard; what comes of it is not known yet.
            *says = mpsc::channel(1).0;
        }
        if self.starter == Some(id) {
            self.starter = None;
            // A job in the foreground is hung up on.
            if !self.background && self.ended.is_none() {
                self.signal(Signal::SIGHUP);
            }
        }
    }

    async fn obey(&mut self, id: u64, what: to_job::What) {
        let is_root = self.clients.uid(id) == Some(0);
        match what {
            to_job::What::Size(size) => self.resize(size),
            to_job::What::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    self.signal(signal);
                }
            }
            to_job::What::About(_) => self.clients.tell(id, from_job::What::Info(self.info())),
            to_job::What::Attach(attach) => self.attach(id, attach),
            to_job::What::Move(order) if is_root => self.leave(id, order).await,
            to_job::What::Save(order) if is_root => self.save(id, order),
            to_job::What::Freeze(order) if is_root => self.freeze(id, &order),
            to_job::What::Arrival(arrival) if is_root => self.hear_arrival(id, arrival).await,
            to_job::What::Frame(frame) if is_root => self.hear_home(id, frame),
            _ => self.clients.remove(id),
        }
    }

    fn attach(&mut self, id: u64, attach: wire::Attach) {
        self.clients.watch(id);
        let has_terminal = self.outside.as_ref().is_some_and(|outside| outside.has_terminal);
        self.clients.tell(id, from_job::What::Attached(wire::Attached { has_terminal }));
        if !self.kept.is_empty() {
            self.clients.tell(id, from_job::What::Output(self.kept.clone()));
        }
        if let Some(size) = attach.size {
            self.resize(size);
        }
        if let Some(ended) = &self.ended {
            self.clients.tell(id, from_job::What::Ended(ended.clone()));
        }
    }

    fn resize(&mut self, size: wire::WindowSize) {
        let number = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        match &mut self.at {
            At::Still(_, _, waits) => waits.push(Waits::Size(size)),
            At::Here(inside) => {
                if let Some(terminal) = inside.terminal() {
                    let _ =
                        terminal.resize(WindowSize::new(number(size.rows), number(size.columns)));
                }
            }
            At::Away(_) => {
                let size = wire::Size { rows: size.rows, columns: size.columns };
                let frame = self.link.say(frame::What::Size(size));
                self.send(frame);
            }
            At::Gone => {}
        }
    }

    fn signal(&mut self, signal: Signal) {
        match &mut self.at {
            At::Still(_, _, waits) => waits.push(Waits::Signal(signal)),
            At::Here(inside) => inside.signal(signal, self.job.program),
            At::Away(_) => {
                let frame = self.link.say(frame::What::Signal(signal as i32));
                self.send(frame);
            }
            At::Gone => {}
        }
    }
}

fn ended(status: i32, usage: Usage) -> wire::Ended {
    let exited = libc::WIFEXITED(status);
    wire::Ended {
        code: exited.then(|| libc::WEXITSTATUS(status)),
        signal: (!exited).then(|| libc::WTERMSIG(status)),
        core_dumped: !exited && libc::WCOREDUMP(status),
        user_us: usage.user_us,
        system_us: usage.system_us,
        max_rss_kib: usage.max_rss_kib,
        lost: String::new(),
    }
}
