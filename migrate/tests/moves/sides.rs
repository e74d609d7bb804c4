//! What holders do: each step of the plans, in the simulated cluster.

use super::world::{Copy, HOME, Holder, Message, Mutation, Side, State, Stream, World};
use krg_migrate::cluster::Record;
use krg_migrate::plan::keep::guest_ends;
use krg_migrate::plan::source::{Source, Step as Leave};
use krg_migrate::plan::target::{Step as Come, Target};
use krg_migrate::plan::{Event, Move, Wrote};

impl World {
    /// The holder on a node does the next thing, if there is one.
    pub fn act(&mut self, node: u32) {
        let Some(holder) = self.node(node).holder.take() else { return };
        let mut holder = holder;
        if holder.paused {
            self.node(node).holder = Some(holder);
            return;
        }
        if let Some(mut side) = holder.source.take() {
            // Its own place is taken while it acts.
            self.node(node).holder = Some(holder);
            let event = self.leave(node, &mut side);
            if let Some(event) = event {
                self.say(format!("{node} leaves: {:?} {event:?}", side.plan.step()));
                side.plan.hear(event);
                side.begun = false;
            }
            self.left(node, side);
        } else if let Some(mut side) = holder.target.take() {
            self.node(node).holder = Some(holder);
            let event = self.come(node, &mut side);
            if let Some(event) = event {
                self.say(format!("{node} takes: {:?} {event:?}", side.plan.step()));
                side.plan.hear(event);
                side.begun = false;
            }
            self.taken(node, side);
        } else {
            self.node(node).holder = Some(holder);
            self.look(node);
        }
    }

    fn left(&mut self, node: u32, side: Side<Source>) {
        let over = side.plan.is_over();
        let step = side.plan.step();
        let slot = self.node(node);
        let Some(holder) = &mut slot.holder else { return };
        if !over {
            holder.source = Some(side);
            return;
        }
        let stream = side.stream;
        match (step, node) {
            (Leave::Moved, HOME) => holder.away = true,
            (Leave::Moved | Leave::Lost, _) => slot.holder = None,
            _ => {}
        }
        self.break_stream(stream);
    }

    fn taken(&mut self, node: u32, side: Side<Target>) {
        let over = side.plan.is_over();
        let step = side.plan.step();
        let slot = self.node(node);
        let Some(holder) = &mut slot.holder else { return };
        if !over {
            holder.target = Some(side);
            return;
        }
        let stream = side.stream;
        match (step, node) {
            (Come::Runs, _) => holder.away = false,
            (Come::Lost, HOME) => {
                (slot.copy, slot.holder) = (None, None);
                self.told_lost = true;
            }
            (_, HOME) => {}
            _ => (slot.copy, slot.holder) = (None, None),
        }
        self.break_stream(stream);
    }

    /// While nothing moves: is there still a home, is there still a job?
    fn look(&mut self, node: u32) {
        if !self.reaches_record(node) {
            return;
        }
        let record = self.record.clone();
        let is_away = self.nodes[node as usize].holder.as_ref().is_some_and(|h| h.away);
        if node == HOME {
            let gone = |record: Record| record.lost.is_some() || record.holder == HOME;
            if is_away && record.is_some_and(gone) {
                self.told_lost = true;
                self.node(HOME).holder = None;
            }
            return;
        }
        let has_home = self.nodes[HOME as usize].holder.is_some() && self.reaches(HOME, node);
        let stays = self.mutation == Mutation::StayHomeless;
        if !has_home && guest_ends(record.as_ref(), node) && !stays {
            let slot = self.node(node);
            (slot.copy, slot.holder) = (None, None);
            self.say(format!("{node} is homeless"));
        }
    }

