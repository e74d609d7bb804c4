//! Threads that were told to walk again.
//!
//! Who walks into an entry on which nothing is mounted holds its lock, which mount(2) needs: he
//! must not wait there. He is told ESTALE, the kernel walks once more from the beginning and asks
//! for the entry again, and there he may wait. That request looks like any other, so it is
//! remembered who was told.

use krg_types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The kernel comes back at once; whoever does not come back in this time has ended.
const TOLD_FOR: Duration = Duration::from_secs(10);
/// The kernel asks twice about a name that was refused: at first to see whether what it knows of
/// it still holds, and then anew. The second follows at once.
const REFUSED_FOR: Duration = Duration::from_millis(100);

/// What one thread was told about one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// To walk again.
    Again,
    /// That it cannot be had: this errno.
    Refused(i32),
}

/// All that was told. Times are since any moment that stays the same.
#[derive(Debug)]
pub struct Told {
    words: BTreeMap<(u32, NodeId), (Word, Duration)>,
    most: usize,
}

impl Told {
    /// Nobody was told anything; room for so many.
    pub fn new(most: usize) -> Told {
        Told { words: BTreeMap::new(), most }
    }

    /// Remembers it.
    pub fn tell(&mut self, tid: u32, node: NodeId, word: Word, now: Duration) {
        if self.words.len() >= self.most {
            self.words.retain(|_, (word, at)| !is_old(*word, *at, now));
        }
        // One too many has to walk again himself: he sees ESTALE.
        if self.words.len() < self.most {
            self.words.insert((tid, node), (word, now));
        }
    }

    /// What this thread was told of this node, if that still counts. A refusal counts once.
    pub fn word(&mut self, tid: u32, node: NodeId, now: Duration) -> Option<Word> {
        let (word, at) = *self.words.get(&(tid, node))?;
        let old = is_old(word, at, now);
        if old || matches!(word, Word::Refused(_)) {
            self.words.remove(&(tid, node));
        }
        (!old).then_some(word)
    }

    /// It is done with.
    pub fn forget(&mut self, tid: u32, node: NodeId) {
        self.words.remove(&(tid, node));
    }
}

fn is_old(word: Word, at: Duration, now: Duration) -> bool {
    let good_for = match word {
        Word::Again => TOLD_FOR,
        Word::Refused(_) => REFUSED_FOR,
    };
    now.saturating_sub(at) > good_for
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn it_counts_for_that_thread_and_node_until_it_is_done() {
        let mut told = Told::new(9);
        told.tell(5, node(2), Word::Again, ms(0));
        assert_eq!(told.word(5, node(2), ms(10)), Some(Word::Again));
        assert_eq!(told.word(5, node(2), ms(20)), Some(Word::Again), "while he waits");
        assert_eq!(told.word(6, node(2), ms(10)), None);
        assert_eq!(told.word(5, node(3), ms(10)), None);
        told.forget(5, node(2));
        assert_eq!(told.word(5, node(2), ms(20)), None);
    }

    #[test]
    fn a_refusal_counts_once_and_shortly() {
        let mut told = Told::new(9);
        told.tell(5, node(2), Word::Refused(7), ms(0));
        assert_eq!(told.word(5, node(2), ms(1)), Some(Word::Refused(7)));
        assert_eq!(told.word(5, node(2), ms(1)), None);
        told.tell(5, node(2), Word::Refused(7), ms(10));
        assert_eq!(told.word(5, node(2), ms(200)), None);
    }

    #[test]
    fn what_is_old_makes_room() {
        let mut told = Told::new(2);
        told.tell(1, node(2), Word::Again, ms(0));
        told.tell(2, node(2), Word::Again, ms(5_000));
        told.tell(3, node(2), Word::Again, ms(6_000));
        assert_eq!(told.word(3, node(2), ms(6_000)), None, "no room");
        told.tell(3, node(2), Word::Again, ms(11_000));
        assert_eq!(told.word(3, node(2), ms(11_000)), Some(Word::Again));
        assert_eq!(told.word(1, node(2), ms(11_000)), None);
    }
}
