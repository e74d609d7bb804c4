//! The connections that come to a listener. Handshakes run beside each other and each has a
//! deadline, so that nobody who dawdles or talks nonsense keeps others out.

use super::complaint::Complaints;
use super::{Conn, Credentials, MemberVerifier, Protocol};
use crate::bulk::{Bulk, PREFACE_BYTES, Preface};
use krg_types::limits::HANDSHAKES_MAX;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::Stream;

/// A handshake that takes longer, ms, has failed.
const HANDSHAKE_TIMEOUT_MS: u64 = 2_000;
/// A refused caller has so long, ms, to read why.
const LINGER_MS: u64 = 200;
/// Connections of callers without a certificate, at once.
const ANONYMOUS_MAX: usize = 64;
/// After the system had no descriptor or memory for a connection, ms.
const ACCEPT_PAUSE_MS: u64 = 50;

/// What one handshake led to.
struct Outcome {
    remote: SocketAddr,
    /// None: it was given to who makes the handshake.
    result: Result<Option<Conn>, String>,
}

/// The connections that come to a listener, each after its handshake.
pub struct Incoming {
    listener: TcpListener,
    credentials: Arc<Credentials>,
    protocol: Protocol,
    handshakes: JoinSet<Outcome>,
    /// Those that run, oldest first.
    running: VecDeque<(IpAddr, AbortHandle)>,
    anonymous: Arc<Semaphore>,
    complaints: Complaints,
    pause: Option<Pin<Box<Sleep>>>,
    images: Option<ForImages>,
}

/// Who gets the connections that begin with a preface.
type ForImages = mpsc::Sender<(Preface, TcpStream)>;

/// The connections that come to `listener`, for tonic's `serve_with_incoming`. A caller may have
/// no certificate; [`super::members_only`] keeps it from what is not for it.
pub fn incoming(listener: TcpListener, credentials: Arc<Credentials>) -> Incoming {
    Incoming {
        listener,
        credentials,
        protocol: Protocol::Control,
        handshakes: JoinSet::new(),
        running: VecDeque::new(),
        anonymous: Arc::new(Semaphore::new(ANONYMOUS_MAX)),
        complaints: Complaints::new(),
        pause: None,
        images: None,
    }
}

impl Stream for Incoming {
    type Item = io::Result<Conn>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Conn>>> {
        let this = &mut *self;
        while let Poll::Ready((tcp, remote)) = this.poll_accept(cx) {
            this.start(tcp, remote);
        }
        loop {
            match this.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Outcome { result: Ok(Some(conn)), .. }))) => {
                    return Poll::Ready(Some(Ok(conn)));
                }
                Poll::Ready(Some(Ok(Outcome { remote, result: Err(why) }))) => {
                    this.complaints.complain("a connection is refused", remote, &why);
                }
                Poll::Ready(Some(Ok(Outcome { result: Ok(None), .. }))) => {}
                // Put out by `start`, which has said so.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Incoming {
    /// Of those that speak this.
    #[must_use]
    pub fn speaking(self, protocol: Protocol) -> Incoming {
        Incoming { protocol, ..self }
    }

    /// And those that are for the images of a job go there, before any handshake.
    #[must_use]
    pub fn giving_images_to(self, images: mpsc::Sender<(Preface, TcpStream)>) -> Incoming {
        Incoming { images: Some(images), ..self }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok(accepted) => return Poll::Ready(accepted),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    tracing::warn!("no connection can be accepted now: {e}");
                    let at = Instant::now() + Duration::from_millis(ACCEPT_PAUSE_MS);
                    self.pause = Some(Box::pin(sleep_until(at)));
                }
            }
        }
    }

    /// Begins a handshake. When there are too many, the oldest one of the address that has the
    /// most makes room: one who floods puts out himself and not others.
    fn start(&mut self, tcp: TcpStream, remote: SocketAddr) {
        self.running.retain(|(_, task)| !task.is_finished());
        if self.running.len() >= HANDSHAKES_MAX
            && let Some((address, task)) =
                crowded(&self.running).and_then(|n| self.running.remove(n))
        {
            task.abort();
            let port = SocketAddr::new(address, 0);
            self.complaints.complain(
                "a connection is refused",
                port,
                "too many unfinished handshakes",
            );
        }
        let (credentials, places) = (self.credentials.clone(), self.anonymous.clone());
        let (protocol, images) = (self.protocol, self.images.clone());
        let task = self.handshakes.spawn(async move {
            let deadline = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
            let greeted = async {
                let tcp = match images {
                    Some(images) => give_away(tcp, &images).await?,
                    None => Some(tcp),
                };
                let Some(tcp) = tcp else { return Ok(None) };
                handshake(tcp, &credentials, protocol, places).await.map(Some)
            };
            let result = timeout(deadline, greeted).await;
            let late = |_| Err(format!("no handshake within {HANDSHAKE_TIMEOUT_MS} ms"));
            Outcome { remote, result: result.unwrap_or_else(late) }
        });
        self.running.push_back((remote.ip(), task));
    }
}

