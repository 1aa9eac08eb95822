//! The record of one exchange, and the words it may use.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

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
    pub id: RecordId,
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

/// The id of an exchange: its proxy's session and its number there. Text only when it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordId {
    pub(crate) session: Arc<str>,
    pub(crate) number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Defines an enum whose variants each have a word, by which they are serialised.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// The word that stands for it in a record.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// How a client reached the proxy.
    Mode {
        /// A `CONNECT` tunnel.
        Connect = "connect",
        /// A request to a route, or a forwarded plain `http` request (those have no `route_id`).
        Reverse = "reverse",
    }
}

words! {
    /// Whether an exchange was let through.
    Decision {
        /// It was.
        Allow = "allow",
        /// It was not.
        Deny = "deny",
    }
}

words! {
    /// Where the session token was found.
    AuthMechanism {
        /// In `Proxy-Authorization`.
        ProxyAuthorization = "proxy_authorization",
        /// In the header where an SDK carries its API key.
        PhantomHeader = "phantom_header",
        /// In the path.
        PhantomPath = "phantom_path",
        /// In the query.
        PhantomQuery = "phantom_query",
    }
}

words! {
    /// Whether the session token was right.
    AuthOutcome {
        /// It was.
        Succeeded = "succeeded",
        /// It was missing or wrong.
        Failed = "failed",
        /// It was missing or wrong, but the proxy asks nobody for it.
        NotRequired = "not_required",
    }
}

words! {
    /// Where a route's credential is put.
    InjectionMode {
        /// In a header, after a format.
        Header = "header",
        /// In the path, in place of the session token.
        UrlPath = "url_path",
        /// In a query parameter.
        QueryParam = "query_param",
        /// In a header, as HTTP Basic credentials.
        BasicAuth = "basic_auth",
    }
}

words! {
    /// Kinds of refusals and failures.
    DenialCategory {
        /// The session token was missing or wrong.
        AuthenticationFailed = "authentication_failed",
        /// The route's endpoint rules do not allow the request.
        EndpointPolicy = "endpoint_policy",
        /// The route's credential is not available.
        ManagedCredentialUnavailable = "managed_credential_unavailable",
        /// The host or its address is not allowed.
        HostDenied = "host_denied",
        /// The upstream could not be reached.
        UpstreamConnectFailed = "upstream_connect_failed",
        /// A tunnel or forward to an upstream that only its route may reach.
        ConnectBypassesL7 = "connect_bypasses_l7",
        /// The request was malformed or ambiguous.
        InvalidRequest = "invalid_request",
        /// No route has the request's prefix.
        UnknownRoute = "unknown_route",
        /// A limit of the proxy was reached.
        OverLimit = "over_limit",
        /// The upstream was reached but did not answer properly.
        UpstreamFailed = "upstream_failed",
    }
}

words! {
    /// How an exchange ended.
    Outcome {
        /// The whole response was handed over, or both sides closed the tunnel.
        Complete = "complete",
        /// The client left before that.
        ClientAbort = "client_abort",
        /// The upstream left before that.
        UpstreamAbort = "upstream_abort",
        /// A time limit passed.
        Timeout = "timeout",
        /// The proxy was shut down.
        Shutdown = "shutdown",
        /// The proxy itself answered.
        Refused = "refused",
    }
}
