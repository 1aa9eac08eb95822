//! Opens connections: resolve, judge, dial (Happy Eyeballs), TLS, HTTP, all within one limit.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryFutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::client::conn::http2;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::outer::{Outer, OuterError};
use super::resolver::{ResolveError, Resolver};
use super::sender::Sender;
use super::{Destination, http1};
use crate::address::{Reach, classify};
use crate::config::Limits;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::target::{Scheme, Target};

/// How long the first address family is tried alone (RFC 8305 §5 recommends 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);

/// How much an HTTP/2 upstream may send ahead of what was passed on, per response and in all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// The longest response head over HTTP/2, as its fields' sizes are counted there.
const HEADER_LIST_LIMIT: u32 = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Connector {
    limit: Duration,
    /// The proxy's own listener.
    own: SocketAddr,
    /// The proxy that leads to the world, if there is one.
    outer: Option<Arc<Outer>>,
}

impl Connector {
    pub(super) fn new(limits: &Limits, own: SocketAddr, outer: Option<Arc<Outer>>) -> Self {
        Self { limit: limits.connect, own, outer }
    }

    /// Opens a plain TCP connection to `target`.
    pub(super) async fn dial(&self, target: &Target, reach: Reach) -> Result<TcpStream, Error> {
        let uri = uri(target, Scheme::Http)?;
        let mut tcp = self.tcp(target, reach)?;
        match timeout(self.limit, tcp.call(uri)).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) => Err(explain(&*error)),
            Err(_) => Err(Failure::ConnectTimeout.into()),
        }
    }

    /// Opens a connection that speaks HTTP to the end of `to`.
    pub(super) async fn connect(&self, to: &Destination) -> Result<Sender, Error> {
        match timeout(self.limit, self.handshake(to)).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::ConnectTimeout.into()),
        }
    }

    async fn handshake(&self, to: &Destination) -> Result<Sender, Error> {
        let mut tcp = self.tcp(to.target(), to.reach())?;
        let uri = to.uri().clone();
        match to.tls() {
            None => {
                let stream = tcp.call(uri).await.map_err(|error| explain(&*error))?;
                Ok(speak_http1(MaybeHttpsStream::Http(stream)))
            }
            Some(tls) => {
                let mut https = over_tls(tcp, to.target(), tls)?;
                let stream = https.call(uri).await.map_err(|error| explain(&*error))?;
                if stream.connected().is_negotiated_h2() {
                    let peer = peer(&stream);
                    speak_http2(stream, peer).await
                } else {
                    Ok(speak_http1(stream))
                }
            }
        }
    }

    /// A connector that dials only addresses within `reach`; those of a host behind the outer
    /// proxy are for that one to judge.
    fn tcp(&self, target: &Target, reach: Reach) -> Result<Dialer, Refusal> {
        // What may only be nearby is not looked for elsewhere.
        let is_near = reach == Reach::PrivateOnly;
        let outer = self.outer.as_ref().filter(|outer| !is_near && outer.covers(target));
        let Some(outer) = outer else {
            return Ok(Dialer { tcp: self.direct(target, reach)?, through: None });
        };
        let through = (Arc::clone(outer), target.clone(), uri(&outer.target, Scheme::Http)?);
        let tcp = self.direct(&outer.target, Reach::Named)?;
        Ok(Dialer { tcp, through: Some(Box::new(through)) })
    }

    fn direct(&self, target: &Target, reach: Reach) -> Result<HttpConnector<Resolver>, Refusal> {
        // A literal address never meets the resolver.
        if let Some(ip) = target.ip() {
            reach.check(classify(ip)).map_err(Refusal::Address)?;
        }
        let mut tcp = HttpConnector::new_with_resolver(Resolver {
            reach,
            port: target.port(),
            own: self.own,
        });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.limit));
        tcp.set_happy_eyeballs_timeout(Some(HEAD_START));
        Ok(tcp)
    }
}

/// Connects to a host, through the outer proxy if there is one.
#[derive(Clone)]
struct Dialer {
    tcp: HttpConnector<Resolver>,
    /// The outer proxy, what it leads to, and where it is.
    through: Option<Box<(Arc<Outer>, Target, Uri)>>,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self.through.take() {
            None => Box::pin(self.tcp.call(uri).map_err(Into::into)),
            Some(through) => {
                let (outer, target, at) = *through;
                let connecting = self.tcp.call(at);
                Box::pin(async move {
                    let stream = connecting.await?.into_inner();
                    Ok(TokioIo::new(outer.open(stream, &target).await?))
                })
            }
        }
    }
}

/// `tcp` with TLS on it, for the name or address that `target` has.
fn over_tls(
    tcp: Dialer,
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<HttpsConnector<Dialer>, Error> {
    let name = match target.ip() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(target.host().to_string())
            .map_err(|_| Failure::Unreachable("its name cannot stand in a certificate".into()))?,
    };
    let resolver = Arc::new(FixedServerNameResolver::new(name));
    Ok(HttpsConnector::new(tcp, Arc::clone(tls), true, resolver))
}

fn speak_http1(io: MaybeHttpsStream<TokioIo<TcpStream>>) -> Sender {
    let peer = peer(&io);
    Sender::Http1(http1::Connection::new(io), peer)
}

fn peer(io: &MaybeHttpsStream<TokioIo<TcpStream>>) -> Option<SocketAddr> {
    let tcp = match io {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    tcp.peer_addr().ok()
}

async fn speak_http2<T>(io: T, peer: Option<SocketAddr>) -> Result<Sender, Error>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_LIMIT)
        .handshake(io)
        .await
        .map_err(no_http)?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender, peer))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn no_http(error: hyper::Error) -> Error {
    Failure::BadResponse(error.to_string()).into()
}

fn uri(target: &Target, scheme: Scheme) -> Result<Uri, Refusal> {
    target.to_uri(scheme).ok_or(Refusal::Malformed("its host cannot stand in a URL"))
}

/// Finds in a connector's error what the layers can tell a client of.
fn explain(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    let mut last = error;
    while let Some(current) = cause {
        match current.downcast_ref::<ResolveError>() {
            Some(ResolveError::OutOfReach(why)) => return Refusal::Address(*why).into(),
            Some(ResolveError::OwnListener) => return Refusal::OwnListener.into(),
            Some(ResolveError::Unknown(_)) => return Failure::Unresolved.into(),
            None => {}
        }
        if let Some(error) = current.downcast_ref::<OuterError>() {
            return Failure::Outer(error.to_string()).into();
        }
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return Failure::ConnectTimeout.into();
        }
        last = current;
        cause = current.source();
    }
    Failure::Unreachable(last.to_string()).into()
}
