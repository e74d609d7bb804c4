//! One connection for the bytes of a move: from the holder of a job to the one that waits for it,
//! past both daemons. It begins in plain text with whom it is for, by which the daemon there gives
//! the socket to that process, and all that follows is inside TLS between the two of them.
//!
//! What is said are parts: a number, a length, and so many bytes. Who sends waits until the socket
//! takes it; nothing is answered.

use crate::tls::Caller;
use krg_types::MemberId;
use krg_types::limits::BULK_PART_BYTES_MAX;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::Connection;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Ciphertext read from the socket at once, bytes.
const READ_BYTES: usize = 256 << 10;
/// What waits to be sent is sent when it is so much, bytes.
const SEND_BYTES: usize = 512 << 10;
/// A peer that takes nothing for so long is gone.
const STALL_MAX: Duration = Duration::from_secs(10);
/// And one that sends nothing: CRIU does not stop between two images.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What it was sent and does not acknowledge ends the connection, ms.
const USER_TIMEOUT_MS: u32 = 12_000;
/// Before each part: its number and its length, little endian.
const HEAD_BYTES: usize = 8;
/// The first byte of TLS is another (22, RFC 8446): so one door will do for both.
const MAGIC: &[u8; 4] = b"KRGJ";
/// Longest name of a move.
const TRACE_BYTES: usize = 16;
/// All of a preface.
pub(crate) const PREFACE_BYTES: usize = 8 + TRACE_BYTES;

/// Whom a connection is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preface {
    /// The job that moves.
    pub job: u32,
    /// The name of its move.
    pub trace: String,
}

impl Preface {
    /// As it is sent; `None` for a name that is none.
    pub(crate) fn written(&self) -> Option<[u8; PREFACE_BYTES]> {
        let mut bytes = [0; PREFACE_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&self.job.to_le_bytes());
        is_trace(self.trace.as_bytes()).then_some(())?;
        bytes[8..].get_mut(..self.trace.len())?.copy_from_slice(self.trace.as_bytes());
        Some(bytes)
    }

    /// Is one coming, when this is its first byte?
    pub(crate) fn begins_with(byte: u8) -> bool {
        byte == MAGIC[0]
    }

    /// As it has come: from anybody, so it must be what this would have written.
    pub(crate) fn read(bytes: &[u8; PREFACE_BYTES]) -> Option<Preface> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (job, trace) = rest.split_first_chunk::<4>()?;
        let end = trace.iter().position(|byte| *byte == 0).unwrap_or(trace.len());
        let (trace, zeros) = trace.split_at(end);
        let is_one = magic == MAGIC && is_trace(trace) && zeros.iter().all(|byte| *byte == 0);
        let trace = is_one.then(|| String::from_utf8_lossy(trace).into_owned())?;
        Some(Preface { job: u32::from_le_bytes(*job), trace })
    }
}

/// It becomes part of a path.
fn is_trace(bytes: &[u8]) -> bool {
    (1..=TRACE_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_alphanumeric)
}

/// A connection after its handshake, for one side of it.
pub struct Bulk {
    socket: Arc<TcpStream>,
    tls: Connection,
    member: MemberId,
    /// Dropped with it: nobody watches it any more.
    _watched: oneshot::Sender<()>,
}

/// Ends a connection, from another thread than that which uses it.
#[derive(Clone)]
pub struct Breaker(Arc<TcpStream>);

impl Breaker {
    /// Whoever sends or receives on it gets an error.
    pub fn pull(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Bulk {
    /// Over a socket whose handshake is done; `watched` ends when this does.
    pub(crate) fn new(
        socket: TcpStream,
        mut tls: Connection,
        caller: Caller,
        watched: oneshot::Sender<()>,
    ) -> io::Result<Bulk> {
        let member = caller.member.ok_or(ErrorKind::PermissionDenied)?;
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(STALL_MAX))?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
        // Bounded by who sends.
        tls.set_buffer_limit(None);
        Ok(Bulk { socket: Arc::new(socket), tls, member, _watched: watched })
    }

    /// Who is at the other end, as its certificate says.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// What ends it from elsewhere.
    pub fn breaker(&self) -> Breaker {
        Breaker(self.socket.clone())
    }

    /// To send on it.
    pub fn sender(self) -> Sender {
        Sender { bulk: self, waiting: 0 }
    }

    /// Takes parts until `take` has had enough.
    ///
    /// # Errors
    /// UnexpectedEof when the other side ends sooner, TimedOut when it says nothing; InvalidData
    /// for what is no part; what `take` says.
    pub fn receive(
        mut self,
        mut take: impl FnMut(Part<'_>) -> io::Result<Taken>,
    ) -> io::Result<()> {
        let (mut parts, mut cipher) = (Parts::default(), vec![0; READ_BYTES]);
        let (mut at, mut end) = (0, 0);
        loop {
            // What came with the last words of the handshake is in there already.
            let invalid = |e| io::Error::new(ErrorKind::InvalidData, e);
            let ready = self.tls.process_new_packets().map_err(invalid)?;
            let (mut there, closed) = (ready.plaintext_bytes_to_read(), ready.peer_has_closed());
            let mut reader = self.tls.reader();
            while there > 0 {
                let piece = reader.fill_buf()?;
                let taken = piece.len();
                if parts.add(piece, &mut take)? == Taken::Enough {
                    return Ok(());
                }
                there -= taken;
                reader.consume(taken);
            }
            if closed {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if at == end {
                (at, end) = (0, self.read(&mut cipher)?);
            }
            let mut left = &cipher[at..end];
            self.tls.read_tls(&mut left)?;
            at = end - left.len();
        }
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&*self.socket).read(buf) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                read => return read,
            }
        }
    }
}

