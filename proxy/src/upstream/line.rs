//! What an upstream's bytes come and go on: TCP, and as many layers of TLS on it as the way there
//! has.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::ahead::{self, Ahead};
use crate::target::Target;

/// See the module.
#[derive(Debug)]
pub(crate) enum Line {
    /// The socket itself, and the address at its other end.
    Tcp(TcpStream, SocketAddr),
    /// TLS on another line.
    Tls(Box<TlsStream<Ahead<Self>>>),
}

impl Line {
    /// Speaks TLS on this line, to the name or address that `target` has.
    ///
    /// # Errors
    /// The handshake failed; or the name cannot stand in a certificate.
    pub(super) async fn secure(self, target: &Target, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = match target.ip() {
            Some(ip) => ServerName::from(ip),
            None => ServerName::try_from(target.host().to_string()).map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "its name cannot stand in a certificate",
                )
            })?,
        };
        let line = Ahead::new(Bytes::new(), self);
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, line).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether both ends agreed on HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Tcp(..) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The socket, if the bytes on it are those of this line.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp, _) => Some(tcp),
            Self::Tls(_) => None,
        }
    }

    /// The address at the other end of the socket.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.socket().1
    }

    /// Has it end in a way that cannot be taken for the end of what was sent on it.
    pub(crate) fn reset_when_dropped(&self) {
        // Fails only when the other end has left.
        let _ = self.socket().0.set_zero_linger();
    }

    /// The socket beneath all layers, and the address at its other end.
    fn socket(&self) -> (&TcpStream, SocketAddr) {
        match self {
            Self::Tcp(tcp, peer) => (tcp, *peer),
            Self::Tls(tls) => tls.get_ref().0.inner().socket(),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp, _) => Pin::new(tcp).poll_read(cx, out),
            Self::Tls(tls) => ahead::poll_read(tls, cx, out, |tls| tls.get_ref().0.is_ahead()),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp, _) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp, _) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp, _) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp, _) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp, _) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
