//! A job that leaves this node, and one that comes home.

use super::{At, Event, Holder, Waits};
use crate::arrive::{self, Come, Ground, NotCome, Other};
use crate::depart::{Departure, Still, depart};
use crate::inside::Stopped;
use crate::link::Link;
use crate::outlook::Outlook;
use crate::root;
use krg_rpc::proto::job::{self as wire, Frozen, from_job};
use std::io;
use tokio::sync::mpsc;

impl Holder {
    pub(super) async fn leave(&mut self, asker: u64, order: wire::Move) {
        let refused = |why: &str| {
            from_job::What::Refused(wire::Refused { why: why.into(), errno: libc::EAGAIN })
        };
        let At::Here(inside) = &self.at else {
            return self.clients.tell(asker, refused("it is not here"));
        };
        if self.is_moving {
            return self.clients.tell(asker, refused("it is being moved already"));
        }
        if self.ended.is_some() {
            return self.clients.tell(asker, refused("its program has ended"));
        }
        if order.dry_run && order.only_where {
            return self.clients.tell(asker, from_job::What::Moved(self.whereabouts()));
        }
        if self.frost.is_some() && !order.dry_run {
            let why = "it is frozen (krg checkpoint --unfreeze has it go on)";
            return self.clients.tell(asker, refused(why));
        }
        if order.node == self.equipment.cluster.own() && !order.anywhere {
            return self.clients.tell(asker, refused("it is there already"));
        }
        let told = match inside.told() {
            Ok(told) => told,
            Err(e) => return self.clients.tell(asker, refused(&e.to_string())),
        };
        let (names, init, report) = (inside.names(), inside.init_pid, inside.report_name.clone());
        let cluster = self.equipment.cluster.clone();
        let away = self.outside.is_none();
        let outlook =
            Outlook { init, names: names.clone(), away, home: self.job.home, to: order.node };
        if order.dry_run {
            return self.foretell(asker, outlook, order.anywhere);
        }
        (self.is_moving, self.is_recorded) = (true, true);
        self.refusal.clear();
        let mut job = self.job.clone();
        job.moves += 1;
        let event = self.event.clone();
        let (dir, program) = (self.place.criu_dir(&order.trace), self.equipment.program.clone());
        tokio::spawn(async move {
            let (still, mut asked) = mpsc::channel::<Still>(1);
            let asking = event.clone();
            tokio::spawn(async move {
                while let Some(told) = asked.recv().await {
                    let _ = asking.send(Event::Still(told));
                }
            });
            let moved = async {
                let words = |e: io::Error| e.to_string();
                let look = outlook.look(&cluster, false).await?;
                if !look.obstacles.is_empty() {
                    return Err(look.obstacles.join("; "));
                }
                let record = cluster.record(job.id).await.map_err(words)?;
                let name = cluster.name().await.map_err(words)?;
                let mut begin = job.told(name, cluster.own(), &order.trace);
                (begin.ends, begin.report) = (told, report);
                begin.paths = look.paths.into_iter().collect();
                let to = order.node;
                let leaving =
                    Departure { begin, to, init, names, dir: dir.clone(), program, record };
                depart(leaving, &cluster, still).await
            };
            let moved = moved.await;
            let _ = std::fs::remove_dir_all(&dir);
            let _ = event.send(Event::Moved(asker, order.node, moved));
        });
    }

    /// Nothing of it is touched.
    fn foretell(&self, asker: u64, outlook: Outlook, anywhere: bool) {
        let (tell, here) = (self.clients.teller(asker), self.whereabouts());
        let (cluster, last) = (self.equipment.cluster.clone(), self.last_move);
        tokio::spawn(async move {
            tell(match outlook.look(&cluster, anywhere).await {
                Ok(look) => from_job::What::Moved(look.foretold(here, last)),
                Err(why) => from_job::What::Refused(wire::Refused { why, errno: libc::EIO }),
            });
        });
    }

    fn whereabouts(&self) -> wire::Moved {
        let (node, home, moves) = (self.equipment.cluster.own(), self.job.home, self.job.moves);
        wire::Moved { node, home, moves, ..wire::Moved::default() }
    }