    /// Has a job that is here and does not move leave.
    pub fn order(&mut self, node: u32, to: u32) {
        let Some(holder) = &self.nodes[node as usize].holder else { return };
        let busy = holder.source.is_some() || holder.target.is_some() || holder.away;
        if busy || node == to || !self.reaches_record(node) {
            return;
        }
        let Some(record) = self.record.clone() else {
            let first = Record { home: HOME, holder: node, ..Record::default() };
            if node == HOME {
                self.ask_write(Some(first), 0);
            }
            return;
        };
        if record.lost.is_some() || record.holder != node {
            return;
        }
        self.moves += 1;
        let this = Move {
            home: HOME,
            from: node,
            to,
            moves: record.moves + 1,
            trace: format!("t{}", self.moves),
            revision: self.revision,
        };
        self.say(format!("{node} -> {to}: {this:?}"));
        self.streams.push(Stream::default());
        let stream = self.streams.len() - 1;
        let side = side(Source::default(), this, stream);
        if let Some(holder) = &mut self.node(node).holder {
            holder.source = Some(side);
        }
    }

    fn arrive(&mut self, from: u32, side_of: &Side<Source>) -> bool {
        let to = side_of.this.to;
        if !self.reaches(from, to) {
            return false;
        }
        let target = side(Target::default(), side_of.this.clone(), side_of.stream);
        let slot = self.node(to);
        match (&mut slot.holder, to) {
            (Some(home), HOME) if home.away && home.target.is_none() => {
                home.target = Some(target)
            }
            (None, to) if to != HOME => {
                let (paused, away) = (false, true);
                slot.holder = Some(Holder { paused, away, source: None, target: Some(target) });
            }
            _ => return false,
        }
        true
    }

    fn leave(&mut self, node: u32, side: &mut Side<Source>) -> Option<Event> {
        let state = self.nodes[node as usize].copy.map(|copy| copy.state);
        let of = |ok: bool| Some(if ok { Event::Done } else { Event::Failed });
        match side.plan.step() {
            Leave::Announce => {
                if !std::mem::replace(&mut side.begun, true) && !self.arrive(node, side) {
                    return Some(Event::Failed);
                }
                self.hear_target(side, Message::Ready)
            }
            Leave::Dump => {
                let ok = state == Some(State::Running) && !self.chance.mishap(10);
                let copy = self.node(node).copy.as_mut().filter(|_| ok);
                if let Some(copy) = copy {
                    copy.state = State::Held(false);
                    side.image = copy.memory;
                }
                of(ok)
            }
            Leave::Fence => {
                let ok = state == Some(State::Held(false));
                let stopped = self.mutation != Mutation::NoFence;
                if ok {
                    self.set(node, State::Held(stopped));
                }
                of(ok)
            }
            Leave::TakeBack => of(!self.chance.mishap(5)),
            Leave::Send => {
                let stream = &mut self.streams[side.stream];
                if !stream.broken {
                    stream.to_target.push_back(Message::Frozen(side.image));
                }
                of(!self.chance.mishap(10))
            }
            Leave::Hear => self.hear_target(side, Message::Prepared),
            Leave::Commit => self.write(node, side, Some(side.this.committed()), None),
            Leave::Undo if self.mutation == Mutation::ResumeUnwritten => {
                Some(Event::Wrote(Wrote::Yes))
            }
            Leave::Undo => self.write(node, side, Some(side.this.undone()), None),
            Leave::Ask => self.read(node, side),
            Leave::LetGo => {
                if matches!(state, Some(State::Held(_) | State::Stopped)) {
                    self.set(node, State::Running);
                }
                of(true)
            }
            Leave::End | Leave::Lose => {
                self.node(node).copy = None;
                of(true)
            }
            Leave::SayGo => {
                self.streams[side.stream].to_target.push_back(Message::Go);
                of(true)
            }
            Leave::Moved | Leave::Stayed | Leave::Lost => None,
        }
    }

