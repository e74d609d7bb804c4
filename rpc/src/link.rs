//! One connection for file data after its handshake. Any thread may send; one at a time receives.
//!
//! Nothing here waits for the other side but `receive`: what the socket does not take is sent by
//! the link's own thread, so that a peer that does not read holds up nobody who wants to tell it
//! something. Who reads requests waits for `has_room` before it takes more of them.

use crate::frame::{self, Frame};
use crate::tls::Caller;
use bytes::BytesMut;
use krg_types::MemberId;
use krg_types::limits::LINK_WAITING_BYTES_MAX;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, sendmsg, setsockopt, sockopt};
use rustls::Connection;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Ciphertext read from the socket at once, bytes.
const READ_BYTES: usize = 256 << 10;
/// A peer that takes nothing for so long is gone.
const STALL_MAX: Duration = Duration::from_secs(10);

/// A silent peer is asked after so many seconds, so often, and so many times (tcp(7)).
const KEEP_IDLE_S: u32 = 5;
const KEEP_INTERVAL_S: u32 = 2;
const KEEP_COUNT: u32 = 4;
/// What it was sent and does not acknowledge ends the connection, ms.
const USER_TIMEOUT_MS: u32 = 12_000;

/// A connection to or from the file server of a node.
pub struct Link {
    socket: TcpStream,
    state: Mutex<State>,
    /// Something waits to be sent, or the link is closed.
    waiting: Condvar,
    /// Of what waits, about.
    waiting_bytes: AtomicUsize,
    member: MemberId,
    ended: watch::Sender<bool>,
}

struct State {
    tls: Connection,
    closed: bool,
}

/// What one receiver has got so far.
pub struct Inbox {
    cipher: Vec<u8>,
    plain: BytesMut,
    begun: bool,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { cipher: vec![0; READ_BYTES], plain: BytesMut::new(), begun: false }
    }
}

impl Inbox {
    /// Has something of the next frame come already?
    pub fn has_more(&self) -> bool {
        !self.plain.is_empty()
    }
}

impl Link {
    /// Over a socket whose handshake is done. A thread of the link's own ends with it.
    pub(crate) fn new(
        socket: TcpStream,
        mut tls: Connection,
        caller: Caller,
    ) -> io::Result<Arc<Link>> {
        let member = caller.member.ok_or(ErrorKind::PermissionDenied)?;
        socket.set_nonblocking(false)?;
        // Who has lost its power says nothing: what it has open and locked must not stay for ever.
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpKeepIdle, &KEEP_IDLE_S)?;
        setsockopt(&socket, sockopt::TcpKeepInterval, &KEEP_INTERVAL_S)?;
        setsockopt(&socket, sockopt::TcpKeepCount, &KEEP_COUNT)?;
        setsockopt(&socket, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
        // What is sent is bounded by who sends it, not here.
        tls.set_buffer_limit(None);
        let link = Arc::new(Link {
            socket,
            state: Mutex::new(State { tls, closed: false }),
            waiting: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
            member,
            ended: watch::Sender::new(false),
        });
        let weak = Arc::downgrade(&link);
        let writer = std::thread::Builder::new().name("link".into());
        writer.stack_size(128 << 10).spawn(move || drain(&weak))?;
        Ok(link)
    }

