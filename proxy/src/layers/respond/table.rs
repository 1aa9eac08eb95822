//! The table of refusals and failures: the status, code, wording and record of each.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use http::StatusCode;
use nono_audit::{DenialCategory as Category, Mode, Outcome, Recorder};
use smol_str::SmolStr;

use crate::address::OutOfReach;
use crate::error::{Error, Refusal, Upstream};
use crate::path;

/// The longest path that is put into a hint.
const LONGEST_RULE: usize = 256;

/// What is said when the audit log has no place, and what helps.
const LOG_FULL: (&str, &str) =
    ("the audit log is full, and nothing goes unrecorded", "drain the audit events of the proxy");

/// The codes where TLS cannot be spoken, as RFC 9209 has them.
const CERTIFICATE: &str = "tls_certificate_error";
const TLS: &str = "tls_protocol_error";

/// One row: what the client and the record are told.
pub(super) struct Row {
    pub(super) status: StatusCode,
    /// A stable word for programs.
    pub(super) code: &'static str,
    pub(super) category: Category,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) outcome: Outcome,
}

/// What the record knows of the request, for messages and hints.
#[derive(Default)]
pub(super) struct Asked {
    host: SmolStr,
    port: u16,
    route: SmolStr,
    method: Cow<'static, str>,
    /// Without what may not be recorded, and not longer than is recorded.
    path: String,
    is_inside: bool,
}

impl Asked {
    /// An example, for documentation.
    pub(super) fn example() -> Self {
        Self {
            host: "HOST".into(),
            port: 443,
            route: "ROUTE".into(),
            method: "GET".into(),
            path: "/ROUTE/path".to_owned(),
            is_inside: false,
        }
    }
}

impl Row {
    /// The row of `error`, in words about the request that `recorder` knows.
    pub(super) fn of(error: &Error, recorder: &Recorder) -> Self {
        let asked = recorder.read(|record| Asked {
            host: record.target.clone(),
            port: record.port.unwrap_or_default(),
            route: record.route_id.clone().unwrap_or_default(),
            method: record.method.clone().unwrap_or_default(),
            path: record.path.as_deref().unwrap_or_default().to_owned(),
            is_inside: record.mode == Mode::ConnectIntercept,
        });
        let asked = asked.unwrap_or_default();
        match error {
            Error::Refused(refusal) => refused(*refusal, &asked),
            Error::Denied(_) => refused(Refusal::HostDenied, &asked),
            Error::Credential(error) => credential(error, &asked),
            Error::Upstream(failure) => upstream(failure, &asked),
        }
    }

