//! All that a client can be refused or failed with, for documentation: the rows of the table, in
//! words about a request to `HOST:443` or to the route `/ROUTE`.

use std::time::Duration;

use nono_credentials::{Error as CredentialError, Locator, TlsFault};

use super::table::{Asked, Row, credential, refused, upstream};
use crate::address::OutOfReach;
use crate::error::{Malformed, Refusal, Upstream};
use crate::http1::Wrong;

/// What stands for what is not known here.
const REASON: &str = "REASON";

/// One way in which a request can end without a response of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The status of the response.
    pub status: u16,
    /// The stable word in it, and in the record.
    pub code: &'static str,
    /// The error type of `Proxy-Status` (RFC 9209).
    pub proxy_status: &'static str,
    /// What is said, of an example.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl From<Row> for Listed {
    fn from(row: Row) -> Self {
        let proxy_status = row.proxy_status();
        let Row { status, code, message, hint, .. } = row;
        Self { status: status.as_u16(), code, proxy_status, message, hint }
    }
}

/// Every code once, or as often as what is said of it differs.
pub fn refusals() -> Vec<Listed> {
    let asked = Asked::example();
    let refusals = [
        Refusal::NoProxyToken,
        Refusal::NoRouteToken,
        Refusal::TokenMisplaced,
        Refusal::ForeignCredential,
        Refusal::Malformed(REASON),
        Refusal::Method,
        Refusal::NoRoute,
        Refusal::AmbiguousPath(REASON),
        Refusal::NoEndpointRule,
        Refusal::MethodOverride,
        Refusal::RouteOnly,
        Refusal::HostDenied,
        Refusal::HostNotAllowed,
        Refusal::Address(OutOfReach::Always),
        Refusal::Address(OutOfReach::Unnamed),
        Refusal::Address(OutOfReach::Unprotected),
        Refusal::OwnListener,
        Refusal::Misdirected,
        Refusal::NoRouteInside,
        Refusal::AmbiguousRoute,
        Refusal::OverLimit,
    ];
    let failures = [
        Upstream::Unresolved,
        Upstream::Unreachable(REASON.into()),
        Upstream::Insecure(insecure(true)),
        Upstream::Insecure(insecure(false)),
        Upstream::Outer(REASON.into()),
        Upstream::ConnectTimeout,
        Upstream::OuterTimeout,
        Upstream::Busy,
        Upstream::RequestCut,
        Upstream::ResponseTimeout,
        Upstream::BadResponse(REASON.into()),
    ];
    let rows = refusals.into_iter().map(|refusal| refused(refusal, &asked));
    // Of one that is not for a route.
    let rows = rows.chain([refused(Refusal::TokenMisplaced, &Asked::default())]);
    let rows = rows.chain([Row::no_socket(), Row::log_full(), Row::cut(), Row::rested()]);
    let heads = [
        Malformed::LATE_HEAD,
        Malformed::LONG_LINE,
        Malformed::LONG_HEAD,
        Malformed::MANY_FIELDS,
        Malformed::from(Wrong::LongTrailers),
    ];
    let rows = rows.chain(heads.map(|it| Row::malformed(it.status, it.reason)));
    let credentials = credentials();
    let rows = rows.chain(credentials.iter().map(|error| credential(error, &asked)));
    rows.chain(failures.iter().map(|failure| upstream(failure, &asked))).map(Into::into).collect()
}

fn insecure(is_of_certificate: bool) -> TlsFault {
    TlsFault { reason: REASON.into(), hint: None, is_of_certificate }
}

/// An example of each kind.
fn credentials() -> Vec<CredentialError> {
    let Ok(locator) = Locator::parse("env://KEY") else { return Vec::new() };
    vec![
        CredentialError::NotFound { locator: locator.clone(), hint: "set KEY".into() },
        CredentialError::Unavailable { locator: locator.clone(), reason: REASON.into() },
        CredentialError::TimedOut { locator: locator.clone(), limit: Duration::from_secs(30) },
        CredentialError::Unusable { locator: locator.clone(), reason: REASON },
        CredentialError::Expired { locator },
    ]
}
