//! A job that is saved, frozen, and let go on.

use super::{At, Equipment, Event, Holder};
use crate::checkpoint::frost::Frost;
use crate::checkpoint::save::{self, Saving, stop};
use crate::checkpoint::shelf::USUAL;
use crate::depart::Still;
use crate::job::Job;
use crate::outside::Outside;
use crate::place::Place;
use krg_rpc::proto::job::{self as wire, from_job};
use krg_sys::process::Signal;
use krg_types::version::understood;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// What happens to a job that is saved or frozen.
pub enum Kept {
    /// It is saved, or not; what was stopped for it, and the signal for that.
    Saved(u64, Result<wire::Saved, String>, Option<(Frost, Signal)>),
    /// It goes on, while what was taken of it is written.
    GoesOn,
    /// It is frozen.
    Froze(u64, Frost),
}

fn refused(why: &str) -> from_job::What {
    from_job::What::Refused(wire::Refused { why: why.into(), errno: libc::EAGAIN })
}

impl Holder {
    /// Why nothing can be done with it now.
    fn busy(&self) -> Option<&'static str> {
        match (&self.at, self.is_moving, &self.ended) {
            (At::Here(_), false, None) => None,
            (_, true, _) => Some("it is being moved or saved already"),
            (_, _, Some(_)) => Some("its program has ended"),
            _ => Some("it is not here"),
        }
    }

    pub(super) fn save(&mut self, asker: u64, mut order: wire::Save) {
        if let Some(why) = self.busy() {
            return self.clients.tell(asker, refused(why));
        }
        let At::Here(inside) = &self.at else { return };
        let signal = match order.signal {
            0 => None,
            number => match Signal::try_from(number) {
                Ok(signal) => Some(signal),
                Err(_) => return self.clients.tell(asker, refused("there is no such signal")),
            },
        };
        if !understood(order.version) {
            return self.clients.tell(asker, refused("krgd is of another version"));
        }
        if order.only_frozen && self.frost.is_none() {
            return self.clients.tell(asker, refused("it is not frozen"));
        }
        if order.dir.is_empty() {
            order.dir = USUAL.into();
        }
        let ends = match inside.told() {
            Ok(ends) => ends,
            Err(e) => return self.clients.tell(asker, refused(&e.to_string())),
        };
        let saving = Saving {
            job: self.job.clone(),
            own: self.equipment.cluster.own(),
            cluster: String::new(),
            init: inside.init_pid,
            ends,
            names: inside.names(),
            report: inside.report_name.clone(),
            dir: self.place.criu_dir(&order.trace),
            program: self.equipment.program.clone(),
            order,
            stopped: self.frost.as_ref().map(Frost::numbers).unwrap_or_default(),
            halted: Vec::new(),
        };
        self.is_moving = true;
        self.begin_to_save(asker, saving, signal);
    }

    fn begin_to_save(&self, asker: u64, mut saving: Saving, signal: Option<Signal>) {
        let (cluster, event) = (self.equipment.cluster.clone(), self.event.clone());
        tokio::spawn(async move {
            let (still, mut asked) = mpsc::channel::<Still>(1);
            let (goes_on, went_on) = oneshot::channel();
            let asking = event.clone();
            let told = tokio::spawn(async move {
                while let Some(told) = asked.recv().await {
                    let _ = asking.send(Event::Still(told));
                }
                let _ = went_on.await;
                let _ = asking.send(Event::Kept(Kept::GoesOn));
            });
            let stopped = match signal {
                Some(signal) => Some((stop(saving.init).await, signal)),
                None => None,
            };
            if let Some((frost, _)) = &stopped {
                saving.stopped.extend(frost.numbers());
            }
            saving.halted = Frost::halted(saving.init, &saving.stopped);
            let dir = saving.dir.clone();
            let saved = match cluster.name().await {
                Ok(name) => {
                    saving.cluster = name;
                    save::save(saving, still, goes_on).await
                }
                Err(e) => Err(e.to_string()),
            };
            let _ = std::fs::remove_dir_all(&dir);
            let _ = told.await;
            let _ = event.send(Event::Kept(Kept::Saved(asker, saved, stopped)));
        });
    }

    pub(super) fn freeze(&mut self, asker: u64, order: &wire::Freeze) {
        if !understood(order.version) {
            return self.clients.tell(asker, refused("krgd is of another version"));
        }
        if let Some(why) = self.busy() {
            return self.clients.tell(asker, refused(why));
        }
        let At::Here(inside) = &self.at else { return };
        if order.thaw {
            let signal = match order.signal {
                0 => None,
                number => Signal::try_from(number).ok(),
            };
            let Some(frost) = self.frost.take() else {
                return self.clients.tell(asker, refused("it is not frozen"));
            };
            frost.thaw(signal);
            return self.clients.tell(asker, self.froze(false));
        }
        if self.frost.is_some() {
            return self.clients.tell(asker, refused("it is frozen already"));
        }
        self.is_moving = true;
        let (init, event) = (inside.init_pid, self.event.clone());
        tokio::spawn(async move {
            let frost = stop(init).await;
            let _ = event.send(Event::Kept(Kept::Froze(asker, frost)));
        });
    }

    fn froze(&self, frozen: bool) -> from_job::What {
        from_job::What::FreezeDone(wire::FreezeDone { app: self.job.id, frozen })
    }

    pub(super) fn kept(&mut self, kept: Kept) -> io::Result<()> {
        match kept {
            Kept::GoesOn => return self.go_on(),
            Kept::Froze(asker, frost) => {
                self.is_moving = false;
                self.frost = Some(frost);
                self.clients.tell(asker, self.froze(true));
            }
            Kept::Saved(asker, saved, stopped) => {
                self.is_moving = false;
                if let Some((frost, signal)) = stopped {
                    // With those that were frozen before: they are to hear of it too.
                    let (frost, signal) = match &saved {
                        Ok(_) => (self.frost.take().unwrap_or_default().and(frost), Some(signal)),
                        Err(_) => (frost, None),
                    };
                    frost.thaw(signal);
                }
                let told = match saved {
                    Ok(saved) => from_job::What::Saved(saved),
                    Err(why) => refused(&why),
                };
                self.clients.tell(asker, told);
            }
        }
        Ok(())
    }

    /// It stood still, and is where it was.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        let (unread, waits) = match std::mem::replace(&mut self.at, At::Gone) {
            At::Still(inside, unread, waits) => {
                self.at = At::Here(inside);
                (unread, waits)
            }
            // It never stood still.
            at => {
                self.at = at;
                return Ok(());
            }
        };
        self.connect(unread)?;
        self.say(waits);
        // What its home has said meanwhile was not taken.
        let hello = self.hello();
        self.send(hello);
        Ok(())
    }

    /// Of a job whose home this is, and which has begun on another node.
    ///
    /// # Errors
    /// When it has no place.
    pub fn away(
        equipment: Equipment,
        job: Job,
        node: u32,
        outside: Outside,
        place: Place,
    ) -> io::Result<Holder> {
        let mut holder = Holder::at(equipment, job, At::Away(node), 0, Some(outside), place)?;
        holder.is_recorded = true;
        Ok(holder)
    }

    /// It was begun again, and does not run before it is told to.
    pub fn frozen(mut self, frost: Option<Frost>) -> Holder {
        self.frost = frost;
        self
    }

    /// Was begun again: what was on its way into it goes in first.
    pub fn with_unread(mut self, unread: Vec<wire::Unread>) -> Holder {
        self.unread = unread;
        self
    }

    /// Tells who has started it that it was begun again, rather than that it was started.
    pub fn restarted(mut self, restarted: wire::Restarted) -> Holder {
        self.restarted = Some(restarted);
        self
    }
}