    /// The row of a request for which the audit log has no place.
    pub(super) fn log_full() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "audit_log_full",
            category: Category::OverLimit,
            message: LOG_FULL.0.into(),
            hint: Some(LOG_FULL.1.into()),
            outcome: Outcome::Refused,
        }
    }

    /// The row of a connection for which there is no place.
    pub(super) fn no_socket() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "too_many_connections",
            category: Category::OverLimit,
            message: "as many connections are open as may be".into(),
            hint: Some("close idle ones, or raise `max_client_connections`".into()),
            outcome: Outcome::Refused,
        }
    }

    /// The row of bytes that are no request, with the status that its reader chose.
    pub(super) fn malformed(status: u16, reason: &'static str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let (code, outcome) = match status {
            StatusCode::REQUEST_TIMEOUT => ("request_timeout", Outcome::Timeout),
            _ => ("malformed_request", Outcome::Refused),
        };
        Self {
            status,
            code,
            category: Category::InvalidRequest,
            message: format!("the request was refused: {reason}"),
            hint: None,
            outcome,
        }
    }

    /// The row of requests that were refused before they were read, or came too late.
    pub(super) fn unread(count: NonZeroUsize) -> Self {
        let message = format!(
            "not looked at were so many requests of an HTTP/2 connection: {count}; their heads were \
             too long or are none, more ran at once than may, or the connection ended"
        );
        Self { message, ..Self::malformed(400, "") }
    }

    /// The row of a request whose body the client did not send to its end.
    pub(super) fn cut() -> Self {
        let outcome = Outcome::ClientAbort;
        Self { outcome, ..Self::malformed(400, "its body ends too early") }
    }

    /// The row of a request of whose body nothing came for too long.
    pub(super) fn rested() -> Self {
        Self::malformed(408, "nothing of its body came for too long")
    }

    /// The error type of RFC 9209 §2.3 that fits best.
    pub(super) fn proxy_status(&self) -> &'static str {
        match (self.code, self.category) {
            ("dns_error", _) => "dns_error",
            ("connect_timeout", _) => "connection_timeout",
            ("upstream_busy", _) => "connection_limit_reached",
            ("response_timeout", _) => "http_response_timeout",
            ("own_listener", _) => "proxy_loop_detected",
            (CERTIFICATE, _) => CERTIFICATE,
            (TLS, _) => TLS,
            ("address_refused", _) => "destination_ip_prohibited",
            (_, Category::OverLimit) => "connection_limit_reached",
            (_, Category::UpstreamConnectFailed | Category::ExternalProxyRejected) => {
                "destination_unavailable"
            }
            (_, Category::UpstreamFailed) => "http_protocol_error",
            (_, Category::ManagedCredentialUnavailable) => "proxy_configuration_error",
            (_, Category::InvalidRequest) => "http_request_error",
            _ => "http_request_denied",
        }
    }
}

/// The stable word that a refusal is told apart by.
pub(crate) fn code(refusal: Refusal) -> &'static str {
    kind(refusal).1
}

/// Status, code and category of each refusal.
#[rustfmt::skip]
fn kind(refusal: Refusal) -> (StatusCode, &'static str, Category) {
    use StatusCode as S;
    match refusal {
        Refusal::OverLimit         => (S::SERVICE_UNAVAILABLE, "over_limit", Category::OverLimit),
        Refusal::LogFull           => (S::SERVICE_UNAVAILABLE, "audit_log_full", Category::OverLimit),
        Refusal::NoProxyToken      => (S::PROXY_AUTHENTICATION_REQUIRED, "proxy_token_required", Category::AuthenticationFailed),
        Refusal::NoRouteToken      => (S::UNAUTHORIZED, "token_required", Category::AuthenticationFailed),
        Refusal::TokenMisplaced    => (S::UNAUTHORIZED, "token_misplaced", Category::AuthenticationFailed),
        Refusal::ForeignCredential => (S::BAD_REQUEST, "foreign_credential", Category::AuthenticationFailed),
        Refusal::Malformed(_)      => (S::BAD_REQUEST, "malformed_request", Category::InvalidRequest),
        Refusal::Method            => (S::METHOD_NOT_ALLOWED, "method_refused", Category::InvalidRequest),
        Refusal::NoRoute           => (S::NOT_FOUND, "unknown_route", Category::UnknownRoute),
        Refusal::AmbiguousPath(_)  => (S::BAD_REQUEST, "ambiguous_path", Category::EndpointPolicy),
        Refusal::NoEndpointRule    => (S::FORBIDDEN, "endpoint_not_allowed", Category::EndpointPolicy),
        Refusal::MethodOverride    => (S::BAD_REQUEST, "method_override", Category::EndpointPolicy),
        Refusal::RouteOnly         => (S::FORBIDDEN, "route_only", Category::ConnectBypassesL7),
        Refusal::HostDenied        => (S::FORBIDDEN, "host_denied", Category::HostDenied),
        Refusal::HostNotAllowed    => (S::FORBIDDEN, "host_not_allowed", Category::HostDenied),
        Refusal::Address(_)        => (S::FORBIDDEN, "address_refused", Category::HostDenied),
        Refusal::Misdirected       => (S::MISDIRECTED_REQUEST, "misdirected", Category::InvalidRequest),
        Refusal::NoRouteInside     => (S::FORBIDDEN, "no_route_inside", Category::EndpointPolicy),
        Refusal::AmbiguousRoute    => (S::FORBIDDEN, "ambiguous_route", Category::EndpointPolicy),
        Refusal::OwnListener       => (S::LOOP_DETECTED, "own_listener", Category::HostDenied),
    }
}

