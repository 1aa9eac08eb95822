//! The attributes of a record, by the names of the semantic conventions.

use std::net::SocketAddr;

use super::wire::Message;
use crate::{
    AuthMechanism, AuthOutcome, DenialCategory, InjectionMode, Mode, Outcome, Phase, Protocol,
    Record,
};

/// The methods that go by their names; all others are `_OTHER`.
const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// The status of an answer with which a connection becomes a tunnel.
const SWITCHING_PROTOCOLS: u16 = 101;

/// The numbers of the fields of `KeyValue`, and of `AnyValue`.
const KEY: u64 = 1;
const VALUE: u64 = 2;
pub(super) const STRING_VALUE: u64 = 1;
const BOOL_VALUE: u64 = 2;
const INT_VALUE: u64 = 3;
const DOUBLE_VALUE: u64 = 4;

/// The attributes of a message, each a `field` of it. What there is nothing to say of is left out.
#[derive(Debug)]
pub(super) struct Attributes<'m> {
    message: &'m mut Message,
    field: u64,
}

impl<'m> Attributes<'m> {
    pub(super) fn new(message: &'m mut Message, field: u64) -> Self {
        Self { message, field }
    }

    pub(super) fn text(&mut self, name: &str, value: Option<&str>) {
        self.put(name, value, |any, text| any.text(STRING_VALUE, text));
    }

    pub(super) fn number(&mut self, name: &str, value: Option<impl Into<u64>>) {
        self.put(name, value, |any, number| any.varint(INT_VALUE, number.into()));
    }

    fn fraction(&mut self, name: &str, value: Option<f64>) {
        self.put(name, value, |any, fraction| any.double(DOUBLE_VALUE, fraction));
    }

    fn flag(&mut self, name: &str, value: Option<bool>) {
        self.put(name, value, |any, flag| any.varint(BOOL_VALUE, flag.into()));
    }

    fn put<T>(&mut self, name: &str, value: Option<T>, write: impl FnOnce(&mut Message, T)) {
        let Some(value) = value else { return };
        self.message.nested(self.field, |pair| {
            pair.text(KEY, name);
            pair.nested(VALUE, |any| write(any, value));
        });
    }

    /// What a span has: the conventions' attributes of a server's span, and what tells of ours
    /// which exchange it is and how it was decided.
    pub(super) fn of_span(&mut self, record: &Record) {
        self.request(record);
        self.response(record);
        self.decision(record);
    }

    /// What a log record has: that, and all the rest of the record.
    pub(super) fn of_log(&mut self, record: &Record) {
        if record.phase != Phase::Gap {
            self.request(record);
            self.response(record);
        }
        self.decision(record);
        self.rest(record);
    }

    fn request(&mut self, record: &Record) {
        if let Some(method) = record.method.as_deref() {
            let is_known = METHODS.contains(&method);
            self.text("http.request.method", Some(if is_known { method } else { "_OTHER" }));
            self.text("http.request.method_original", (!is_known).then_some(method));
        }
        let (path, query) = match record.path.as_deref().map(|path| path.split_once('?')) {
            Some(Some((path, query))) => (Some(path), Some(query)),
            Some(None) => (record.path.as_deref(), None),
            None => (None, None),
        };
        self.text("url.scheme", scheme(record));
        self.text("url.path", path);
        self.text("url.query", query);
        self.text("http.route", route(record).as_deref());
        self.text("server.address", Some(&*record.target).filter(|host| !host.is_empty()));
        self.number("server.port", record.port);
        if let Some(client) = record.client.as_deref().and_then(|it| it.parse::<SocketAddr>().ok())
        {
            let address = client.ip().to_string();
            self.text("client.address", Some(&address));
            self.number("client.port", Some(client.port()));
        }
        if let Some(protocol) = record.protocol {
            self.text("network.protocol.name", Some("http"));
            self.text("network.protocol.version", Some(version(protocol)));
        }
    }

