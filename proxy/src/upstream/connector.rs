//! Opens connections: resolve, judge, dial (Happy Eyeballs), TLS, HTTP, all within one limit.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use nono_credentials::TlsFault;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;
use tower::Service as _;

use super::line::Line;
use super::outer::{Outer, OuterError};
use super::resolver::{ResolveError, Resolver};
use super::sender::Sender;
use super::{Destination, http1, http2};
use crate::address::{Reach, classify};
use crate::allowlist::HostSet;
use crate::config::Settings;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::loopback::send_at_once;
use crate::target::{Scheme, Target};

/// How long the first address family is tried alone (RFC 8305 §5 recommends 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(super) struct Connector {
    limit: Duration,
    /// The proxy's own listener.
    own: SocketAddr,
    /// The proxy that leads to the world, if there is one.
    outer: Option<Arc<Outer>>,
    /// What no client may reach.
    denied: Arc<HostSet>,
}

impl Connector {
    pub(super) fn new(settings: &Settings, own: SocketAddr) -> Self {
        Self {
            limit: settings.limits.connect,
            own,
            outer: settings.outer.clone(),
            denied: Arc::clone(&settings.denied),
        }
    }

    /// How long connecting may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// The proxy on the way to `target`, if there is one.
    pub(super) fn outer(&self, target: &Target, reach: Reach) -> Option<&Arc<Outer>> {
        // What may only be nearby is not looked for elsewhere.
        let is_near = reach == Reach::PrivateOnly;
        self.outer.as_ref().filter(|outer| !is_near && outer.covers(target))
    }

    /// Opens a connection to `target`, for whatever a tunnel carries.
    pub(super) async fn dial(&self, target: &Target, reach: Reach) -> Result<Line, Error> {
        self.within_limit(target, reach, self.line(target, reach)).await
    }

    /// Opens a connection that speaks HTTP to the end of `to`; `freed` is told when exchanges on
    /// one that is shared end.
    pub(super) async fn connect(
        &self,
        to: &Destination,
        freed: &Arc<Notify>,
    ) -> Result<Sender, Error> {
        self.within_limit(to.target(), to.reach(), self.handshake(to, freed)).await
    }

    async fn within_limit<T>(
        &self,
        target: &Target,
        reach: Reach,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // What is near is there once all others have had their turn. A timer, being nearer than
        // those of requests, would wake the runtime by a system call to hear of it.
        let mut connecting = pin!(connecting);
        if let Some(connected) = connecting.as_mut().now_or_never() {
            return connected;
        }
        yield_now().await;
        timeout(self.limit, connecting).await.unwrap_or_else(|_| {
            Err(match self.outer(target, reach) {
                Some(_) => Failure::OuterTimeout.into(),
                None => Failure::ConnectTimeout.into(),
            })
        })
    }

    async fn handshake(&self, to: &Destination, freed: &Arc<Notify>) -> Result<Sender, Error> {
        if let Some(outer) = to.forwarder() {
            return Ok(speak_http1(self.line_to(outer).await?));
        }
        let line = self.line(to.target(), to.reach()).await?;
        match to.tls() {
            None => Ok(speak_http1(line)),
            Some(tls) => {
                let line = line.secure(to.target(), tls).await.map_err(|error| explain(&error))?;
                if !line.speaks_http2() {
                    return Ok(speak_http1(line));
                }
                let opened = http2::Connection::open(line, Arc::clone(freed)).await;
                opened.map(Sender::Http2).map_err(no_http)
            }
        }
    }

    /// A connection to `target`, through the outer proxy if that is on the way; addresses behind
    /// it are for that one to judge.
    async fn line(&self, target: &Target, reach: Reach) -> Result<Line, Error> {
        match self.outer(target, reach) {
            None => self.tcp(target, reach, Some(&self.denied)).await,
            Some(outer) => {
                let line = self.line_to(outer).await?;
                outer.open(line, target).await.map_err(|error| explain(&error))
            }
        }
    }

