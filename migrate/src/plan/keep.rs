//! What becomes of a job whose home, or whose place abroad, has died: each node looks after what is
//! its own in the records, and all after those of nodes that are no members any more.

use crate::cluster::{Lost, Record};

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// All is well, or another's.
    Leave,
    /// Its job is lost: that is written.
    Mark(Lost),
    /// It has been told for long enough, and is removed.
    Forget,
}

/// Of a record, on node `own`: does a holder have the job here, and which nodes are members?
pub fn keep(record: &Record, own: u32, is_held: bool, is_member: impl Fn(u32) -> bool) -> Keep {
    let Record { home, holder, .. } = record;
    let own_home = *home == own && !is_held;
    if record.lost.is_some() {
        return if own_home || !is_member(*home) { Keep::Forget } else { Keep::Leave };
    }
    if own_home || !is_member(*home) {
        return Keep::Mark(Lost::Home);
    }
    let own_guest = *holder == own && *home != own && !is_held;
    if own_guest || !is_member(*holder) {
        return Keep::Mark(Lost::Holder);
    }
    Keep::Leave
}

/// Must a job that runs on node `own`, away from home, end?
pub fn guest_ends(record: Option<&Record>, own: u32) -> bool {
    record.is_none_or(|record| record.lost.is_some() || record.holder != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_died_decides() {
        let record = |home, holder, lost| Record { home, holder, lost, ..Record::default() };
        let members = |node| node < 4;
        let away = record(1, 2, None);
        for (own, is_held, wanted) in [
            (1, true, Keep::Leave),
            (1, false, Keep::Mark(Lost::Home)),
            (2, true, Keep::Leave),
            (2, false, Keep::Mark(Lost::Holder)),
            (3, false, Keep::Leave),
        ] {
            assert_eq!(keep(&away, own, is_held, members), wanted, "{own}");
        }
        let lost = record(1, 2, Some(Lost::Holder));
        assert_eq!(keep(&lost, 2, false, members), Keep::Leave);
        assert_eq!(keep(&lost, 1, true, members), Keep::Leave);
        assert_eq!(keep(&lost, 1, false, members), Keep::Forget);
        assert_eq!(keep(&record(9, 2, None), 3, false, members), Keep::Mark(Lost::Home));
        assert_eq!(keep(&record(1, 9, None), 3, false, members), Keep::Mark(Lost::Holder));
        assert!(guest_ends(None, 2) && guest_ends(Some(&lost), 2) && guest_ends(Some(&away), 3));
        assert!(!guest_ends(Some(&away), 2));
    }
}
