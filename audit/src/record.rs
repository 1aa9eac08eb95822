//! The record of one exchange, and the words it may use.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

/// What happened in one exchange: a request and its response, a tunnel, or a refusal.
///
/// Serialises to a flat object whose keys are the field names. Every key is always present;
/// what does not apply is `null`.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When the exchange began, in milliseconds since the Unix epoch.
    pub timestamp_unix_ms: u64,
    /// How the client reached the proxy.
    pub mode: Mode,
    /// Whether the exchange was let through.
    pub decision: Decision,
    /// The host that was asked for; for a request to a route, the route's upstream host.
    /// Empty when the request named none.
    pub target: Arc<str>,
    /// The port that was asked for.
    pub port: Option<u16>,
    /// The request method.
    pub method: Option<Cow<'static, str>>,
    /// The request's path and query as the client sent them, credentials removed.
    pub path: Option<String>,
    /// The status that the client received; `None` if it left before there was one.
    pub status: Option<u16>,
    /// Why the exchange was refused or failed, in words.
    pub reason: Option<Cow<'static, str>>,
    /// The prefix of the route that served the request, without slashes around it.
    pub route_id: Option<Arc<str>>,
    /// Where the client carried its session token.
    pub auth_mechanism: Option<AuthMechanism>,
    /// Whether the session token was right.
    pub auth_outcome: Option<AuthOutcome>,
    /// Whether the route has a credential and it was put on the request.
    pub managed_credential_active: Option<bool>,
    /// Where the route's credential is put.
    pub injection_mode: Option<InjectionMode>,
    /// The kind of refusal or failure.
    pub denial_category: Option<DenialCategory>,

    /// Position in the log of this proxy: 0, 1, 2, … without gaps, in the order of endings.
    pub sequence: u64,
    /// Identifies the exchange; the `request_id` of a refusal's body is the same.
    pub id: String,
    /// How the exchange ended.
    pub outcome: Outcome,
    /// From the request's head to the end of the exchange, in milliseconds.
    pub duration_ms: f64,
    /// Bytes of body (or tunnel payload) received from the client.
    pub bytes_in: u64,
    /// Bytes of body (or tunnel payload) sent to the client.
    pub bytes_out: u64,
    /// The client's socket address.
    pub client: Option<Arc<str>>,
}

/// How a client reached the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A `CONNECT` tunnel.
    Connect,
    /// A request to a route, or a forwarded plain `http` request (those have no `route_id`).
    Reverse,
}

/// Whether an exchange was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was.
    Allow,
    /// It was not.
    Deny,
}

/// Where the session token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMechanism {
    /// In `Proxy-Authorization`.
    ProxyAuthorization,
    /// In the header where an SDK carries its API key.
    PhantomHeader,
    /// In the path.
    PhantomPath,
    /// In the query.
    PhantomQuery,
}

/// Whether the session token was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthOutcome {
    /// It was.
    Succeeded,
    /// It was missing or wrong.
    Failed,
    /// It was missing or wrong, but the proxy asks nobody for it.
    NotRequired,
}

/// Where a route's credential is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InjectionMode {
    /// In a header, after a format.
    Header,
    /// In the path, in place of the session token.
    UrlPath,
    /// In a query parameter.
    QueryParam,
    /// In a header, as HTTP Basic credentials.
    BasicAuth,
}

/// Kinds of refusals and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialCategory {
    /// The session token was missing or wrong.
    AuthenticationFailed,
    /// The route's endpoint rules do not allow the request.
    EndpointPolicy,
    /// The route's credential is not available.
    ManagedCredentialUnavailable,
    /// The host or its address is not allowed.
    HostDenied,
    /// The upstream could not be reached.
    UpstreamConnectFailed,
    /// A tunnel or forward to an upstream that only its route may reach.
    ConnectBypassesL7,
    /// The request was malformed or ambiguous.
    InvalidRequest,
    /// No route has the request's prefix.
    UnknownRoute,
    /// A limit of the proxy was reached.
    OverLimit,
    /// The upstream was reached but did not answer properly.
    UpstreamFailed,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole response was handed over, or both sides closed the tunnel.
    Complete,
    /// The client left before that.
    ClientAbort,
    /// The upstream left before that.
    UpstreamAbort,
    /// A time limit passed.
    Timeout,
    /// The proxy was shut down.
    Shutdown,
    /// The proxy itself answered.
    Refused,
}