/// What has come of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// Which.
    pub number: u32,
    /// Some of it.
    pub bytes: &'a [u8],
    /// Bytes of it that are still to come.
    pub left: usize,
}

/// What becomes of a connection after some of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The next.
    More,
    /// This was the last.
    Enough,
}

/// Where what comes has got to.
#[derive(Default)]
struct Parts {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes of the part that are still to come.
    left: usize,
}

impl Parts {
    fn add(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(Part<'_>) -> io::Result<Taken>,
    ) -> io::Result<Taken> {
        while !bytes.is_empty() {
            if self.have < HEAD_BYTES {
                let more = bytes.len().min(HEAD_BYTES - self.have);
                self.head[self.have..self.have + more].copy_from_slice(&bytes[..more]);
                (self.have, bytes) = (self.have + more, &bytes[more..]);
                if self.have < HEAD_BYTES {
                    break;
                }
                self.left = word(&self.head[4..]) as usize;
                if self.left > BULK_PART_BYTES_MAX {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "a part that is too long",
                    ));
                }
            }
            let (here, after) = bytes.split_at(bytes.len().min(self.left));
            (self.left, bytes) = (self.left - here.len(), after);
            if self.left == 0 {
                self.have = 0;
            }
            let part = Part { number: word(&self.head), bytes: here, left: self.left };
            if take(part)? == Taken::Enough {
                return Ok(Taken::Enough);
            }
        }
        Ok(Taken::More)
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn head(number: u32, length: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&number.to_le_bytes());
    head[4..].copy_from_slice(&(length as u32).to_le_bytes());
    head
}

/// The side that sends. To be kept until the other side is known to have all of it: a socket that
/// is closed with something unread in it takes back what is on its way (tcp(7)).
pub struct Sender {
    bulk: Bulk,
    waiting: usize,
}

impl Sender {
    /// What ends it from elsewhere.
    pub fn breaker(&self) -> Breaker {
        self.bulk.breaker()
    }

    /// One part; small ones wait until there are more, or for [`Sender::flush`].
    ///
    /// # Errors
    /// When it is too long, or the other side takes no more.
    pub fn part(&mut self, number: u32, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > BULK_PART_BYTES_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let head = head(number, bytes.len());
        let mut writer = self.bulk.tls.writer();
        // In one record, if it is small.
        let sent = writer.write_vectored(&[IoSlice::new(&head), IoSlice::new(bytes)])?;
        let sent_of_head = sent.min(HEAD_BYTES);
        writer.write_all(&head[sent_of_head..])?;
        writer.write_all(&bytes[sent - sent_of_head..])?;
        self.waiting += HEAD_BYTES + bytes.len();
        if self.waiting >= SEND_BYTES { self.flush() } else { Ok(()) }
    }

    /// What waits is sent.
    ///
    /// # Errors
    /// As for [`Sender::part`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.waiting = 0;
        while self.bulk.tls.wants_write() {
            match self.bulk.tls.write_tls(&mut &*self.bulk.socket) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_come_out_as_they_went_in_however_they_are_cut(
            parts in prop::collection::vec(
                (any::<u32>(), prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            piece in 1usize..64,
        ) {
            let written = |(number, bytes): &(u32, Vec<u8>)| {
                [&head(*number, bytes.len())[..], bytes].concat()
            };
            let bytes: Vec<u8> = parts.iter().flat_map(written).collect();
            let (mut state, mut out, mut one) = (Parts::default(), Vec::new(), Vec::new());
            let mut take = |part: Part<'_>| {
                one.extend_from_slice(part.bytes);
                if part.left == 0 {
                    out.push((part.number, std::mem::take(&mut one)));
                }
                Ok(Taken::More)
            };
            for cut in bytes.chunks(piece) {
                state.add(cut, &mut take).unwrap();
            }
            prop_assert_eq!(out, parts);
        }

        #[test]
        fn prefaces_are_read_as_they_were_written(job: u32, trace in "[a-z0-9]{1,16}") {
            let preface = Preface { job, trace };
            prop_assert_eq!(Preface::read(&preface.written().unwrap()), Some(preface));
        }

        #[test]
        fn what_is_no_preface_leads_nowhere(bytes: [u8; PREFACE_BYTES]) {
            if let Some(preface) = Preface::read(&bytes) {
                prop_assert_eq!(preface.written(), Some(bytes));
            }
        }
    }

    #[test]
    fn no_path_is_made_of_a_preface() {
        for trace in ["", "a/b", "..", "a b", "0123456789abcdef0"] {
            let preface = Preface { job: 1, trace: trace.into() };
            assert_eq!(preface.written(), None, "{trace}");
        }
        let mut bytes = Preface { job: 1, trace: "ab".into() }.written().unwrap();
        bytes[9] = b'/';
        assert_eq!(Preface::read(&bytes), None);
    }

    #[test]
    fn absurd_lengths_are_refused() {
        let bytes = head(1, BULK_PART_BYTES_MAX + 1);
        assert!(Parts::default().add(&bytes, &mut |_| Ok(Taken::More)).is_err());
    }
}
