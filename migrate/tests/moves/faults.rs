//! What dies, stands still and is cut off.

use super::world::{HOME, State, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The holder of the job on this node is killed.
    Holder,
    /// CRIU is.
    Criu,
    /// The daemon is; it is started again later.
    Krgd,
    /// The node loses its power.
    Power,
    /// The holder stands still, and goes on later.
    Pause,
    /// The node is cut off, until later.
    Cut,
}

pub const FAULTS: [Fault; 6] =
    [Fault::Holder, Fault::Criu, Fault::Krgd, Fault::Power, Fault::Pause, Fault::Cut];

impl World {
    pub fn strike(&mut self, node: u32, fault: Fault) {
        self.say(format!("{fault:?} of {node}"));
        match fault {
            Fault::Holder => self.kill_holder(node),
            Fault::Criu => self.kill_criu(node),
            Fault::Krgd => {
                self.node(node).krgd = false;
                // Who arrives there is spoken to through it.
                let holder = self.nodes[node as usize].holder.as_ref();
                let stream = holder.and_then(|holder| Some(holder.target.as_ref()?.stream));
                stream.into_iter().for_each(|stream| self.break_stream(stream));
            }
            Fault::Power => {
                self.kill_holder(node);
                let node = self.node(node);
                (node.copy, node.up, node.krgd) = (None, false, false);
            }
            Fault::Pause => {
                if let Some(holder) = &mut self.node(node).holder {
                    holder.paused = true;
                }
            }
            Fault::Cut => {
                self.node(node).cut = true;
                self.break_streams_of(node);
            }
        }
    }

    fn kill_holder(&mut self, node: u32) {
        self.break_streams_of(node);
        if self.node(node).holder.take().is_none() {
            return;
        }
        match node {
            HOME => self.home_died = true,
            _ => self.holder_died = true,
        }
        let Some(copy) = &mut self.node(node).copy else { return };
        // CRIU's hook hears nothing more: what was saved goes on, what was brought back ends.
        match copy.state {
            State::Held(true) => copy.state = State::Stopped,
            State::Held(false) => copy.state = State::Running,
            State::Restored(true) => self.node(node).copy = None,
            State::Running | State::Stopped | State::Restored(false) => {}
        }
    }

    fn kill_criu(&mut self, node: u32) {
        let Some(copy) = &mut self.node(node).copy else { return };
        match copy.state {
            State::Held(true) => copy.state = State::Stopped,
            State::Held(false) => copy.state = State::Running,
            State::Restored(_) => {
                copy.state = State::Restored(false);
                self.holder_died = true;
            }
            State::Running | State::Stopped => {}
        }
    }

    /// All that can be is as it was.
    pub fn mend(&mut self, node: u32) {
        let node = self.node(node);
        (node.up, node.krgd, node.cut) = (true, true, false);
        if let Some(holder) = &mut node.holder {
            holder.paused = false;
        }
    }
}
