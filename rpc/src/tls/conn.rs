//! One connection after its handshake. It watches the credentials and ends when its other end is
//! not believed any more, also while nothing is said.

use super::verify::{MemberVerifier, Peer, PinVerifier};
use super::{Caller, Credentials, Protocol, Refusal, Trust, anonymous_config};
use crate::bulk::{Bulk, Preface};
use crate::link::Link;
use krg_types::MemberId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::transport::server::Connected;

/// A caller without a certificate has so long, seconds.
const ANONYMOUS_LIFE_S: u64 = 30;

/// A connection to or from another node, inside TLS.
pub struct Conn {
    io: TlsStream<TcpStream>,
    caller: Caller,
    /// Ready when the connection must end.
    end: Pin<Box<dyn Future<Output = Refusal> + Send>>,
    ended: Option<Refusal>,
    /// The place among the callers without a certificate.
    _place: Option<OwnedSemaphorePermit>,
}

impl Conn {
    /// With a member at the other end, for as long as it is one.
    pub(super) fn member(
        io: TlsStream<TcpStream>,
        peer: Peer,
        trust: watch::Receiver<Trust>,
    ) -> io::Result<Conn> {
        let caller = caller(&io, Some(&peer))?;
        let end = Box::pin(until_refused(peer, trust));
        Ok(Conn { io, caller, end, ended: None, _place: None })
    }

    /// With somebody who has no certificate, for a short while.
    pub(super) fn anonymous(
        io: TlsStream<TcpStream>,
        place: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Conn> {
        let caller = caller(&io, None)?;
        let at = Instant::now() + Duration::from_secs(ANONYMOUS_LIFE_S);
        let end = Box::pin(async move {
            sleep_until(at).await;
            Refusal::Anonymous(ANONYMOUS_LIFE_S)
        });
        Ok(Conn { io, caller, end, ended: None, _place: place })
    }

    /// Who is at the other end.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// For the images of a job. It still ends when its other end is not believed any more.
    pub(super) fn into_bulk(self) -> io::Result<Bulk> {
        let (socket, tls) = parts(self.io);
        let (watched, over) = oneshot::channel::<()>();
        let bulk = Bulk::new(socket.into_std()?, tls, self.caller, watched)?;
        let (breaker, end, member) = (bulk.breaker(), self.end, bulk.member());
        tokio::spawn(async move {
            tokio::select! {
                refusal = end => {
                    tracing::info!(%member, why = %refusal, "a connection is ended");
                    breaker.pull();
                }
                // Nothing is ever sent there: it is dropped with the connection.
                _ = over => {}
            }
        });
        Ok(bulk)
    }

    /// For frames instead of a stream. It still ends when its other end is not believed any more;
    /// called within a tokio runtime, which sees to that.
    ///
    /// # Errors
    /// When the other end is no member, or the system has no thread for it.
    pub fn into_link(self) -> io::Result<Arc<Link>> {
        let (socket, tls) = parts(self.io);
        let link = Link::new(socket.into_std()?, tls, self.caller)?;
        let (weak, end) = (Arc::downgrade(&link), self.end);
        let ended = link.ended();
        tokio::spawn(async move {
            tokio::select! {
                refusal = end => if let Some(link) = weak.upgrade() {
                    tracing::info!(member = %link.member(), why = %refusal, "a link is ended");
                    link.close();
                },
                _ = ended => {}
            }
        });
        Ok(link)
    }

    /// An error once the connection must end; else the task is woken when it must.
    fn believed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ended.is_none()
            && let Poll::Ready(refusal) = self.end.as_mut().poll(cx)
        {
            let peer = self.caller.remote;
            tracing::info!(%peer, why = %refusal, "a connection is ended");
            self.ended = Some(refusal);
        }
        match &self.ended {
            Some(refusal) => Err(refused(refusal.clone())),
            None => Ok(()),
        }
    }
}

fn parts(io: TlsStream<TcpStream>) -> (TcpStream, rustls::Connection) {
    match io {
        TlsStream::Client(io) => {
            let (socket, tls) = io.into_inner();
            (socket, rustls::Connection::Client(tls))
        }
        TlsStream::Server(io) => {
            let (socket, tls) = io.into_inner();
            (socket, rustls::Connection::Server(tls))
        }
    }
}

fn caller(io: &TlsStream<TcpStream>, peer: Option<&Peer>) -> io::Result<Caller> {
    let tcp = io.get_ref().0;
    let member = peer.map(|p| p.member);
    Ok(Caller { member, remote: tcp.peer_addr()?, local: tcp.local_addr()? })
}

async fn until_refused(mut peer: Peer, mut trust: watch::Receiver<Trust>) -> Refusal {
    loop {
        if let Err(refusal) = peer.judge(&trust.borrow_and_update()) {
            return refusal;
        }
        if trust.changed().await.is_err() {
            // The credentials are gone: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// In TLS 1.3 a client is refused only after it thinks the handshake done: it reads an alert.
fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => refused(Refusal::from_alert(*alert)),
        _ => error,
    }
}

/// Connects to a member and to nobody else.
///
/// # Errors
/// When it cannot be reached, does not speak this protocol, or either does not believe the other.
pub async fn to_member(
    address: &str,
    member: MemberId,
    credentials: &Credentials,
    protocol: Protocol,
) -> io::Result<Conn> {
    reach(address, &[], member, credentials, protocol).await
}

/// To who waits for the images of a job on a member; called within a tokio runtime.
///
/// # Errors
/// As for [`to_member`].
pub async fn images_to(
    address: &str,
    preface: &Preface,
    member: MemberId,
    credentials: &Credentials,
) -> io::Result<Bulk> {
    let preface = preface.written().ok_or(io::ErrorKind::InvalidInput)?;
    reach(address, &preface, member, credentials, Protocol::Images).await?.into_bulk()
}

async fn reach(
    address: &str,
    preface: &[u8],
    member: MemberId,
    credentials: &Credentials,
    protocol: Protocol,
) -> io::Result<Conn> {
    let trust = credentials.now();
    let verifier = MemberVerifier::new(trust.clone(), Some(member));
    let config = trust.client_config(verifier.clone(), protocol).map_err(io::Error::other)?;
    let connected = connect(address, preface, config).await;
    match (connected, verifier.verdict()) {
        (_, Some(Err(refusal))) => Err(refused(refusal)),
        (Ok(io), Some(Ok(peer))) => Conn::member(io, peer, credentials.watch()),
        (Ok(_), None) => Err(refused(Refusal::NoMember)),
        (Err(e), _) => Err(explained(e)),
    }
}

/// Connects to a node of the cluster whose authority has this fingerprint.
pub(crate) async fn to_pinned(address: &str, pin: [u8; 32]) -> io::Result<Conn> {
    let verifier = PinVerifier::new(pin);
    let config = anonymous_config(verifier.clone()).map_err(io::Error::other)?;
    let connected = connect(address, &[], config).await;
    match verifier.refusal() {
        Some(refusal) => Err(refused(refusal)),
        None => Conn::anonymous(connected.map_err(explained)?, None),
    }
}

async fn connect(
    address: &str,
    preface: &[u8],
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    tcp.write_all(preface).await?;
    // Which name is asked for does not matter: the verifiers look at the member.
    let name = ServerName::try_from("member.krg").map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(TlsStream::Client(connector.connect(name, tcp).await?))
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, refusal)
}

impl Connected for Conn {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.believed(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf).map_err(explained)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.believed(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.believed(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.believed(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