    /// Everything that has been told is handed on, and what is on its way is taken back.
    pub(super) async fn stand_still(&mut self) -> io::Result<Frozen> {
        let At::Here(mut inside) = std::mem::replace(&mut self.at, At::Gone) else {
            return Err(io::Error::other("it is not here"));
        };
        let stopped = inside.stop().await;
        self.at = At::Still(inside, Vec::new(), Vec::new());
        let Stopped { unread, written } = stopped?;
        while let Ok(told) = self.told.try_recv() {
            self.hear_job(told);
        }
        for (channel, bytes) in written.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            self.outward(channel, Some(bytes.into()));
        }
        if let At::Still(_, kept, _) = &mut self.at {
            kept.clone_from(&unread);
        }
        if self.ended.is_some() {
            return Err(io::Error::other("its program has ended"));
        }
        let (sent, received, unsent) = match self.outside {
            Some(_) => (0, 0, Vec::new()),
            None => self.link.state(),
        };
        Ok(Frozen { unread, unsent, sent, received })
    }

    pub(super) async fn moved(
        &mut self,
        asker: u64,
        to: u32,
        result: Result<wire::Moved, String>,
    ) -> io::Result<()> {
        self.is_moving = false;
        match result {
            Ok(moved) => {
                self.job.moves += 1;
                self.place.changed(&self.job, 0)?;
                self.last_move = Some((moved.frozen_us, moved.image_bytes));
                self.clients.tell(asker, from_job::What::Moved(moved));
                let _ =
                    krg_sys::mount::umount_detach(&std::path::Path::new(root::ROOT).join("proc"));
                let At::Still(_, _, waits) = std::mem::replace(&mut self.at, At::Gone) else {
                    return Ok(());
                };
                if self.outside.is_none() {
                    // What its home has not acknowledged went with it.
                    self.link = Link::default();
                    return Ok(());
                }
                self.at = At::Away(to);
                self.link = Link::default();
                self.dial();
                self.say(waits);
            }
            Err(why) => {
                self.refusal.clone_from(&why);
                let why = from_job::What::Refused(wire::Refused { why, errno: libc::EAGAIN });
                self.clients.tell(asker, why);
                self.go_on()?;
            }
        }
        Ok(())
    }

    /// What was said while it stood still.
    pub(super) fn say(&mut self, waits: Vec<Waits>) {
        for said in waits {
            match said {
                Waits::Channel(channel, chunk) => self.inward(channel, chunk),
                Waits::Signal(signal) => self.signal(signal),
                Waits::Size(size) => self.resize(size),
            }
        }
    }

    /// It comes home.
    pub(super) async fn hear_arrival(&mut self, id: u64, arrival: wire::Arrival) {
        if let Some((from, _, says)) = &self.arriving
            && *from == id
        {
            let _ = says.send(arrival).await;
            return;
        }
        let Some(wire::arrival::What::Begin(begin)) = arrival.what else { return };
        if self.arriving.is_some() || !matches!(self.at, At::Away(_)) || begin.job != self.job.id
        {
            let failed = wire::arrived::What::Failed("it is not away".into());
            let failed = wire::Arrived { what: Some(failed) };
            return self.clients.tell(id, from_job::What::Arrived(failed));
        }
        let (says, heard) = mpsc::channel(16);
        let (hears, mut answers) = mpsc::channel::<wire::Arrived>(4);
        self.arriving = Some((id, begin.trace.clone(), says));
        let tell = self.clients.teller(id);
        tokio::spawn(async move {
            while let Some(answer) = answers.recv().await {
                tell(from_job::What::Arrived(answer));
            }
        });
        let (equipment, event) = (&self.equipment, self.event.clone());
        let (cluster, program) = (equipment.cluster.clone(), equipment.program.clone());
        let ground = Ground { cluster, places: equipment.dir.clone(), program };
        tokio::spawn(async move {
            let mut other = Other { says: heard, hears };
            let trace = begin.trace.clone();
            let come = arrive::arrive(begin, &mut other, ground).await;
            let _ = event.send(Event::Back(trace, come));
        });
    }

    pub(super) fn back(&mut self, trace: &str, come: Result<Come, NotCome>) -> io::Result<()> {
        if self.arriving.as_ref().is_some_and(|(_, arriving, _)| arriving == trace) {
            self.arriving = None;
        }
        let Come { job, inside, frozen, scratch } = match come {
            Ok(come) => come,
            Err(NotCome { why, is_lost }) => {
                tracing::warn!(job = self.job.id, why, "it has not come home");
                if is_lost {
                    self.lost(format!("it could not be brought back at home: {why}"));
                }
                return Ok(());
            }
        };
        self.job.moves = job.moves;
        if let Some(dialing) = self.dialing.take() {
            dialing.abort();
        }
        self.linked = None;
        // What the other side had not handed on, and what of ours it had not received.
        for frame in frozen.unsent {
            if let Some(what) = self.link.came(frame) {
                self.take_in(what);
            }
        }
        let ours = self.link.connected(frozen.received);
        self.place.changed(&self.job, inside.init_pid)?;
        drop(scratch);
        self.at = At::Here(inside);
        self.connect(frozen.unread)?;
        for what in ours.into_iter().filter_map(|frame| frame.what) {
            self.apply(what);
        }
        self.link = Link::default();
        Ok(())
    }
}
