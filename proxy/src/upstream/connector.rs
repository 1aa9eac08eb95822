//! Opens connections: resolve, judge, dial (Happy Eyeballs), TLS, HTTP/1.1, all within one limit.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::resolver::{ResolveError, Resolver};
use super::{Destination, SendRequest};
use crate::address::{Reach, classify};
use crate::config::Limits;
use crate::error::{Error, Refusal, Upstream as Failure};
use crate::target::{Scheme, Target};

/// How long the first address family is tried alone (RFC 8305 §5 recommends 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(super) struct Connector {
    limit: Duration,
}

impl Connector {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limit: limits.connect }
    }

    /// Opens a plain TCP connection to `target`.
    pub(super) async fn dial(&self, target: &Target, reach: Reach) -> Result<TcpStream, Error> {
        let uri = uri(target, Scheme::Http)?;
        let mut tcp = self.tcp(target, reach)?;
        match timeout(self.limit, tcp.call(uri)).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(Failure::ConnectTimeout.into()),
        }
    }

    /// Opens a connection that speaks HTTP/1.1 to the end of `to`.
    pub(super) async fn connect(&self, to: &Destination) -> Result<SendRequest, Error> {
        let (target, reach, tls) = match to {
            Destination::Route(route) => (&route.target, route.reach, route.tls.as_ref()),
            Destination::Open(target, reach) => (target, *reach, None),
        };
        match timeout(self.limit, self.handshake(target, reach, tls)).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::ConnectTimeout.into()),
        }
    }

    async fn handshake(
        &self,
        target: &Target,
        reach: Reach,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<SendRequest, Error> {
        let mut tcp = self.tcp(target, reach)?;
        match tls {
            None => {
                let uri = uri(target, Scheme::Http)?;
                speak_http(tcp.call(uri).await.map_err(|error| explain(&error))?).await
            }
            Some(tls) => {
                let uri = uri(target, Scheme::Https)?;
                let mut https = over_tls(tcp, target, tls)?;
                speak_http(https.call(uri).await.map_err(|error| explain(&*error))?).await
            }
        }
    }

    /// A connector that dials only addresses within `reach`.
    fn tcp(&self, target: &Target, reach: Reach) -> Result<HttpConnector<Resolver>, Refusal> {
        // A literal address never meets the resolver.
        if target.ip().is_some_and(|ip| !reach.permits(classify(ip))) {
            return Err(Refusal::Address);
        }
        let mut tcp = HttpConnector::new_with_resolver(Resolver(reach));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.limit));
        tcp.set_happy_eyeballs_timeout(Some(HEAD_START));
        Ok(tcp)
    }
}

/// `tcp` with TLS on it, for the name or address that `target` has.
fn over_tls(
    tcp: HttpConnector<Resolver>,
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<HttpsConnector<HttpConnector<Resolver>>, Error> {
    let name = match target.ip() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(target.host().to_string())
            .map_err(|_| Failure::Unreachable("its name cannot stand in a certificate".into()))?,
    };
    let resolver = Arc::new(FixedServerNameResolver::new(name));
    Ok(HttpsConnector::new(tcp, Arc::clone(tls), true, resolver))
}

async fn speak_http<T>(io: T) -> Result<SendRequest, Error>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(io).await.map_err(|error| Failure::BadResponse(error.to_string()))?;
    // Ends when the sender is dropped or the upstream closes. Its error reaches the request
    // that it hits; between requests there is nobody to tell.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn uri(target: &Target, scheme: Scheme) -> Result<http::Uri, Refusal> {
    target.to_uri(scheme).ok_or(Refusal::Malformed("its host cannot stand in a URL"))
}

/// Finds in a connector's error what the layers can tell a client of.
fn explain(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    let mut last = error;
    while let Some(current) = cause {
        match current.downcast_ref::<ResolveError>() {
            Some(ResolveError::Forbidden) => return Refusal::Address.into(),
            Some(ResolveError::Unknown(_)) => return Failure::Unresolved.into(),
            None => {}
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
