//! Where a request is sent, with what connecting and addressing need.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use rustls::ClientConfig;

use crate::address::Reach;
use crate::error::Refusal;
use crate::exchange::Way;
use crate::route::Route;
use crate::target::{Scheme, Target};
use crate::tls::Tls;

use super::Outer;

/// See the module.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The upstream of a route.
    Route {
        /// The route.
        route: Arc<Route>,
        /// Whether the request can only be sent over HTTP/1.1: it asks for an upgrade.
        needs_http1: bool,
    },
    /// A host that the client named, over plain http.
    Open {
        target: Target,
        reach: Reach,
        /// Boxed, since most requests go to routes and need none of their own.
        end: Box<End>,
        /// The proxy that sends the requests on.
        forwarder: Option<Arc<Outer>>,
    },
    /// A host that the client named, over TLS that the proxy speaks for it.
    Secure { target: Target, reach: Reach, end: Box<End>, tls: Arc<Tls>, needs_http1: bool },
}

/// How an upstream is called in requests to it.
#[derive(Debug)]
pub(crate) struct End {
    /// The value of `Host`.
    host: HeaderValue,
    /// Scheme and authority.
    uri: Uri,
}

impl End {
    /// The end at `target`.
    ///
    /// # Errors
    /// When the host cannot stand in a URL.
    pub(crate) fn new(scheme: Scheme, target: &Target) -> Result<Self, &'static str> {
        let wrong = "its host cannot stand in a URL";
        let host = HeaderValue::try_from(target.host_field(scheme)).map_err(|_| wrong)?;
        Ok(Self { host, uri: target.to_uri(scheme).ok_or(wrong)? })
    }
}

impl Destination {
    /// The end of `way`, within `reach`.
    pub(crate) fn new(way: Way, reach: Reach, needs_http1: bool) -> Result<Self, Refusal> {
        Ok(match way {
            Way::Route(route) => Self::Route { route, needs_http1 },
            Way::Secure(target, tls) => {
                let end = End::new(Scheme::Https, &target).map_err(Refusal::Malformed)?;
                Self::Secure { target, reach, end: Box::new(end), tls, needs_http1 }
            }
            Way::Tunnel(target) | Way::Intercept(target) | Way::Forward(target) => {
                let end = End::new(Scheme::Http, &target).map_err(Refusal::Malformed)?;
                Self::Open { target, reach, end: Box::new(end), forwarder: None }
            }
        })
    }

    /// The same, reached by giving requests to the proxy `outer` (RFC 9112 §3.2.2); routes without
    /// TLS lead to places near this one, not to what is behind another.
    pub(super) fn forwarded_by(mut self, outer: Option<Arc<Outer>>) -> Self {
        if let Self::Open { forwarder, .. } = &mut self {
            *forwarder = outer;
        }
        self
    }

    /// The proxy that requests are given to, to be sent on.
    pub(crate) fn forwarder(&self) -> Option<&Arc<Outer>> {
        match self {
            Self::Open { forwarder, .. } => forwarder.as_ref(),
            Self::Route { .. } | Self::Secure { .. } => None,
        }
    }

    /// Whether TLS is spoken there.
    pub(super) fn is_secure(&self) -> bool {
        self.tls().is_some()
    }

    /// What stands before the path in a request: nothing, or scheme and host for a proxy.
    pub(super) fn base(&self) -> Cow<'static, str> {
        match self.forwarder() {
            None => Cow::Borrowed(""),
            Some(_) => Cow::Owned(format!("http://{}", self.target().host_field(Scheme::Http))),
        }
    }

    /// The route that leads here.
    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Self::Route { route, .. } => Some(route),
            Self::Open { .. } | Self::Secure { .. } => None,
        }
    }

    /// The host and port to dial.
    pub(super) fn target(&self) -> &Target {
        match self {
            Self::Route { route, .. } => &route.target,
            Self::Open { target, .. } | Self::Secure { target, .. } => target,
        }
    }

    /// The addresses that may be dialled.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Route { route, .. } => route.reach,
            Self::Open { reach, .. } | Self::Secure { reach, .. } => *reach,
        }
    }

    /// How to speak TLS; `None` for plain http.
    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        match self {
            Self::Route { route, needs_http1 } => {
                route.tls.as_ref().map(|tls| tls.offering(*needs_http1))
            }
            Self::Secure { tls, needs_http1, .. } => Some(tls.offering(*needs_http1)),
            Self::Open { .. } => None,
        }
    }

    /// Whether the request can only be sent over HTTP/1.1.
    pub(super) fn needs_http1(&self) -> bool {
        matches!(
            self,
            Self::Route { needs_http1: true, .. } | Self::Secure { needs_http1: true, .. }
        )
    }

    /// The value of `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.end().host
    }

    /// Scheme and authority.
    pub(super) fn uri(&self) -> &Uri {
        &self.end().uri
    }

    fn end(&self) -> &End {
        match self {
            Self::Route { route, .. } => &route.end,
            Self::Open { end, .. } | Self::Secure { end, .. } => end,
        }
    }
}