/// The place of the oldest entry of the address with the most entries.
fn crowded<T>(running: &VecDeque<(IpAddr, T)>) -> Option<usize> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (address, _) in running {
        *counts.entry(*address).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, n)| *n)?.0;
    running.iter().position(|(address, _)| *address == most)
}

/// Gives a connection away that is for images; else it comes back.
async fn give_away(mut tcp: TcpStream, images: &ForImages) -> Result<Option<TcpStream>, String> {
    let text = |e: io::Error| e.to_string();
    let mut first = [0];
    if tcp.peek(&mut first).await.map_err(text)? == 0 || !Preface::begins_with(first[0]) {
        return Ok(Some(tcp));
    }
    let mut bytes = [0; PREFACE_BYTES];
    tcp.read_exact(&mut bytes).await.map_err(text)?;
    let preface = Preface::read(&bytes).ok_or("it is not said for whom it is")?;
    images.try_send((preface, tcp)).map_err(|_| "too many are for jobs")?;
    Ok(None)
}

/// The connection of a member that has come for images, and was given away by the door; called
/// within a tokio runtime.
///
/// # Errors
/// When it is no member, or there is no handshake in time.
pub async fn images_from(
    socket: std::net::TcpStream,
    credentials: &Credentials,
) -> io::Result<Bulk> {
    socket.set_nonblocking(true)?;
    let tcp = TcpStream::from_std(socket)?;
    let nobody = Arc::new(Semaphore::new(0));
    let deadline = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
    let greeted = handshake(tcp, credentials, Protocol::Images, nobody);
    let greeted = timeout(deadline, greeted).await.map_err(io::Error::other)?;
    greeted.map_err(io::Error::other)?.into_bulk()
}

async fn handshake(
    tcp: TcpStream,
    credentials: &Credentials,
    protocol: Protocol,
    places: Arc<Semaphore>,
) -> Result<Conn, String> {
    let text = |e: io::Error| e.to_string();
    // Without it every small answer would wait for the other side's delayed acknowledgement.
    tcp.set_nodelay(true).map_err(text)?;
    let trust = credentials.now();
    let verifier = MemberVerifier::new(trust.clone(), None);
    let config = trust.server_config(verifier.clone(), protocol).map_err(|e| e.to_string())?;
    let accept = TlsAcceptor::from(Arc::new(config)).accept(tcp).into_fallible();
    let io = match accept.await {
        Ok(io) => TlsStream::Server(io),
        Err((e, tcp)) => {
            linger(tcp).await;
            return Err(match verifier.verdict() {
                Some(Err(refusal)) => refusal.to_string(),
                _ => e.to_string(),
            });
        }
    };
    match verifier.verdict() {
        Some(Ok(peer)) => Conn::member(io, peer, credentials.watch()).map_err(text),
        Some(Err(refusal)) => Err(refusal.to_string()),
        None => {
            let place = places.try_acquire_owned();
            let place = place.map_err(|_| "too many callers without a certificate")?;
            Conn::anonymous(io, Some(place)).map_err(text)
        }
    }
}

/// Lets the other side read the alert: to close with bytes unread would reset the connection and
/// throw the alert away.
async fn linger(mut tcp: TcpStream) {
    let drain = async {
        tcp.shutdown().await?;
        let mut rest = [0; 512];
        while tcp.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_millis(LINGER_MS), drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_makes_room() {
        let entry = |n: u8| (IpAddr::from([10, 0, 0, n]), ());
        let running = VecDeque::from([entry(1), entry(2), entry(3), entry(2)]);
        assert_eq!(crowded(&running), Some(1));
        assert_eq!(crowded::<()>(&VecDeque::new()), None);
    }
}
