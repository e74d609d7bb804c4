//! What has changed, command by command, for those who want to hear of every change once. A ring
//! holds the newest events; who falls behind it is told so and goes on from a whole view.

use crate::published::{Published, View};
use crate::table::Change;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Events that the ring holds.
const EVENTS_MAX: usize = 16_384;
/// Bytes of the changes that the ring holds.
const EVENT_BYTES_MAX: usize = 32 << 20;

/// What one command changed. Commands that changed nothing that watchers see (a refusal, or only
/// the table of sessions) have no event, so revisions skip.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The revision that the command made.
    pub revision: u64,
    /// The rows, without those of the table of sessions; never empty.
    pub changes: Arc<[Change]>,
}

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The next event.
    Event(Event),
    /// Events are missing: the reader was slow, or a snapshot took the place of the commands.
    /// What comes next is newer than `resume`, which holds everything up to its revision.
    Gap {
        /// Everything there is.
        resume: Arc<View>,
    },
}

/// The newest events.
#[derive(Debug)]
pub struct Feed {
    published: Arc<Published>,
    ring: Mutex<Ring>,
    grown: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// Every event of a revision above this one is in the ring.
    floor: u64,
    closed: bool,
}

impl Feed {
    /// No events yet; what is published now is where they begin.
    pub fn new(published: Arc<Published>) -> Feed {
        let floor = published.load().state.revision;
        let ring = Ring { events: VecDeque::new(), bytes: 0, floor, closed: false };
        Feed { published, ring: Mutex::new(ring), grown: watch::Sender::new(0) }
    }

    /// Events of revision `from` and later; 0: from now on.
    pub fn subscribe(self: &Arc<Self>, from: u64) -> Subscription {
        let next = match from {
            0 => self.published.load().state.revision + 1,
            from => from,
        };
        Subscription { grown: self.grown.subscribe(), feed: self.clone(), next }
    }

    /// Adds events, in order. Their view has been published before.
    pub(crate) fn push(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut ring = self.ring();
        for event in events {
            ring.bytes += weight(&event);
            ring.events.push_back(event);
        }
        while ring.events.len() > EVENTS_MAX || ring.bytes > EVENT_BYTES_MAX {
            let Some(old) = ring.events.pop_front() else { break };
            ring.bytes -= weight(&old);
            ring.floor = old.revision;
        }
        drop(ring);
        self.grown.send_modify(|n| *n += 1);
    }

    /// The published view did not come by events.
    pub(crate) fn skip(&self) {
        let mut ring = self.ring();
        ring.events.clear();
        ring.bytes = 0;
        ring.floor = self.published.load().state.revision;
        drop(ring);
        self.grown.send_modify(|n| *n += 1);
    }

    /// No events come any more.
    pub(crate) fn close(&self) {
        self.ring().closed = true;
        self.grown.send_modify(|n| *n += 1);
    }

    // A panic while it was held leaves a ring that is whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn weight(event: &Event) -> usize {
    let one = |c: &Change| c.key.len() + c.value.as_ref().map_or(0, Vec::len) + 64;
    event.changes.iter().map(one).sum()
}

/// One reader's place among the events.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    grown: watch::Receiver<u64>,
    next: u64,
}

impl Subscription {
    /// The next event, or that some are missing; `None` when none will come any more. May be
    /// dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            self.grown.mark_unchanged();
            if let Some(notice) = self.look() {
                return Some(notice);
            }
            if self.feed.ring().closed {
                return None;
            }
            self.grown.changed().await.ok()?;
        }
    }

    /// What can be had without waiting.
    fn look(&mut self) -> Option<Notice> {
        let ring = self.feed.ring();
        if self.next <= ring.floor {
            drop(ring);
            let resume = self.feed.published.load();
            self.next = resume.state.revision + 1;
            return Some(Notice::Gap { resume });
        }
        let at = ring.events.partition_point(|event| event.revision < self.next);
        let event = ring.events.get(at)?.clone();
        drop(ring);
        self.next = event.revision + 1;
        Some(Notice::Event(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, bytes: usize) -> Event {
        let change = Change { table: "config", key: "k".into(), value: Some(vec![0; bytes]) };
        Event { revision, changes: Arc::new([change]) }
    }

    fn publish(published: &Published, revision: u64) {
        let mut view = View::clone(&published.load());
        view.state.revision = revision;
        published.publish(view);
    }

    async fn revision(subscription: &mut Subscription) -> Result<u64, u64> {
        match subscription.next().await.unwrap() {
            Notice::Event(event) => Ok(event.revision),
            Notice::Gap { resume } => Err(resume.state.revision),
        }
    }

    #[tokio::test]
    async fn each_event_comes_once_and_a_gap_is_told() {
        let published = Arc::new(Published::new(View::default()));
        let feed = Arc::new(Feed::new(published.clone()));
        let mut slow = feed.subscribe(1);
        let mut quick = feed.subscribe(0);
        publish(&published, 7);
        feed.push(vec![event(2, 1), event(5, 1), event(7, 1)]);
        for wanted in [2, 5, 7] {
            assert_eq!(revision(&mut quick).await, Ok(wanted));
        }
        assert_eq!(revision(&mut slow).await, Ok(2));
        let newest = 7 + EVENTS_MAX as u64;
        publish(&published, newest);
        feed.push((8..=newest).map(|n| event(n, 1)).collect());
        // 5 and 7 are out of the ring; whoever had 7 misses nothing.
        assert_eq!(revision(&mut quick).await, Ok(8));
        assert_eq!(revision(&mut slow).await, Err(newest));
        publish(&published, newest + 1);
        feed.push(vec![event(newest + 1, 1)]);
        assert_eq!(revision(&mut slow).await, Ok(newest + 1));
        // A snapshot.
        publish(&published, newest + 50);
        feed.skip();
        assert_eq!(revision(&mut slow).await, Err(newest + 50));
        assert_eq!(revision(&mut quick).await, Err(newest + 50));
        feed.close();
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn the_ring_is_bounded_in_bytes_too() {
        let published = Arc::new(Published::new(View::default()));
        let feed = Arc::new(Feed::new(published.clone()));
        publish(&published, 100);
        feed.push((1..=100).map(|n| event(n, 1 << 20)).collect());
        assert!(feed.ring().bytes <= EVENT_BYTES_MAX && !feed.ring().events.is_empty());
        assert_eq!(revision(&mut feed.subscribe(1)).await, Err(100));
        assert_eq!(revision(&mut feed.subscribe(100)).await, Ok(100));
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let published = Arc::new(Published::new(View::default()));
        let feed = Arc::new(Feed::new(published.clone()));
        let mut reader = feed.subscribe(0);
        let waits = tokio::spawn(async move { revision(&mut reader).await });
        tokio::task::yield_now().await;
        publish(&published, 1);
        feed.push(vec![event(1, 1)]);
        assert_eq!(waits.await.unwrap(), Ok(1));
    }
}
