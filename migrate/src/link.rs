//! What connects a job that is away with its home: frames that are kept until the other side has
//! them, so that a connection may break, and another take its place.

use crate::flow::Chunk;
use krg_rpc::proto::job::{Data, Frame, frame};
use std::collections::VecDeque;

/// One side of it. Pure: who sends what it gives, and gives it what has come.
#[derive(Debug, Default)]
pub struct Link {
    /// The last frame that was numbered.
    sent: u64,
    /// All frames of the other side up to this have come.
    received: u64,
    /// Not acknowledged, oldest first; with the credit of what they carry.
    kept: VecDeque<(Frame, Option<Chunk>)>,
}

impl Link {
    /// One that goes on where another node's copy of this side has stopped.
    pub fn resumed(sent: u64, received: u64, kept: Vec<Frame>) -> Link {
        Link { sent, received, kept: kept.into_iter().map(|frame| (frame, None)).collect() }
    }

    /// Where it has stopped: sent, received, and what is not acknowledged.
    pub fn state(&self) -> (u64, u64, Vec<Frame>) {
        (self.sent, self.received, self.kept.iter().map(|(frame, _)| frame.clone()).collect())
    }

    /// Something to say: a frame to send, if there is a connection.
    pub fn say(&mut self, what: frame::What) -> Frame {
        self.keep(what, None)
    }

    /// Bytes to hand on.
    pub fn data(&mut self, channel: u32, mut chunk: Chunk) -> Frame {
        let data = std::mem::take(&mut chunk.bytes);
        self.keep(frame::What::Data(Data { channel, data }), Some(chunk))
    }

    fn keep(&mut self, what: frame::What, credit: Option<Chunk>) -> Frame {
        self.sent += 1;
        let frame = Frame { number: self.sent, received: self.received, what: Some(what) };
        self.kept.push_back((frame.clone(), credit));
        frame
    }

    /// There is a connection, on which the other side has said how much it has: what it lacks.
    pub fn connected(&mut self, received: u64) -> Vec<Frame> {
        self.acknowledged(received);
        let mine = self.received;
        self.kept.iter().map(|(frame, _)| Frame { received: mine, ..frame.clone() }).collect()
    }

    /// A frame has come: what it says, if it has not come before.
    pub fn came(&mut self, frame: Frame) -> Option<frame::What> {
        self.acknowledged(frame.received);
        if frame.number != self.received + 1 {
            return None;
        }
        self.received = frame.number;
        frame.what
    }

    /// Says only how much has come.
    pub fn acknowledgement(&self) -> Frame {
        Frame { number: 0, received: self.received, what: None }
    }

    fn acknowledged(&mut self, received: u64) {
        while self.kept.front().is_some_and(|(frame, _)| frame.number <= received) {
            self.kept.pop_front();
        }
    }

    /// Has the other side all that was said?
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(what: &frame::What) -> i32 {
        match what {
            frame::What::Signal(number) => *number,
            _ => panic!("only signals are sent here"),
        }
    }

    proptest! {
        /// Connections that break anywhere, and sides that move: all comes, once, in order.
        #[test]
        fn all_comes_once(steps in prop::collection::vec((0u8..6, 0usize..4), 0..200)) {
            let (mut one, mut two) = (Link::default(), Link::default());
            let (mut wire, mut back) = (VecDeque::new(), VecDeque::new());
            let (mut said, mut heard) = (0, Vec::new());
            let mut take = |two: &mut Link, frame: Frame| {
                heard.extend(two.came(frame).map(|what| number(&what)));
            };
            for (step, count) in steps {
                match step {
                    0 | 1 => {
                        said += 1;
                        wire.push_back(one.say(frame::What::Signal(said)));
                    }
                    2 => for frame in wire.drain(..count.min(wire.len())) {
                        take(&mut two, frame);
                        back.push_back(two.acknowledgement());
                    },
                    3 => for frame in back.drain(..count.min(back.len())) {
                        prop_assert!(one.came(frame).is_none());
                    },
                    4 => {
                        (wire, back) = (one.connected(two.received).into(), VecDeque::new());
                    }
                    _ => {
                        let (sent, received, kept) = one.state();
                        one = Link::resumed(sent, received, kept);
                        (wire, back) = (one.connected(two.received).into(), VecDeque::new());
                    }
                }
            }
            for frame in one.connected(two.received) {
                take(&mut two, frame);
            }
            one.connected(two.received);
            prop_assert!(one.is_settled());
            prop_assert_eq!(heard, (1..=said).collect::<Vec<_>>());
        }
    }
}
