//! A job and its home that are on two nodes: what they say to each other.

use super::{At, Event, Holder, LinkEvent, Linked, ended};
use crate::plan::keep;
use crate::report::Report;
use krg_rpc::proto::job::{self as wire, Frame, frame, from_job};
use krg_sys::process::{Signal, Usage};
use std::time::Duration;

/// Between looks whether it has a home.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Holder {
    pub(super) fn send(&mut self, frame: Frame) {
        match &self.linked {
            Some(Linked::Client(id)) => self.clients.tell(*id, from_job::What::Frame(frame)),
            // It is sent again when there is another connection.
            Some(Linked::Call(call)) if call.send(frame).is_err() => self.linked = None,
            Some(Linked::Call(_)) | None => {}
        }
    }

    pub(super) fn hello(&self) -> Frame {
        let hello = wire::Hello { job: self.job.id, ..wire::Hello::default() };
        Frame { what: Some(frame::What::Hello(hello)), ..self.link.acknowledgement() }
    }

    /// The other side says how much it has: it gets the rest.
    pub(super) fn catch_up(&mut self, received: u64) {
        for frame in self.link.connected(received) {
            self.send(frame);
        }
    }

    /// From the home of this job, on a connection of krgd's.
    pub(super) fn hear_home(&mut self, id: u64, frame: Frame) {
        // What is said while it moves is for who has it then: it is said again.
        if matches!(self.at, At::Still(..)) {
            return;
        }
        if let Some(frame::What::Hello(_)) = &frame.what {
            self.linked = Some(Linked::Client(id));
            let hello = self.hello();
            self.send(hello);
            return self.catch_up(frame.received);
        }
        let is_new = frame.number > 0;
        if let Some(what) = self.link.came(frame) {
            self.apply(what);
        }
        if is_new {
            let acknowledgement = self.link.acknowledgement();
            self.send(acknowledgement);
        }
    }

    /// What its home says to the job.
    pub(super) fn apply(&mut self, what: frame::What) {
        match what {
            frame::What::Data(data) => self.inward(data.channel, Some(data.data.into())),
            frame::What::Closed(channel) => self.inward(channel, None),
            frame::What::Size(size) => {
                self.resize(wire::WindowSize { rows: size.rows, columns: size.columns });
            }
            frame::What::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    self.signal(signal);
                }
            }
            frame::What::Hello(_) | frame::What::Over(_) => {}
        }
    }

    /// From where the job is, to its home.
    pub(super) fn hear_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(node, call) => {
                if let At::Away(at) = &mut self.at {
                    *at = node;
                }
                self.linked = Some(Linked::Call(call));
                let hello = self.hello();
                self.send(hello);
            }
            LinkEvent::Down => self.linked = None,
            LinkEvent::Lost(why) => self.lost(why),
            LinkEvent::Astray if self.arriving.is_some() => {}
            LinkEvent::Astray => self.lost("it could not be brought back at home".into()),
            LinkEvent::Came(Frame { what: Some(frame::What::Hello(_)), received, .. }) => {
                self.catch_up(received);
            }
            LinkEvent::Came(frame) => {
                let is_new = frame.number > 0;
                if let Some(what) = self.link.came(frame) {
                    self.take_in(what);
                }
                if is_new {
                    let acknowledgement = self.link.acknowledgement();
                    self.send(acknowledgement);
                }
            }
        }
    }

    /// What the job says, where it is.
    pub(super) fn take_in(&mut self, what: frame::What) {
        match what {
            frame::What::Data(data) => self.outward(data.channel, Some(data.data.into())),
            frame::What::Closed(0) => self.deaf(0),
            frame::What::Closed(channel) => self.outward(channel, None),
            frame::What::Over(over) if over.all => self.at = At::Gone,
            frame::What::Over(over) => {
                if let Some(Report::Ended(status, usage)) = Report::read(&over.report) {
                    self.ended = Some(ended(status, usage));
                    self.end_outside();
                    self.tell_end();
                }
            }
            frame::What::Size(_) | frame::What::Signal(_) | frame::What::Hello(_) => {}
        }
    }

    pub(super) fn dial(&mut self) {
        let (cluster, event) = (self.equipment.cluster.clone(), self.event.clone());
        let job = self.job.id;
        let dialing = tokio::spawn(async move {
            crate::dial::follow(cluster, job, move |link| event.send(Event::Link(link)).is_ok())
                .await;
        });
        if let Some(old) = self.dialing.replace(dialing) {
            old.abort();
        }
    }

    /// It is nowhere any more, and nobody knows how its program has ended.
    pub(super) fn lost(&mut self, why: String) {
        if !matches!(self.at, At::Away(_)) {
            return;
        }
        tracing::error!(job = self.job.id, why, "it is lost");
        if let Some(dialing) = self.dialing.take() {
            dialing.abort();
        }
        self.at = At::Gone;
        if self.ended.is_none() {
            let killed = ended(libc::SIGKILL, Usage::default());
            self.ended = Some(wire::Ended { lost: why, ..killed });
            self.end_outside();
            self.tell_end();
        }
    }

    /// Away: while nobody at home is heard it is asked from time to time whether there is anybody.
    pub(super) fn look_for_home(&mut self) {
        let is_alone = self.linked.is_none() && !self.is_moving;
        let (cluster, event) = (self.equipment.cluster.clone(), self.event.clone());
        let job = self.job.id;
        tokio::spawn(async move {
            if is_alone
                && let Ok((record, _)) = cluster.record(job).await
                && keep::guest_ends(record.as_ref(), cluster.own())
            {
                let _ = event.send(Event::Homeless);
            }
            tokio::time::sleep_until(tokio::time::Instant::now() + LOOK_AGAIN).await;
            let _ = event.send(Event::Look);
        });
    }

    /// What it was started with is gone: it ends.
    pub(super) fn end_homeless(&mut self) {
        // A move that has begun meanwhile ends by the record.
        if self.is_moving || self.is_homeless {
            return;
        }
        tracing::error!(job = self.job.id, "its home has ended it");
        self.is_homeless = true;
        if let At::Here(inside) = &self.at {
            let _ = inside.init.signal(Signal::SIGKILL);
        }
    }
}
