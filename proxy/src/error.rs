//! Why an exchange did not end in a response of the upstream's: a small value that layers
//! return. Only `layers/respond.rs` knows what the client is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use nono_credentials::TlsFault;
use smol_str::SmolStr;

use crate::address::OutOfReach;
use crate::http1::Wrong;

/// The error type of every layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client's or the policy's doing.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The host's name leads to an address that this rule denies.
    #[error("refused by the rule {0}")]
    Denied(SmolStr),
    /// The route's credential could not be had.
    #[error(transparent)]
    Credential(nono_credentials::Error),
    /// The upstream could not be reached or did not answer properly.
    #[error("upstream: {0:?}")]
    Upstream(Upstream),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Why a request was refused. Names come from the record, so that this stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many exchanges run as may.
    OverLimit,
    /// There is no place in the audit log for the record of an opening.
    LogFull,
    /// A tunnel or forward without the session token.
    NoProxyToken,
    /// A request to a route without the session token.
    NoRouteToken,
    /// The request cannot be understood, or can be in more than one way.
    Malformed(&'static str),
    /// A method that the proxy does not serve.
    Method,
    /// No route has this prefix.
    NoRoute,
    /// The path can be read in more than one way.
    AmbiguousPath(&'static str),
    /// No endpoint rule of the route allows the request.
    NoEndpointRule,
    /// A field would have the upstream read another method than the endpoint rules judged.
    MethodOverride,
    /// A tunnel or forward to the upstream of a route.
    RouteOnly,
    /// A rule denies the host.
    HostDenied,
    /// No rule allows the host.
    HostNotAllowed,
    /// The host has an address that may not be reached.
    Address(OutOfReach),
    /// The proxy itself.
    OwnListener,
    /// Inside a tunnel, a request for another host than the tunnel leads to.
    Misdirected,
    /// Inside a tunnel, a path that none of the host's routes covers.
    NoRouteInside,
    /// Inside a tunnel, a request that more than one of the host's routes could serve.
    AmbiguousRoute,
    /// The request brings a credential where the route puts its own.
    ForeignCredential,
    /// The session token came in a place from which it cannot be taken off.
    TokenMisplaced,
}

/// What is wrong with a request as a piece of HTTP, and the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

impl Malformed {
    /// For trailers that [`crate::headers::is_of_head`].
    pub(crate) const TRAILER: Self = Self::bad("a trailer is a field that only a head may have");

    /// For heads that take too long to come, or are too long.
    pub(crate) const LATE_HEAD: Self = Self { status: 408, reason: "its head took too long" };
    pub(crate) const LONG_LINE: Self = Self { status: 414, reason: "its request line is too long" };
    pub(crate) const LONG_HEAD: Self = Self { status: 431, reason: "its head is too long" };
    pub(crate) const MANY_FIELDS: Self =
        Self { status: 431, reason: "it has more than 100 header fields" };

    /// For what can be read in no way, or in more than one.
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}

impl From<Wrong> for Malformed {
    fn from(wrong: Wrong) -> Self {
        let status = if wrong == Wrong::LongTrailers { 431 } else { 400 };
        Self { status, reason: wrong.reason() }
    }
}

/// What went wrong on the way to the upstream, or there.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// Its name does not resolve.
    Unresolved,
    /// It cannot be connected to.
    Unreachable(String),
    /// TLS cannot be spoken to it.
    Insecure(TlsFault),
    /// The proxy on the way there opened no tunnel.
    Outer(String),
    /// It did not accept a connection in time.
    ConnectTimeout,
    /// The proxy on the way there led to no connection in time.
    OuterTimeout,
    /// As many requests are under way there as it allows at once, and none ended in time.
    Busy,
    /// The client's body failed before its end.
    RequestCut,
    /// It did not answer in time.
    ResponseTimeout,
    /// It ended the connection before it answered, or its answer is not HTTP.
    BadResponse(String),
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A mistake in the configuration.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file for the audit log cannot be begun.
    #[error("cannot begin the audit log {}: {source}", path.display())]
    AuditFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The queue of records for a collector cannot be used.
    #[error("cannot use the queue {}: {reason}", path.display())]
    OtlpQueue {
        /// Its directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refused a thread, a runtime or random numbers.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}