/// The wording of each refusal, and what to do about it.
#[rustfmt::skip]
pub(super) fn refused(refusal: Refusal, asked: &Asked) -> Row {
    let Asked { host, port, route, .. } = asked;
    let (message, hint) = match refusal {
        Refusal::OverLimit => ("as many requests run as `max_connections` allows".into(),
            "try again later, or raise `max_connections`".into()),
        Refusal::LogFull => (LOG_FULL.0.into(), LOG_FULL.1.into()),
        Refusal::NoProxyToken => ("the session token is missing or wrong".into(),
            "use the proxy URL of HTTP_PROXY in the environment that the proxy gave".into()),
        Refusal::NoRouteToken => ("the session token is missing or wrong".into(),
            "send NONO_PROXY_TOKEN of the environment that the proxy gave as the API key".into()),
        Refusal::TokenMisplaced if route.is_empty() => ("the session token is in the URL, where the host would see it".into(),
            "send it in Proxy-Authorization alone".into()),
        Refusal::TokenMisplaced => (format!("the session token is not where route /{route} puts its credential"),
            "send it as the SDK's API key".into()),
        Refusal::ForeignCredential => (format!("the request brings a credential of its own, but route /{route} puts its own on it"),
            "send the session token as the only API key".into()),
        Refusal::Malformed(reason) => (format!("the request was refused: {reason}"), String::new()),
        Refusal::Method => ("the proxy does not serve this method".into(), String::new()),
        Refusal::NoRoute => ("no route has the prefix of this path".into(),
            "the base URLs of the routes are in the environment that the proxy gave".into()),
        Refusal::AmbiguousPath(reason) => (format!("the path can be read in more than one way: {reason}"), String::new()),
        Refusal::NoEndpointRule => (format!("no endpoint rule of route /{route} allows this request"),
            endpoint_rule(asked)),
        Refusal::MethodOverride => (format!("a header or `_method` in the query replaces the method, which the endpoint rules of route /{route} judge"),
            "send the request with the method that it is meant to have".into()),
        Refusal::RouteOnly => (format!("{host}:{port} is the upstream of route /{route} and is reached through it alone"),
            format!("send the request to the proxy's path /{route}")),
        Refusal::HostDenied => (format!("host {host}:{port} is, or leads to what is, in the deny list"),
            "take the rule that matches it out of `denied_hosts`, which wins over all that allows".into()),
        Refusal::HostNotAllowed => (format!("host {host}:{port} is not in the allowlist"),
            format!("allowed_hosts=[\"{host}:{port}\"] would allow it")),
        Refusal::Address(OutOfReach::Always) => (format!("{host} is, or leads to, a metadata, link-local, unspecified or multicast address, which is never reached"), String::new()),
        Refusal::Address(OutOfReach::Unnamed) => (format!("{host} is, or leads to, an address of this machine or its private network, and no rule names it"),
            format!("allowed_hosts=[\"{host}:{port}\"] names it")),
        Refusal::Address(OutOfReach::Unprotected) => (format!("{host} leads to a public address, where plain http would send the credential unprotected"),
            format!("give route /{route} an https upstream")),
        Refusal::Misdirected => (format!("the tunnel leads to {host}:{port}, but the request or the TLS handshake names another host"),
            "ask for a tunnel to that host".into()),
        Refusal::NoRouteInside => (format!("none of the routes to {host}:{port} leads to this path"),
            "add a route whose upstream has a base path that covers it".into()),
        Refusal::AmbiguousRoute => (format!("more than one of the routes to {host}:{port} could serve this request"),
            "use the base URL of the route that is meant; it is in the environment that the proxy gave".into()),
        Refusal::OwnListener => ("the proxy itself is not a target".into(), String::new()),
    };
    let (status, code, category) = kind(refusal);
    let hint = Some(hint).filter(|hint: &String| !hint.is_empty());
    Row { status, code, category, message, hint, outcome: Outcome::Refused }
}