    fn come(&mut self, node: u32, side: &mut Side<Target>) -> Option<Event> {
        let state = self.nodes[node as usize].copy.map(|copy| copy.state);
        let of = |ok: bool| Some(if ok { Event::Done } else { Event::Failed });
        match side.plan.step() {
            Come::Prepare => {
                let ok = !self.chance.mishap(10);
                let word = if ok { Message::Ready } else { Message::Failed };
                self.streams[side.stream].to_source.push_back(word);
                of(ok)
            }
            Come::Receive => match self.hear_source(side)? {
                Some(Message::Frozen(image)) => {
                    side.image = image;
                    of(true)
                }
                _ => of(false),
            },
            Come::Restore => {
                let ok = state.is_none() && !self.chance.mishap(10);
                if ok {
                    let (state, memory) = (State::Restored(true), side.image);
                    self.node(node).copy = Some(Copy { state, memory });
                }
                of(ok)
            }
            Come::Hear | Come::Claim if state == Some(State::Restored(false)) => {
                Some(Event::Died)
            }
            Come::Hear => {
                if !std::mem::replace(&mut side.begun, true) {
                    self.streams[side.stream].to_source.push_back(Message::Prepared);
                }
                if self.mutation == Mutation::RunBeforeGo {
                    return of(true);
                }
                let heard = self.hear_source(side)?;
                of(heard == Some(Message::Go))
            }
            Come::Ask => self.read(node, side),
            Come::Claim => {
                let any = self.mutation == Mutation::ClaimAnyRevision;
                let revision = any.then_some(self.revision);
                self.write(node, side, Some(side.this.committed()), revision)
            }
            Come::Release => {
                let ok = state == Some(State::Restored(true));
                if ok {
                    self.set(node, State::Running);
                }
                of(ok)
            }
            Come::Refuse => {
                if matches!(state, Some(State::Restored(_))) {
                    self.node(node).copy = None;
                }
                self.streams[side.stream].to_source.push_back(Message::Failed);
                of(true)
            }
            Come::Runs | Come::NotCome | Come::Lost => None,
        }
    }

    fn set(&mut self, node: u32, state: State) {
        if let Some(copy) = &mut self.node(node).copy {
            copy.state = state;
        }
    }

    /// `None`: it is waited for.
    fn hear_target(&mut self, side: &Side<Source>, wanted: Message) -> Option<Event> {
        let stream = &mut self.streams[side.stream];
        match stream.to_source.pop_front() {
            Some(message) if message == wanted => Some(Event::Done),
            Some(_) => Some(Event::Failed),
            None if stream.broken => Some(Event::Failed),
            None => self.chance.mishap(3).then_some(Event::Failed),
        }
    }

    /// `None`: it is waited for; `Some(None)`: nothing comes.
    fn hear_source(&mut self, side: &Side<Target>) -> Option<Option<Message>> {
        let stream = &mut self.streams[side.stream];
        match stream.to_target.pop_front() {
            Some(message) => Some(Some(message)),
            None if stream.broken => Some(None),
            None => self.chance.mishap(3).then_some(None),
        }
    }

    fn write<P>(
        &mut self,
        node: u32,
        side: &mut Side<P>,
        record: Option<Record>,
        revision: Option<u64>,
    ) -> Option<Event> {
        let Some(id) = side.write else {
            if !self.nodes[node as usize].up || !self.nodes[node as usize].krgd {
                return Some(Event::Wrote(Wrote::Unknown));
            }
            let revision = revision.unwrap_or(side.this.revision);
            side.write = Some(self.ask_write(record, revision));
            return None;
        };
        let asked = self.writes.iter().find(|write| write.id == id).map(|write| write.held);
        let wrote = match asked {
            Some(Some(_)) if self.chance.mishap(20) => Wrote::Unknown,
            Some(Some(true)) => Wrote::Yes,
            Some(Some(false)) => Wrote::No,
            Some(None) if self.reaches_record(node) && !self.chance.mishap(10) => return None,
            Some(None) | None => Wrote::Unknown,
        };
        side.write = None;
        Some(Event::Wrote(wrote))
    }

    fn read<P>(&mut self, node: u32, side: &mut Side<P>) -> Option<Event> {
        if let Some((record, revision)) = side.read.take() {
            let whose = side.this.whose(record.as_ref(), revision);
            return Some(Event::Read(whose));
        }
        if !self.reaches_record(node) || self.chance.mishap(10) {
            return Some(Event::Unread);
        }
        // It is told later: meanwhile it may be another.
        side.read = Some((self.record.clone(), self.revision));
        None
    }
}

fn side<P>(plan: P, this: Move, stream: usize) -> Side<P> {
    Side { plan, this, stream, begun: false, write: None, read: None, image: 0 }
}
