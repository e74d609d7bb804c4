//! How every value is stored: a version, a checksum, JSON. A value of an older version is read by
//! the type that it had then; a damaged one is an error, never a wrong value.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that is stored or sent, with a way from each older version.
pub trait Stored: Serialize + DeserializeOwned {
    /// The version written now, from 1.
    const VERSION: u8;

    /// Reads a payload of an older version; `None` if this one is not known or not readable.
    fn from_older(version: u8, payload: &[u8]) -> Option<Self> {
        let _ = (version, payload);
        None
    }
}

/// Bytes that are not a value of the type they should be of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than a version and a checksum.
    #[error("{0} bytes are too few for a stored value")]
    Short(usize),
    /// The checksum does not fit.
    #[error("a stored value is damaged (checksum {found:08x}, written {written:08x})")]
    Damaged {
        /// Of the bytes that are there.
        found: u32,
        /// That was stored with them.
        written: u32,
    },
    /// A daemon newer than this one wrote it, or it is too old.
    #[error("a stored value has version {found}, this krgd reads up to {known}")]
    Version {
        /// Of the bytes.
        found: u8,
        /// The newest one known.
        known: u8,
    },
    /// A table that only a newer krgd knows.
    #[error("a newer krgd wrote a table `{0}`, which this one does not know")]
    Table(String),
    /// The checksum fits, the content does not.
    #[error("a stored value cannot be read: {0}")]
    Content(String),
}

/// Bytes before the payload: the version and the checksum of version and payload.
const HEAD: usize = 5;

/// The stored form of a value.
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    let mut bytes = vec![T::VERSION, 0, 0, 0, 0];
    // Serialising plain data into memory fails only for maps with keys that are no texts, which
    // no stored type has; the decoder would name such a value damaged.
    let _ = serde_json::to_writer(&mut bytes, value);
    let sum = checksum(&bytes);
    bytes[1..HEAD].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The value that was stored.
///
/// # Errors
/// When the bytes are damaged, of an unknown version, or of another type.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, payload) = open(bytes)?;
    if version == T::VERSION {
        return serde_json::from_slice(payload).map_err(|e| CodecError::Content(e.to_string()));
    }
    T::from_older(version, payload)
        .ok_or(CodecError::Version { found: version, known: T::VERSION })
}

/// Checks a stored value without knowing its type: its version and payload.
///
/// # Errors
/// When it is too short or damaged.
pub fn open(bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    if bytes.len() < HEAD {
        return Err(CodecError::Short(bytes.len()));
    }
    let written = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    let found = checksum(bytes);
    if found != written {
        return Err(CodecError::Damaged { found, written });
    }
    Ok((bytes[0], &bytes[HEAD..]))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[HEAD..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Now {
        name: String,
        count: u32,
    }

    impl Stored for Now {
        const VERSION: u8 = 2;
        fn from_older(version: u8, payload: &[u8]) -> Option<Now> {
            let name: String = serde_json::from_slice(payload).ok().filter(|_| version == 1)?;
            Some(Now { name, count: 1 })
        }
    }

    #[test]
    fn an_older_value_is_read_and_a_newer_one_refused() {
        let mut old = vec![1, 0, 0, 0, 0];
        old.extend(b"\"a\"");
        let sum = checksum(&old).to_be_bytes();
        old[1..5].copy_from_slice(&sum);
        assert_eq!(decode::<Now>(&old), Ok(Now { name: "a".into(), count: 1 }));
        old[0] = 3;
        let sum = checksum(&old).to_be_bytes();
        old[1..5].copy_from_slice(&sum);
        assert_eq!(decode::<Now>(&old), Err(CodecError::Version { found: 3, known: 2 }));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(name in ".{0,40}", count: u32) {
            let value = Now { name, count };
            prop_assert_eq!(decode::<Now>(&encode(&value)), Ok(value));
        }

        #[test]
        fn a_changed_bit_is_noticed(at in 0usize..200, bit in 0u8..8) {
            let mut bytes = encode(&Now { name: "x".repeat(180), count: 7 });
            bytes[at] ^= 1 << bit;
            prop_assert!(decode::<Now>(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode::<Now>(&bytes);
        }
    }
}
