//! Byte strings from elsewhere: no longer than they may be, and names that are one name.

use krg_types::limits::NAME_BYTES_MAX;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{CStr, CString};
use std::fmt;

/// Up to `MAX` bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bounded<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Bounded<MAX> {
    /// These bytes, if they are not too many.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= MAX).then_some(Bounded(bytes))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bounded<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl<const MAX: usize> Serialize for Bounded<MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bounded<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes<const MAX: usize>;
        impl<const MAX: usize> Visitor<'_> for Bytes<MAX> {
            type Value = Bounded<MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bounded<MAX>, E> {
                Bounded::new(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// The name of one directory entry: 1 to 255 bytes, no slash, no NUL, not `.` and not `..`. What
/// holds such a name and nothing else leads nowhere but into its directory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Bounded<NAME_BYTES_MAX>", into = "Bounded<NAME_BYTES_MAX>")]
pub struct Name(CString);

/// Bytes that are no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadName {
    /// More than 255 bytes.
    #[error("a name is too long")]
    TooLong,
    /// Empty, a dot, two dots, or with a slash or NUL.
    #[error("not the name of one file")]
    NotOne,
}

impl BadName {
    /// As the kernel says it of a path.
    pub fn errno(self) -> i32 {
        match self {
            BadName::TooLong => libc::ENAMETOOLONG,
            BadName::NotOne => libc::EINVAL,
        }
    }
}

impl Name {
    /// These bytes, if they are a name.
    ///
    /// # Errors
    /// When they are not.
    pub fn new(bytes: &[u8]) -> Result<Name, BadName> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(BadName::NotOne);
        }
        CString::new(bytes).map(Name).map_err(|_| BadName::NotOne)
    }

    /// For the kernel.
    pub fn as_c(&self) -> &CStr {
        &self.0
    }

    /// Without the NUL.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<Bounded<NAME_BYTES_MAX>> for Name {
    type Error = BadName;
    fn try_from(bytes: Bounded<NAME_BYTES_MAX>) -> Result<Name, BadName> {
        Name::new(bytes.as_slice())
    }
}

impl From<Name> for Bounded<NAME_BYTES_MAX> {
    fn from(name: Name) -> Self {
        Bounded(name.0.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_name_is_a_name() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(BadName::NotOne), "{}", bad.escape_ascii());
        }
        assert_eq!(Name::new(&[b'x'; 256]), Err(BadName::TooLong));
        assert!(Name::new(&[b'x'; 255]).is_ok());
        assert!(Name::new(b"...").is_ok() && Name::new(b"\xff\n").is_ok());
    }

    #[test]
    fn what_is_received_is_checked() {
        let sent = postcard::to_allocvec(&Bounded::<255>::new(&b"../x"[..]).unwrap()).unwrap();
        assert!(postcard::from_bytes::<Name>(&sent).is_err());
        let sent = postcard::to_allocvec(&Bounded::<255>::new(vec![1; 200]).unwrap()).unwrap();
        assert!(postcard::from_bytes::<Bounded<199>>(&sent).is_err());
        assert!(postcard::from_bytes::<Bounded<200>>(&sent).is_ok());
    }
}
