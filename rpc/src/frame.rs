//! The form of what is said on a connection for file data: a head of 16 bytes with lengths and the
//! number of the request, then a short text that says what it is about, then bytes of a file.

use bytes::{Buf, Bytes, BytesMut};
use krg_types::limits::{FRAME_DATA_BYTES_MAX, FRAME_HEAD_BYTES_MAX};

/// Bytes before the head of a frame: the head's length, the data's, and the request's number, all
/// little endian.
pub const PREFIX_BYTES: usize = 16;

/// One frame as it was received.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// Which request it is or answers; 0: neither, it tells of something.
    pub id: u64,
    /// What it is about.
    pub head: Bytes,
    /// Bytes of a file.
    pub data: Bytes,
}

/// A frame that nobody of us would send: the connection is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadFrame {
    /// Its head is said to be longer than any.
    #[error("a head of {0} bytes")]
    Head(usize),
    /// So is its data.
    #[error("data of {0} bytes")]
    Data(usize),
}

/// What goes before a head and data of these lengths.
pub fn prefix(id: u64, head_bytes: usize, data_bytes: usize) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&(head_bytes as u32).to_le_bytes());
    prefix[4..8].copy_from_slice(&(data_bytes as u32).to_le_bytes());
    prefix[8..].copy_from_slice(&id.to_le_bytes());
    prefix
}

/// Takes the first frame out of what has been received, once it is there in full.
///
/// # Errors
/// When the lengths are beyond the bounds; nothing has been set aside for it.
pub fn take(received: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    let Some(prefix) = received.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let (head_bytes, rest) = word(prefix);
    let (data_bytes, rest) = word(rest);
    let id = u64::from_le_bytes(*rest.first_chunk().unwrap_or(&[0; 8]));
    if head_bytes > FRAME_HEAD_BYTES_MAX {
        return Err(BadFrame::Head(head_bytes));
    }
    if data_bytes > FRAME_DATA_BYTES_MAX {
        return Err(BadFrame::Data(data_bytes));
    }
    let whole = PREFIX_BYTES + head_bytes + data_bytes;
    if received.len() < whole {
        received.reserve(whole - received.len());
        return Ok(None);
    }
    received.advance(PREFIX_BYTES);
    let head = received.split_to(head_bytes).freeze();
    let data = received.split_to(data_bytes).freeze();
    Ok(Some(Frame { id, head, data }))
}

fn word(bytes: &[u8]) -> (usize, &[u8]) {
    let (word, rest) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    (u32::from_le_bytes(*word) as usize, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(id: u64, head: &[u8], data: &[u8]) -> Vec<u8> {
        [&prefix(id, head.len(), data.len())[..], head, data].concat()
    }

    #[test]
    fn absurd_lengths_are_refused_before_anything_is_set_aside() {
        for (head, data, bad) in [
            (FRAME_HEAD_BYTES_MAX + 1, 0, BadFrame::Head(FRAME_HEAD_BYTES_MAX + 1)),
            (0, FRAME_DATA_BYTES_MAX + 1, BadFrame::Data(FRAME_DATA_BYTES_MAX + 1)),
            (u32::MAX as usize, u32::MAX as usize, BadFrame::Head(u32::MAX as usize)),
        ] {
            let mut received = BytesMut::from(&prefix(1, head, data)[..]);
            assert_eq!(take(&mut received), Err(bad));
            assert!(received.capacity() < 1024);
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(
                (any::<u64>(), prop::collection::vec(any::<u8>(), 0..50),
                 prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            piece in 1usize..64,
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(id, head, data)| written(*id, head, data)).collect();
            let mut received = BytesMut::new();
            let mut out = Vec::new();
            for part in bytes.chunks(piece) {
                received.extend_from_slice(part);
                while let Some(frame) = take(&mut received).unwrap() {
                    out.push((frame.id, frame.head.to_vec(), frame.data.to_vec()));
                }
            }
            prop_assert_eq!(out, frames);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn garbage_is_a_frame_or_an_error_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut received = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut received) {}
        }
    }
}
