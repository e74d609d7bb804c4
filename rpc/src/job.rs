//! The form of what commands and the supervisors of jobs say to each other on a unix socket: each
//! message after its length.

use bytes::{Buf, BytesMut};
use krg_types::limits::JOB_MESSAGE_BYTES_MAX;
use prost::Message;

/// Bytes of a length, little endian.
const LENGTH_BYTES: usize = 4;

/// What nobody of us would say: the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// It is said to be longer than any.
    #[error("a message of {0} bytes")]
    Length(usize),
    /// It is no such message.
    #[error("a malformed message: {0}")]
    Form(#[from] prost::DecodeError),
}

/// A message as it is sent.
pub fn written(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + message.encoded_len());
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// What has been received, and not taken.
#[derive(Debug, Default)]
pub struct Received(BytesMut);

impl Received {
    /// More has come.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once it is there in full.
    ///
    /// # Errors
    /// When it is too long, or none.
    pub fn take<M: Message + Default>(&mut self) -> Result<Option<M>, BadMessage> {
        let Some(length) = self.0.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > JOB_MESSAGE_BYTES_MAX {
            return Err(BadMessage::Length(length));
        }
        if self.0.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.0.advance(LENGTH_BYTES);
        Ok(Some(M::decode(self.0.split_to(length))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::job::{ToJob, to_job::What};
    use proptest::prelude::*;

    fn typed(bytes: &[u8]) -> ToJob {
        ToJob { what: Some(What::Input(bytes.to_vec())) }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            said in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..9,
        ) {
            let all: Vec<u8> = said.iter().flat_map(|bytes| written(&typed(bytes))).collect();
            let (mut received, mut heard) = (Received::default(), Vec::new());
            for piece in all.chunks(cut) {
                received.add(piece);
                while let Some(message) = received.take::<ToJob>().unwrap() {
                    heard.push(message);
                }
            }
            prop_assert_eq!(heard, said.iter().map(|bytes| typed(bytes)).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut received = Received::default();
            received.add(&bytes);
            while let Ok(Some(_)) = received.take::<ToJob>() {}
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        let mut received = Received::default();
        received.add(&(JOB_MESSAGE_BYTES_MAX as u32 + 1).to_le_bytes());
        assert!(matches!(received.take::<ToJob>(), Err(BadMessage::Length(_))));
    }
}
