//! Channels and connections through the simulated network. A connection begins with the caller's
//! membership, in the place of its certificate, and ends when that membership does.

use super::world::PORT;
use krg_meta::Meta;
use krg_rpc::dial::Dial;
use krg_rpc::pool;
use krg_rpc::tls::Caller;
use krg_rpc::tonic::body::Body;
use krg_rpc::tonic::codegen::http::Response;
use krg_rpc::tonic::codegen::http::header::{DATE, HeaderValue};
use krg_rpc::tonic::transport::server::Connected;
use krg_rpc::tonic::transport::{Channel, Uri};
use krg_types::MemberId;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use turmoil::net::{TcpListener, TcpStream};

/// Channels of one member.
pub struct Wire(pub MemberId);

impl Dial for Wire {
    fn channel(&self, _member: MemberId, address: &str) -> Channel {
        let (own, address) = (self.0, address.to_owned());
        pool::channel_with(tower::service_fn(move |_: Uri| {
            let address = address.clone();
            async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_u64(own.get()).await?;
                Ok::<_, io::Error>(stream)
            }
        }))
    }
}

/// A connection that somebody made to us.
struct Accepted {
    stream: TcpStream,
    caller: Caller,
    meta: Meta,
}

/// As the TLS of a member decides: a member, one that has only just become another, or one so
/// new that this node has not heard of it.
fn passes(meta: &Meta, caller: MemberId) -> bool {
    let view = meta.view();
    let superseded = || view.state.members().any(|(_, node)| node.superseded == Some(caller));
    view.state.member(caller).is_some()
        || caller.serial() > view.state.info().newest_serial
        || superseded()
}

impl Accepted {
    async fn begin(mut stream: TcpStream, meta: Meta) -> Option<Accepted> {
        let member = MemberId::from_u64(stream.read_u64().await.ok()?)?;
        let (remote, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let caller = Caller { member: Some(member), remote, local };
        passes(&meta, member).then_some(Accepted { stream, caller, meta })
    }

    fn check(&self) -> io::Result<()> {
        match self.caller.member {
            Some(member) if passes(&self.meta, member) => Ok(()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.check() {
            Ok(()) => Pin::new(&mut self.stream).poll_read(cx, buf),
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.check() {
            Ok(()) => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers the other members until the host ends.
pub async fn serve(meta: Meta) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (accepted, incoming) = mpsc::unbounded_channel();
    let service = meta.service().server();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (accepted, meta) = (accepted.clone(), meta.clone());
            tokio::spawn(async move {
                if let Some(connection) = Accepted::begin(stream, meta).await {
                    let _ = accepted.send(Ok::<_, io::Error>(connection));
                }
            });
        }
    });
    let incoming = UnboundedReceiverStream::new(incoming);
    // The server would put the wall clock's time here, and answers' lengths would depend on it.
    let dated = tower::util::MapResponseLayer::new(|mut response: Response<Body>| {
        response.headers_mut().insert(DATE, HeaderValue::from_static("simulated"));
        response
    });
    let server = pool::server().layer(dated).add_service(service);
    let served = server.serve_with_incoming(incoming).await;
    served.map_err(io::Error::other)
}
