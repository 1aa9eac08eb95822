//! The attributes of a record, by the names of the semantic conventions.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use crate::{
    AuthMechanism, AuthOutcome, DenialCategory, InjectionMode, Mode, Outcome, Phase, Protocol,
    Record,
};

/// The methods that go by their names; all others are `_OTHER`.
const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// The status of an answer with which a connection becomes a tunnel.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Attributes on their way into a message. What there is nothing to say of is left out.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, name: &str, value: Option<&str>) {
        self.put(name, value.map(|text| Value::StringValue(text.to_owned())));
    }

    pub(super) fn number(&mut self, name: &str, value: Option<impl TryInto<i64>>) {
        let value = value.map(|number| number.try_into().unwrap_or(i64::MAX));
        self.put(name, value.map(Value::IntValue));
    }

    fn fraction(&mut self, name: &str, value: Option<f64>) {
        self.put(name, value.map(Value::DoubleValue));
    }

    fn flag(&mut self, name: &str, value: Option<bool>) {
        self.put(name, value.map(Value::BoolValue));
    }

    fn put(&mut self, name: &str, value: Option<Value>) {
        if value.is_some() {
            let value = Some(AnyValue { value });
            self.0.push(KeyValue { key: name.to_owned(), value, ..KeyValue::default() });
        }
    }

    pub(super) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }

    /// What a span has: the conventions' attributes of a server's span, and what tells of ours
    /// which exchange it is and how it was decided.
    pub(super) fn of_span(record: &Record) -> Self {
        let mut attributes = Self(Vec::with_capacity(32));
        attributes.request(record);
        attributes.response(record);
        attributes.decision(record);
        attributes
    }

    /// What a log record has: that, and all the rest of the record.
    pub(super) fn of_log(record: &Record) -> Self {
        let mut attributes = Self(Vec::with_capacity(48));
        if record.phase != Phase::Gap {
            attributes.request(record);
            attributes.response(record);
        }
        attributes.decision(record);
        attributes.rest(record);
        attributes
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
        Mode::Connect | Mode::Reverse => Some("http"),
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