    /// Who is at the other end, as its certificate says.
    pub fn member(&self) -> MemberId {
        self.member
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame; its data may be in several pieces. Does not wait for the peer.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn send(&self, id: u64, head: &[u8], data: &[&[u8]]) -> io::Result<()> {
        let data_bytes = data.iter().map(|d| d.len()).sum();
        let prefix = frame::prefix(id, head.len(), data_bytes);
        let mut state = self.state();
        if state.closed {
            return Err(ErrorKind::NotConnected.into());
        }
        let was_waiting = state.tls.wants_write();
        let mut writer = state.tls.writer();
        // The prefix and the head in one record: most frames have no data.
        let mut sent = writer.write_vectored(&[IoSlice::new(&prefix), IoSlice::new(head)])?;
        if sent < prefix.len() {
            writer.write_all(&prefix[sent..])?;
            sent = prefix.len();
        }
        writer.write_all(&head[sent - prefix.len()..])?;
        for piece in data {
            writer.write_all(piece)?;
        }
        if was_waiting {
            self.waiting_bytes.fetch_add(head.len() + data_bytes, Ordering::Relaxed);
            return Ok(());
        }
        match write_out(&mut state.tls, &self.socket) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.waiting_bytes.store(head.len() + data_bytes, Ordering::Relaxed);
                self.waiting.notify_all();
                Ok(())
            }
            Err(e) => {
                self.close_locked(&mut state);
                Err(e)
            }
        }
    }

    /// May more be asked of who answers on this link?
    pub fn has_room(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) < LINK_WAITING_BYTES_MAX
    }

    /// Waits until there is room, or the link is closed.
    pub fn wait_for_room(&self) {
        let mut state = self.state();
        while !state.closed && !self.has_room() {
            state = self.waiting.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the next frame, for as long as the link lives.
    ///
    /// # Errors
    /// When it ends: UnexpectedEof if the peer closed it, InvalidData for what is no frame.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<Frame> {
        loop {
            let bad = |e| io::Error::new(ErrorKind::InvalidData, e);
            // What came before it was closed is nothing to be done any more.
            if *self.ended.borrow() {
                return Err(ErrorKind::NotConnected.into());
            }
            if let Some(frame) = frame::take(&mut inbox.plain).map_err(bad)? {
                return Ok(frame);
            }
            if !std::mem::replace(&mut inbox.begun, true) {
                // What came with the last words of the handshake is in there already.
                self.decrypt(&[], &mut inbox.plain)?;
                continue;
            }
            match (&self.socket).read(&mut inbox.cipher) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.decrypt(&inbox.cipher[..n], &mut inbox.plain)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Adds the plain text of `cipher` to `plain`.
    fn decrypt(&self, mut cipher: &[u8], plain: &mut BytesMut) -> io::Result<()> {
        let mut state = self.state();
        loop {
            let invalid = |e| io::Error::new(ErrorKind::InvalidData, e);
            let ready = state.tls.process_new_packets().map_err(invalid)?;
            let (there, closed) = (ready.plaintext_bytes_to_read(), ready.peer_has_closed());
            plain.reserve(there);
            let (mut reader, mut left) = (state.tls.reader(), there);
            while left > 0 {
                let piece = reader.fill_buf()?;
                plain.extend_from_slice(piece);
                let taken = piece.len();
                left -= taken;
                reader.consume(taken);
            }
            if closed {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if cipher.is_empty() {
                return Ok(());
            }
            state.tls.read_tls(&mut cipher)?;
        }
    }

    /// Ends it: who receives and who sends gets an error.
    pub fn close(&self) {
        self.close_locked(&mut self.state());
    }

    /// Ready when the link has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.subscribe();
        async move {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    fn close_locked(&self, state: &mut State) {
        state.closed = true;
        self.ended.send_replace(true);
        let _ = self.socket.shutdown(Shutdown::Both);
        self.waiting.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link {{ {} }}", self.member)
    }
}

/// A socket that is written to without waiting, while another thread waits to read from it.
struct Unwaiting<'a>(&'a TcpStream);

impl Write for Unwaiting<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        Ok(sendmsg::<()>(self.0.as_raw_fd(), bufs, &[], flags, None)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything has gone out if this is true; else the socket takes no more now.
fn write_out(tls: &mut Connection, socket: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut Unwaiting(socket)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// Waits until the socket takes more.
fn until_writable(socket: &TcpStream) -> io::Result<()> {
    let limit = PollTimeout::try_from(STALL_MAX).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], limit) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sends what the socket did not take at once, as it takes it.
fn drain(link: &Weak<Link>) {
    loop {
        let Some(link) = link.upgrade() else { return };
        let mut state = link.state();
        if !state.closed && !state.tls.wants_write() {
            // Not for ever: a link that nobody else holds any more is to end.
            let waited = link.waiting.wait_timeout(state, STALL_MAX);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return;
        }
        if !state.tls.wants_write() {
            continue;
        }
        drop(state);
        let writable = until_writable(&link.socket);
        let mut state = link.state();
        match writable.and_then(|()| write_out(&mut state.tls, &link.socket)) {
            Ok(true) => {
                link.waiting_bytes.store(0, Ordering::Relaxed);
                link.waiting.notify_all();
            }
            Ok(false) => {}
            Err(e) => {
                tracing::info!(member = %link.member, error = %e, "a peer takes nothing");
                link.close_locked(&mut state);
                return;
            }
        }
    }
}
