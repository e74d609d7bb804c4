//! Handles: how a client names a file. A number for the mount it is in, the kernel's own handle,
//! and a code over both that only this node can make (HMAC-SHA256).

use crate::bytes::Bounded;
use crate::op::Handle;
use krg_sys::file_handle::FileHandle;
use ring::{hkdf, hmac};

const CODE_BYTES: usize = 32;

/// Makes and reads this node's handles.
pub struct Sealer {
    handles: hmac::Key,
    proofs: hmac::Key,
}

/// One of the node's mounts; the same after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MountKey(pub u64);

impl Sealer {
    /// With keys that follow from a secret of the node, so that its handles outlive its daemon.
    pub fn new(secret: &[u8]) -> Sealer {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"krg files 1");
        let base = salt.extract(secret);
        let key = |what: &[u8]| {
            let mut bytes = [0; 32];
            // Its length is the algorithm's own, so neither of these can fail.
            let what = [what];
            let made = base.expand(&what, hkdf::HKDF_SHA256).and_then(|key| key.fill(&mut bytes));
            debug_assert!(made.is_ok());
            hmac::Key::new(hmac::HMAC_SHA256, &bytes)
        };
        Sealer { handles: key(b"handles"), proofs: key(b"proofs") }
    }

    /// For a client.
    pub fn seal(&self, mount: MountKey, file: &FileHandle) -> Handle {
        let mut bytes = Vec::with_capacity(12 + file.bytes().len() + CODE_BYTES);
        bytes.extend_from_slice(&mount.0.to_le_bytes());
        bytes.extend_from_slice(&file.kind.to_le_bytes());
        bytes.extend_from_slice(file.bytes());
        let code = hmac::sign(&self.handles, &bytes);
        bytes.extend_from_slice(code.as_ref());
        // 12 + 128 (the kernel's most) + 32 are fewer than a handle may have.
        Bounded::new(bytes).unwrap_or_default()
    }

    /// From a client; `None` for one that this node has not made.
    pub fn open(&self, handle: &Handle) -> Option<(MountKey, FileHandle)> {
        let (text, code) = handle.as_slice().split_last_chunk::<CODE_BYTES>()?;
        hmac::verify(&self.handles, text, code).ok()?;
        let (mount, rest) = text.split_first_chunk::<8>()?;
        let (kind, bytes) = rest.split_first_chunk::<4>()?;
        let file = FileHandle::new(i32::from_le_bytes(*kind), bytes)?;
        Some((MountKey(u64::from_le_bytes(*mount)), file))
    }

    /// That a member has opened this file with these flags, and may again.
    pub fn proof(&self, member: u64, handle: &Handle, flags: u32) -> Bounded<32> {
        let proof = hmac::sign(&self.proofs, &opening(member, handle, flags));
        Bounded::new(proof.as_ref()).unwrap_or_default()
    }

    /// Is it one?
    pub fn proves(&self, proof: &Bounded<32>, member: u64, handle: &Handle, flags: u32) -> bool {
        let opening = opening(member, handle, flags);
        hmac::verify(&self.proofs, &opening, proof.as_slice()).is_ok()
    }
}

fn opening(member: u64, handle: &Handle, flags: u32) -> Vec<u8> {
    [&member.to_le_bytes()[..], &flags.to_le_bytes(), handle.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_handle_is_read_as_it_was_made_and_no_other_is(
            mount in any::<u64>(), kind in any::<i32>(),
            bytes in prop::collection::vec(any::<u8>(), 0..=128),
            at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let (one, other) = (Sealer::new(b"one"), Sealer::new(b"other"));
            let file = FileHandle::new(kind, &bytes).unwrap();
            let handle = one.seal(MountKey(mount), &file);
            prop_assert_eq!(one.open(&handle), Some((MountKey(mount), file)));
            prop_assert_eq!(Sealer::new(b"one").open(&handle).is_some(), true);
            prop_assert_eq!(other.open(&handle), None);
            let mut forged = handle.as_slice().to_vec();
            let at = at.index(forged.len());
            forged[at] ^= 1 << bit;
            prop_assert_eq!(one.open(&Handle::new(forged).unwrap()), None);
        }

        #[test]
        fn garbage_is_no_handle(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            prop_assert_eq!(Sealer::new(b"x").open(&Handle::new(bytes).unwrap()), None);
        }
    }

    #[test]
    fn a_proof_is_of_one_member_file_and_way_of_opening() {
        let sealer = Sealer::new(b"x");
        let handle = Handle::new(&b"abc"[..]).unwrap();
        let proof = sealer.proof(7, &handle, 2);
        assert!(sealer.proves(&proof, 7, &handle, 2));
        assert!(!sealer.proves(&proof, 8, &handle, 2));
        assert!(!sealer.proves(&proof, 7, &handle, 1));
        assert!(!sealer.proves(&Bounded::default(), 7, &handle, 2));
    }
}
