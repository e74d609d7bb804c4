//! What comes over the wire is what was sent, or an error: no bytes make the other side panic, or
//! set aside more memory than they are long.

use krg_faf::bytes::{Bounded, Name};
use krg_faf::op::{
    Answer, Attr, Caller, Entry, Handle, Line, Listed, Lock, LockKind, Notice, Op, Opened,
    Request,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads bytes as a word; if it is one, it is written and read again as the same.
fn reads<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(word) = postcard::from_bytes::<T>(bytes) {
        let again = written(&word);
        assert_eq!(postcard::from_bytes::<T>(&again).expect("it is read"), word);
    }
}

fn written(word: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(word).expect("it is written")
}

fn all(bytes: &[u8]) {
    reads::<Request>(bytes);
    reads::<Op>(bytes);
    reads::<Answer>(bytes);
    reads::<Notice>(bytes);
}

/// Some of the longest that are said, to be spoilt.
fn said() -> Vec<Vec<u8>> {
    let handle = Handle::new(&[7; 40][..]).expect("it is short");
    let name = Name::new(b"name").expect("it is a name");
    let entry = Entry { handle: handle.clone(), attr: Attr::default(), key: 9, watched: true };
    let line = |entry| {
        let name = Bounded::new(&b"line"[..]).expect("it is short");
        Line { name, next: 5, ino: 6, kind: 8, entry }
    };
    let lines = vec![line(Some(entry.clone())), line(None)];
    let lock = Lock { owner: 1, kind: LockKind::Write, start: 2, end: 3 };
    let proof = Bounded::new(&[1; 32][..]).expect("it is short");
    let opened = Opened { open: 1, attr: Attr::default(), lease: true, proof, life: 0 };
    let caller = Caller { uid: 1, gid: 2, groups: vec![3; 40] };
    let (to_dir, to_name) = (handle.clone(), name.clone());
    let op = Op::Rename { dir: handle, name: name.clone(), to_dir, to_name, flags: 1 };
    vec![
        written(&Answer::Listed(Listed {
            open: Some(4),
            lines,
            end: false,
            exact: true,
            life: 0,
        })),
        written(&Answer::Created { entry, opened }),
        written(&Answer::Blocker(Some(lock))),
        written(&Request { caller, op, once: true }),
        written(&Notice::Name { dir: 1, name }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_word_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        all(&bytes);
    }

    #[test]
    fn spoilt_words_are_words_or_none(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        byte in any::<u8>(), keep in any::<prop::sample::Index>(),
    ) {
        let said = said();
        let mut bytes = said[which.index(said.len())].clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        all(&bytes);
        bytes.truncate(keep.index(bytes.len()));
        all(&bytes);
    }
}

/// A length that is not there is no reason to set memory aside for it.
#[test]
fn lengths_beyond_the_bytes_are_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for kind in 0..64_u8 {
        for skip in 0..40 {
            let mut bytes = vec![kind];
            bytes.extend(std::iter::repeat_n(0, skip));
            bytes.extend(huge);
            all(&bytes);
        }
    }
}