/// The smallest rule that would allow the request, where its path can be said in one.
fn endpoint_rule(Asked { route, method, path, is_inside, .. }: &Asked) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let rest = path.trim_start_matches('/').strip_prefix(&**route).unwrap_or_default();
    let rest = if rest.is_empty() { "/".into() } else { path::plain(rest) };
    let is_literal = |c: char| c.is_ascii_graphic() && !"*?[]{}!\\\"".contains(c);
    if !is_inside && rest.len() <= LONGEST_RULE && rest.chars().all(is_literal) {
        format!("endpoint_rules=[(\"{method}\", \"{rest}\")] would allow it")
    } else {
        "add its method and path to the route's `endpoint_rules`".into()
    }
}

pub(super) fn credential(error: &nono_credentials::Error, Asked { route, .. }: &Asked) -> Row {
    Row {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: error.code(),
        category: Category::ManagedCredentialUnavailable,
        message: format!("route /{route} has no credential: {error}"),
        hint: error.hint().map(str::to_owned),
        outcome: Outcome::Refused,
    }
}

#[rustfmt::skip]
pub(super) fn upstream(failure: &Upstream, Asked { host, port, .. }: &Asked) -> Row {
    use StatusCode as S;
    let (status, code, category, outcome, message) = match failure {
        Upstream::Unresolved => (S::BAD_GATEWAY, "dns_error", Category::UpstreamConnectFailed, Outcome::Refused,
            format!("{host} does not resolve")),
        Upstream::Unreachable(reason) => (S::BAD_GATEWAY, "upstream_unreachable", Category::UpstreamConnectFailed, Outcome::Refused,
            format!("cannot connect to {host}:{port}: {reason}")),
        Upstream::Insecure(fault) => (S::BAD_GATEWAY, if fault.is_of_certificate { CERTIFICATE } else { TLS }, Category::UpstreamConnectFailed, Outcome::Refused,
            format!("TLS cannot be spoken to {host}:{port}: {}", fault.reason)),
        Upstream::Outer(reason) => (S::BAD_GATEWAY, "external_proxy_rejected", Category::ExternalProxyRejected, Outcome::Refused,
            format!("the external proxy opened no tunnel to {host}:{port}: {reason}")),
        Upstream::ConnectTimeout => (S::GATEWAY_TIMEOUT, "connect_timeout", Category::UpstreamConnectFailed, Outcome::Timeout,
            format!("{host}:{port} did not accept in time")),
        Upstream::OuterTimeout => (S::GATEWAY_TIMEOUT, "connect_timeout", Category::UpstreamConnectFailed, Outcome::Timeout,
            format!("the external proxy led to no connection with {host}:{port} in time")),
        Upstream::Busy => (S::SERVICE_UNAVAILABLE, "upstream_busy", Category::UpstreamConnectFailed, Outcome::Timeout,
            format!("as many requests are under way at {host}:{port} as it allows at once")),
        Upstream::ResponseTimeout => (S::GATEWAY_TIMEOUT, "response_timeout", Category::UpstreamFailed, Outcome::Timeout,
            format!("{host}:{port} did not answer in time")),
        Upstream::RequestCut => (S::BAD_REQUEST, "request_cut", Category::InvalidRequest, Outcome::ClientAbort,
            "the request's body ended before its end, or is not framed as HTTP says".into()),
        Upstream::BadResponse(reason) => (S::BAD_GATEWAY, "upstream_failed", Category::UpstreamFailed, Outcome::UpstreamAbort,
            format!("{host}:{port} did not answer properly: {reason}")),
    };
    let hint = match failure {
        Upstream::Insecure(fault) => fault.hint.map(str::to_owned),
        _ => None,
    };
    Row { status, code, category, message, hint, outcome }
}
