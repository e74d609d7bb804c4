//! The file of one object of System V. It is read as if anybody had written it.

use krg_sys::sysv::{Common, Kind};

const MAGIC: &[u8; 8] = b"krgipc1\n";
/// Before what is in it: the kind, the number, what all objects have, and a length.
pub const HEADER_BYTES: usize = 8 + 6 * 4 + 8;
/// More than a queue holds.
pub const MESSAGES_MAX: usize = 1 << 20;
/// And a set of semaphores (semget(2), SEMMSL).
const SEMAPHORES_MAX: usize = 32_000;

/// It.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its number.
    pub id: i32,
    /// What all have.
    pub common: Common,
    /// What is in it.
    pub content: Content,
}

/// What is in one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Messages, first come first, and how many bytes of them there may be.
    Queue {
        /// So many.
        bytes_max: u64,
        /// Types and texts.
        messages: Vec<(i64, Vec<u8>)>,
    },
    /// Values.
    Semaphores(Vec<u16>),
    /// So many bytes, which follow.
    Memory(u64),
}

/// What is no such file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it was not written by ipccheckpoint, or is damaged")]
pub struct NoObject;

impl Content {
    /// Which of the three.
    pub fn kind(&self) -> Kind {
        match self {
            Content::Queue { .. } => Kind::Queue,
            Content::Semaphores(_) => Kind::Semaphores,
            Content::Memory(_) => Kind::Memory,
        }
    }
}

/// Takes from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], NoObject> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(NoObject)?;
        self.0 = rest;
        Ok(first)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], NoObject> {
        self.take(N)?.try_into().map_err(|_| NoObject)
    }

    fn word(&mut self) -> Result<u32, NoObject> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }
}

impl Object {
    /// As it is written; of shared memory, without what is in it.
    pub fn written(&self) -> Vec<u8> {
        let Object { id, common, content } = self;
        let (kind, length, rest) = match content {
            Content::Queue { bytes_max, messages } => (0u32, *bytes_max, queue(messages)),
            Content::Semaphores(values) => {
                let rest = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (1, values.len() as u64, rest)
            }
            Content::Memory(bytes) => (2, *bytes, Vec::new()),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes.extend(common.key.to_le_bytes());
        for word in [common.mode, common.uid, common.gid] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(length.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    /// As it was written, in a file of this length: all of it, or of shared memory the beginning.
    ///
    /// # Errors
    /// For what is none.
    pub fn read(bytes: &[u8], length: u64) -> Result<Object, NoObject> {
        let mut bytes = Bytes(bytes);
        if bytes.fixed::<8>()? != *MAGIC {
            return Err(NoObject);
        }
        let kind = bytes.word()?;
        let id = i32::from_le_bytes(bytes.fixed()?);
        let key = i32::from_le_bytes(bytes.fixed()?);
        let (mode, uid, gid) = (bytes.word()?, bytes.word()?, bytes.word()?);
        let size = u64::from_le_bytes(bytes.fixed()?);
        let content = match kind {
            0 => Content::Queue { bytes_max: size, messages: messages(&mut bytes)? },
            1 if size as usize <= SEMAPHORES_MAX => {
                let all = bytes.take(2 * size as usize)?;
                let value = |pair: &[u8]| pair.try_into().map(u16::from_le_bytes);
                let values = all.chunks(2).map(value).collect::<Result<_, _>>();
                Content::Semaphores(values.map_err(|_| NoObject)?)
            }
            2 if size > 0 && length == HEADER_BYTES as u64 + size => Content::Memory(size),
            _ => return Err(NoObject),
        };
        if !bytes.0.is_empty() || mode > 0o777 || id < 0 {
            return Err(NoObject);
        }
        Ok(Object { id, common: Common { key, mode, uid, gid }, content })
    }
}

fn queue(messages: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = (messages.len() as u32).to_le_bytes().to_vec();
    for (kind, text) in messages {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
    }
    bytes
}

fn messages(bytes: &mut Bytes<'_>) -> Result<Vec<(i64, Vec<u8>)>, NoObject> {
    let count = bytes.word()? as usize;
    if count > MESSAGES_MAX {
        return Err(NoObject);
    }
    // Not room for as many as are said to be there: for as many as are.
    let mut all = Vec::new();
    for _ in 0..count {
        let kind = i64::from_le_bytes(bytes.fixed()?);
        let length = bytes.word()? as usize;
        if kind < 1 {
            return Err(NoObject);
        }
        all.push((kind, bytes.take(length)?.to_vec()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> impl Strategy<Value = Content> {
        let text = prop::collection::vec(any::<u8>(), 0..20);
        let messages = prop::collection::vec((1i64.., text), 0..5);
        prop_oneof![
            (any::<u64>(), messages)
                .prop_map(|(bytes_max, messages)| Content::Queue { bytes_max, messages }),
            prop::collection::vec(any::<u16>(), 0..9).prop_map(Content::Semaphores),
            (1u64..1 << 40).prop_map(Content::Memory),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else(
            id in 0i32.., key: i32, mode in 0u32..0o1000, uid: u32, gid: u32, content in content(),
            noise in prop::collection::vec(any::<u8>(), 0..80), at: usize,
        ) {
            let object = Object { id, common: Common { key, mode, uid, gid }, content };
            let bytes = object.written();
            let length = match object.content {
                Content::Memory(size) => HEADER_BYTES as u64 + size,
                _ => bytes.len() as u64,
            };
            prop_assert_eq!(Object::read(&bytes, length), Ok(object.clone()));
            prop_assert!(Object::read(&bytes[..at % bytes.len()], length).is_err());
            prop_assert!(Object::read(&[&bytes[..], b"x"].concat(), length).is_err());
            if let Content::Memory(_) = object.content {
                prop_assert!(Object::read(&bytes, length + 1).is_err());
            }
            prop_assert!(Object::read(&noise, noise.len() as u64).is_err());
        }
    }
}