    fn response(&mut self, record: &Record) {
        self.number("http.response.status_code", record.status);
        self.text("error.type", failure(record).as_deref());
        let (bytes_in, bytes_out) = if is_tunnel(record) {
            ("nono.bytes_in", "nono.bytes_out")
        } else {
            ("http.request.body.size", "http.response.body.size")
        };
        self.number(bytes_in, Some(record.bytes_in));
        self.number(bytes_out, Some(record.bytes_out));
    }

    fn decision(&mut self, record: &Record) {
        let id = record.id.to_string();
        self.text("nono.id", Some(&id));
        self.number("nono.sequence", Some(record.sequence));
        self.text("nono.mode", Some(record.mode.as_str()));
        self.text("nono.decision", Some(record.decision.as_str()));
        self.text("nono.outcome", Some(record.outcome.as_str()));
        self.text("nono.denial_category", record.denial_category.map(DenialCategory::as_str));
        self.text("nono.route_id", record.route_id.as_deref());
        self.text("nono.rule", record.rule.as_deref());
    }

    fn rest(&mut self, record: &Record) {
        let session = record.session.to_string();
        let upstream = record.upstream_addr.map(|addr| addr.to_string());
        self.text("nono.session", Some(&session));
        self.text("nono.phase", Some(record.phase.as_str()));
        self.fraction("nono.duration_ms", Some(record.duration_ms));
        self.fraction("nono.time_to_first_byte_ms", record.time_to_first_byte_ms);
        self.text("nono.upstream_addr", upstream.as_deref());
        self.text("nono.reason", record.reason.as_deref());
        self.text("nono.auth_mechanism", record.auth_mechanism.map(AuthMechanism::as_str));
        self.text("nono.auth_outcome", record.auth_outcome.map(AuthOutcome::as_str));
        self.flag("nono.managed_credential_active", record.managed_credential_active);
        self.text("nono.injection_mode", record.injection_mode.map(InjectionMode::as_str));
        self.text("nono.request_id", record.request_id.as_deref());
        self.number("nono.dropped", record.dropped);
    }
}

/// What a span is called: the method, and the route where there is one.
pub(super) fn name(record: &Record) -> String {
    let method = match record.method.as_deref() {
        Some(method) if METHODS.contains(&method) => method,
        _ => "HTTP",
    };
    match route(record) {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

/// What all paths of a route look like.
fn route(record: &Record) -> Option<String> {
    record.route_id.as_deref().map(|prefix| format!("/{prefix}/*"))
}

/// What went wrong on the side of the server, which the proxy is to its client: for the
/// conventions a refusal with a status below 500 is no failure, nor is a client that leaves.
pub(super) fn failure(record: &Record) -> Option<String> {
    let category = record.denial_category.map(DenialCategory::as_str);
    match (record.outcome, record.status) {
        (Outcome::UpstreamAbort | Outcome::Timeout | Outcome::Shutdown, _) => {
            Some(record.outcome.as_str().to_owned())
        }
        (_, Some(status)) if status >= 500 => {
            Some(category.map_or_else(|| status.to_string(), str::to_owned))
        }
        (Outcome::Refused, None) => Some(category.unwrap_or("_OTHER").to_owned()),
        _ => None,
    }
}

/// How the client asked: in the clear, unless inside a tunnel that ends here.
fn scheme(record: &Record) -> Option<&'static str> {
    let is_connect = record.method.as_deref() == Some("CONNECT");
    match record.mode {
        _ if is_connect || record.method.is_none() => None,
        Mode::ConnectIntercept => Some("https"),
        Mode::Connect | Mode::External | Mode::Reverse => Some("http"),
    }
}

fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http10 => "1.0",
        Protocol::Http11 => "1.1",
        Protocol::Http2 => "2",
    }
}

/// Whether its bytes are those of a tunnel and not of bodies.
fn is_tunnel(record: &Record) -> bool {
    record.method.as_deref() == Some("CONNECT") || record.status == Some(SWITCHING_PROTOCOLS)
}