    /// A connection to the outer proxy itself.
    async fn line_to(&self, outer: &Outer) -> Result<Line, Error> {
        let connected = async {
            // Clients do not reach it, but what it leads to.
            let line = self.tcp(&outer.target, Reach::Named, None).await?;
            match &outer.tls {
                None => Ok(line),
                Some(tls) => line.secure(&outer.target, tls).await.map_err(|error| explain(&error)),
            }
        };
        connected.await.map_err(|error| match error {
            Error::Upstream(Failure::Unreachable(reason)) => {
                Failure::Outer(format!("it cannot be reached: {reason}")).into()
            }
            Error::Upstream(Failure::Insecure(fault)) => {
                Failure::Outer(format!("TLS cannot be spoken to it: {}", fault.reason)).into()
            }
            Error::Upstream(Failure::Unresolved) => {
                Failure::Outer("its name does not resolve".into()).into()
            }
            Error::Upstream(Failure::ConnectTimeout) => Failure::OuterTimeout.into(),
            other => other,
        })
    }

    /// A TCP connection to `target`, at an address within `reach` that is not `denied`.
    async fn tcp(
        &self,
        target: &Target,
        reach: Reach,
        denied: Option<&Arc<HostSet>>,
    ) -> Result<Line, Error> {
        if let Some(ip) = target.ip() {
            // A literal address never meets the resolver; whether it is denied was judged by the rules.
            reach.check(classify(ip)).map_err(Refusal::Address)?;
            return tcp_at((ip, target.port()).into()).await.map_err(|error| explain(&error));
        }
        let mut named = self.named(Resolver {
            reach,
            port: target.port(),
            own: self.own,
            denied: denied.cloned(),
        });
        let stream = named.call(uri(target)?).await.map_err(|error| explain(&error))?.into_inner();
        let peer = stream.peer_addr().map_err(|error| explain(&error))?;
        // Failing costs only latency.
        let _ = stream.set_nodelay(true);
        send_at_once(&stream, peer.ip());
        Ok(Line::Tcp(stream, peer))
    }

    /// Connects to names: resolves them, judges their addresses, and tries these.
    fn named(&self, resolver: Resolver) -> HttpConnector<Resolver> {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        // Divided among the addresses.
        tcp.set_connect_timeout(Some(self.limit));
        tcp.set_happy_eyeballs_timeout(Some(HEAD_START));
        tcp
    }
}

/// A connection to `peer`, of which all is set before it is there: that is done once, then.
async fn tcp_at(peer: SocketAddr) -> io::Result<Line> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Failing costs only latency.
    let _ = socket.set_nodelay(true);
    send_at_once(&socket, peer.ip());
    Ok(Line::Tcp(socket.connect(peer).await?, peer))
}

fn speak_http1(line: Line) -> Sender {
    Sender::Http1(http1::Connection::new(line))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn no_http(error: hyper::Error) -> Error {
    Failure::BadResponse(error.to_string()).into()
}

fn uri(target: &Target) -> Result<Uri, Refusal> {
    target.to_uri(Scheme::Http).ok_or(Refusal::Malformed("its host cannot stand in a URL"))
}

/// Finds in a connector's error what the layers can tell a client of.
fn explain(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    let mut last = error;
    while let Some(current) = cause {
        match current.downcast_ref::<ResolveError>() {
            Some(ResolveError::OutOfReach(why)) => return Refusal::Address(*why).into(),
            Some(ResolveError::Denied(rule)) => return Error::Denied(rule.clone()),
            Some(ResolveError::OwnListener) => return Refusal::OwnListener.into(),
            Some(ResolveError::Unknown(_)) => return Failure::Unresolved.into(),
            None => {}
        }
        if let Some(error) = current.downcast_ref::<OuterError>() {
            return Failure::Outer(error.to_string()).into();
        }
        if let Some(fault) = TlsFault::of(current) {
            return Failure::Insecure(fault).into();
        }
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::TimedOut
        {
            return Failure::ConnectTimeout.into();
        }
        last = current;
        cause = current.source();
    }
    Failure::Unreachable(last.to_string()).into()
}
