//! Where a group's things are in the store.

/// The keys of one group.
#[derive(Clone, Copy, Debug)]
pub struct Keys(pub u32);

/// What is under a key; its number is the key's fifth byte.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Vote = 1,
    Committed = 2,
    Purged = 3,
    Log = 4,
    Applied = 5,
    Row = 6,
    Snapshot = 7,
}

impl Keys {
    fn of(self, kind: Kind, rest: &[u8]) -> Vec<u8> {
        [&self.0.to_be_bytes()[..], &[kind as u8], rest].concat()
    }

    /// The vote.
    pub fn vote(self) -> Vec<u8> {
        self.of(Kind::Vote, &[])
    }

    /// The last entry known to be agreed.
    pub fn committed(self) -> Vec<u8> {
        self.of(Kind::Committed, &[])
    }

    /// The last entry dropped from the log's beginning.
    pub fn purged(self) -> Vec<u8> {
        self.of(Kind::Purged, &[])
    }

    /// What the rows are the state of.
    pub fn applied(self) -> Vec<u8> {
        self.of(Kind::Applied, &[])
    }

    /// An entry of the log.
    pub fn entry(self, index: u64) -> Vec<u8> {
        self.of(Kind::Log, &index.to_be_bytes())
    }

    /// Behind the last entry of the log.
    pub fn entries_end(self) -> Vec<u8> {
        self.of(Kind::Applied, &[])
    }

    /// The index in an entry's key.
    pub fn index(self, key: &[u8]) -> Option<u64> {
        let (head, index) = key.split_last_chunk::<8>()?;
        (head == self.of(Kind::Log, &[])).then_some(u64::from_be_bytes(*index))
    }

    /// A row of one generation of rows; `name` is its table and its key.
    pub fn row(self, generation: u64, name: &[u8]) -> Vec<u8> {
        self.of(Kind::Row, &[&generation.to_be_bytes(), name].concat())
    }

    /// The first row there can be, and behind the last.
    pub fn rows(self) -> (Vec<u8>, Vec<u8>) {
        (self.of(Kind::Row, &[]), self.of(Kind::Snapshot, &[]))
    }

    /// The generation and the name in a row's key.
    pub fn row_name(self, key: &[u8]) -> Option<(u64, &[u8])> {
        let rest = key.strip_prefix(self.of(Kind::Row, &[]).as_slice())?;
        let (generation, name) = rest.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*generation), name))
    }

    /// A snapshot that is kept in the store.
    pub fn snapshot(self, index: u64) -> Vec<u8> {
        self.of(Kind::Snapshot, &index.to_be_bytes())
    }

    /// The first snapshot there can be, and behind the last.
    pub fn snapshots(self) -> (Vec<u8>, Vec<u8>) {
        let end = [&self.0.to_be_bytes()[..], &[Kind::Snapshot as u8 + 1]].concat();
        (self.of(Kind::Snapshot, &[]), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_their_index_and_apart_from_the_rest() {
        let keys = Keys(7);
        let all = [
            keys.vote(),
            keys.committed(),
            keys.purged(),
            keys.entry(0),
            keys.entry(255),
            keys.entry(256),
            keys.entry(u64::MAX),
            keys.applied(),
            keys.row(0, b"a"),
            keys.row(1, b""),
            keys.rows().1,
            keys.snapshot(9),
            keys.snapshots().1,
            Keys(8).vote(),
        ];
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
        assert_eq!(keys.index(&keys.entry(300)), Some(300));
        assert_eq!(keys.index(&Keys(8).entry(300)), None);
        assert_eq!(keys.row_name(&keys.row(3, b"t\0k")), Some((3, &b"t\0k"[..])));
        assert_eq!(keys.row_name(&keys.applied()), None);
    }
}
