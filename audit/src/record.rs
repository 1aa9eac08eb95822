//! The record of one exchange.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use crate::redact::RedactedPath;
use crate::{
    AuthMechanism, AuthOutcome, Decision, DenialCategory, InjectionMode, Mode, Outcome, Phase,
    Protocol, SpanContext,
};

/// What happened in one exchange: a request and its response, a tunnel, or a refusal.
///
/// Serialises to a flat object whose keys are the field names. Every key is always present;
/// what does not apply is `null`.
///
/// Texts that many records have in common are [`SmolStr`]s: short ones, as most are, lie in the
/// record. To count who holds them, threads would have to wait for each other at each exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When the exchange began, in milliseconds since the Unix epoch.
    pub timestamp_unix_ms: u64,
    /// How the client reached the proxy.
    pub mode: Mode,
    /// Whether the exchange was let through.
    pub decision: Decision,
    /// The host that was asked for; for a request to a route, the route's upstream host.
    /// Empty when the request named none.
    pub target: SmolStr,
    /// The port that was asked for.
    pub port: Option<u16>,
    /// The request method.
    pub method: Option<Cow<'static, str>>,
    /// The request's path and query as the client sent them, credentials removed.
    pub path: Option<RedactedPath>,
    /// The status that the client received; `None` if it left before there was one.
    pub status: Option<u16>,
    /// Why the exchange was refused or failed, in words.
    pub reason: Option<Cow<'static, str>>,
    /// The prefix of the route that served the request, without slashes around it.
    pub route_id: Option<SmolStr>,
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

    /// Position in the log of this proxy: 0, 1, 2, … without gaps, in the order of writing.
    pub sequence: u64,
    /// Identifies the exchange; the `request_id` of a refusal's body is the same. The records of
    /// a tunnel's opening and of its end share it.
    pub id: RecordId,
    /// The run of the proxy, which all its records share.
    pub session: Session,
    /// What of the exchange it tells of.
    pub phase: Phase,
    /// How the exchange ended.
    pub outcome: Outcome,
    /// From the request's head to the end of the exchange, in milliseconds.
    pub duration_ms: f64,
    /// From the request's head to the response's, in milliseconds; `None` if there was none.
    pub time_to_first_byte_ms: Option<f64>,
    /// Bytes of body (or tunnel payload) received from the client.
    pub bytes_in: u64,
    /// Bytes of body (or tunnel payload) sent to the client.
    pub bytes_out: u64,
    /// The upstream's socket address, once connected.
    pub upstream_addr: Option<SocketAddr>,
    /// The version of HTTP that the client spoke; `None` for what was no HTTP.
    pub protocol: Option<Protocol>,
    /// The client's socket address.
    pub client: Option<SmolStr>,
    /// The rule of the policy that decided: a rule for hosts or endpoints as it was written.
    pub rule: Option<SmolStr>,
    /// What the client named the request in `X-Request-Id`.
    pub request_id: Option<Box<str>>,
    /// What the client named as the parent of its request, in `traceparent`; noted only where
    /// spans are exported.
    pub traceparent: Option<Box<SpanContext>>,
    /// In a record of [`Phase::Gap`], how many records it stands for.
    pub dropped: Option<u64>,
}

impl Record {
    /// A record of what begins at `timestamp_unix_ms`, with nothing noted.
    pub(crate) fn new(id: RecordId, timestamp_unix_ms: u64, mode: Mode) -> Self {
        Self {
            timestamp_unix_ms,
            mode,
            decision: Decision::Allow,
            target: SmolStr::default(),
            port: None,
            method: None,
            path: None,
            status: None,
            reason: None,
            route_id: None,
            auth_mechanism: None,
            auth_outcome: None,
            managed_credential_active: None,
            injection_mode: None,
            denial_category: None,
            sequence: 0,
            id,
            session: id.session,
            phase: Phase::End,
            outcome: Outcome::ClientAbort,
            duration_ms: 0.0,
            time_to_first_byte_ms: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream_addr: None,
            protocol: None,
            client: None,
            rule: None,
            request_id: None,
            traceparent: None,
            dropped: None,
        }
    }

    /// Whether its client did not show that it may use the proxy.
    pub(crate) fn is_of_stranger(&self) -> bool {
        let is_known =
            matches!(self.auth_outcome, Some(AuthOutcome::Succeeded | AuthOutcome::NotRequired));
        !is_known && self.phase != Phase::Gap
    }
}

/// One run of a proxy. Text, 16 hexadecimal digits, only when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub u64);

impl Session {
    pub(crate) fn digits(self) -> [u8; 16] {
        let mut digits = [0; 16];
        hexadecimal(&self.0.to_be_bytes(), &mut digits);
        digits
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Session {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The id of an exchange: its proxy's session and its number there. Text only when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId {
    pub(crate) session: Session,
    pub(crate) number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Shown for every record, so without a formatter.
        self.session.fmt(f)?;
        f.write_str("-")?;
        f.write_str(itoa::Buffer::new().format(self.number))
    }
}

impl FromStr for RecordId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not `session-number`";
        let (session, number) = text.split_once('-').ok_or(wrong)?;
        let session = session.parse().map_err(|_| wrong)?;
        Ok(Self { session, number: number.parse().map_err(|_| wrong)? })
    }
}

/// Writes `bytes` to `digits`, which are twice as many. Without a table, so that many digits are made
/// at once.
pub(crate) fn hexadecimal(bytes: &[u8], digits: &mut [u8]) {
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'a' - 10 };
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Serialises types as the text that they are shown as.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text!(Session, RecordId, SpanContext);
