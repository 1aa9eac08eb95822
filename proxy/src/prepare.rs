//! What happens between the listening and the first request: credentials are loaded, and what
//! only the network can tell of the configuration is found out. And the keeping of the
//! credentials after that.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};
use httpdate::HttpDate;
use nono_audit::{Filling, Overflow};
use nono_credentials::{Credential, fault_of_roots};
use serde::Serialize;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Host;

use crate::address::{OutOfReach, Reach, classify};
use crate::config::ConfigError;
use crate::route::Route;
use crate::stack::Shared;

/// How long a name is looked up for; one that does not answer is judged when it is asked for.
const LOOKUP: Duration = Duration::from_secs(2);

/// The readers of the log of records that programs know, by the methods that they come from.
pub(crate) const DRAIN: &str = "drain_audit_events()";
pub(crate) const ITERATOR: &str = "audit_events()";

/// Something that fails requests, or keeps records from where they are to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What it is: `credential_not_found` or `credential_unavailable`; of the audit log
    /// `audit_filling` or `audit_strangers`, and of what it is written to `audit_unwritable`; of the
    /// export of records `otlp_unavailable`, `otlp_rejected`, `otlp_undelivered`, `otlp_queued`,
    /// `otlp_queue_unreadable` or `otlp_queue_damaged`; of the authority that vouches for
    /// intercepted tunnels `authority_expiring` or `authority_expired`; of the authorities that
    /// upstreams are trusted by `roots_unreadable`.
    pub code: &'static str,
    /// How bad it is: `warning`.
    pub severity: &'static str,
    /// The route concerned, `external_proxy`, `audit`, `audit_disk`, `audit_file`, `otlp`,
    /// `otlp_queue`, `intercept` or `tls`.
    pub route_prefix: String,
    /// Where its credential, or the authority's certificate, is kept; empty if it has none.
    pub credential_ref: String,
    /// What happened, in words.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// That the authorities that the environment names cannot be read.
    fn of_roots(why: &str) -> Self {
        let hint = "correct SSL_CERT_FILE and SSL_CERT_DIR, or unset them, and start again";
        Self {
            code: "roots_unreadable",
            severity: "warning",
            route_prefix: "tls".into(),
            credential_ref: String::new(),
            message: format!("not all authorities that the environment names are trusted: {why}"),
            hint: Some(hint.into()),
        }
    }

    /// That the log of records fills.
    pub(crate) fn of_log(filling: &Filling, overflow: Overflow) -> Self {
        let Filling { percent, reader, records } = filling;
        let then = match overflow {
            Overflow::Refuse => "requests are refused",
            Overflow::Count => "further records are only counted",
        };
        let hint = match *reader {
            DRAIN => {
                "call it, or have records kept by audit_file or otlp_endpoint; audit_records and \
                 audit_disk_bytes make more room"
            }
            ITERATOR => "let the slowest one go on, or close it",
            _ => "see what else diagnostics() says of it",
        };
        Self {
            code: "audit_filling",
            severity: "warning",
            route_prefix: "audit".to_owned(),
            credential_ref: String::new(),
            message: format!(
                "the audit log is {percent} % full: {records} records wait for {reader}; when it \
                 is full, {then}"
            ),
            hint: Some(hint.to_owned()),
        }
    }

    /// That `shed` records of clients without the session token were not kept, if any were not.
    pub(crate) fn of_strangers(shed: u64) -> Option<Self> {
        let hint = "find out who connects without the token; audit_file or otlp_endpoint, or more \
                    audit_records and audit_disk_bytes, keep more of them";
        (shed > 0).then(|| Self {
            code: "audit_strangers",
            severity: "warning",
            route_prefix: "audit".to_owned(),
            credential_ref: String::new(),
            message: format!(
                "{shed} refusals of clients that had not shown the session token were counted and \
                 not kept: they have a quarter of the audit log"
            ),
            hint: Some(hint.to_owned()),
        })
    }

    /// That the `sink` of audit records does not take them, and `why`.
    pub(crate) fn of_sink(sink: &str, why: &str) -> Self {
        Self {
            code: "audit_unwritable",
            severity: "warning",
            route_prefix: sink.to_owned(),
            credential_ref: String::new(),
            message: format!("{sink}: records cannot be written: {why}"),
            hint: Some(
                "they are held until they can be; make room or give access, or requests will be \
                 refused or go unrecorded as audit_overflow says"
                    .to_owned(),
            ),
        }
    }

    /// That the authority whose certificate is at `place` `ends`, or did before `now`.
    pub(crate) fn of_authority(place: String, ends: SystemTime, now: SystemTime) -> Self {
        let is_over = ends <= now;
        let when = HttpDate::from(ends);
        let (code, message) = if is_over {
            ("authority_expired", format!("the authority expired at {when}: no client trusts it"))
        } else {
            ("authority_expiring", format!("the authority expires at {when}"))
        };
        Self {
            code,
            severity: "warning",
            route_prefix: "intercept".to_owned(),
            credential_ref: place,
            message: format!("interception: {message}"),
            hint: Some(
                "renew its certificate and start the proxy again, which reads it once".to_owned(),
            ),
        }
    }
}

/// Prepares a proxy for its first request; all of it at once.
///
/// # Errors
/// A route leads over plain http to a public address.
pub(crate) async fn prepare(shared: &Shared) -> Result<(), ConfigError> {
    let loading = join_all(credentials(shared).map(Credential::settled));
    let judging = join_all(shared.settings.routes.iter().map(judge_plain));
    let (_, judged) = join(loading, judging).await;
    judged.into_iter().collect()
}

/// Fetches the credentials of requests whenever that is due. Never ends. That of the collector is
/// kept by the export.
pub(crate) async fn keep(shared: &Shared) {
    join_all(of_requests(shared).map(|credential| credential.keep(&shared.store))).await;
    // There are none.
    pending::<()>().await;
}

/// Fetches all credentials again.
pub(crate) async fn reload(shared: &Shared) {
    join_all(credentials(shared).map(Credential::reload)).await;
}

/// What fails requests now, or soon will: the credentials whose last fetch failed, by route, and
/// the authority.
pub(crate) fn diagnostics(shared: &Shared) -> Vec<Diagnostic> {
    let routes = shared.settings.routes.iter();
    let of_routes = routes.filter_map(|route| diagnose(&route.id, route.credential.as_ref()?));
    let outer = shared.settings.outer.iter();
    let of_outer = outer.filter_map(|outer| diagnose("external_proxy", outer.credential.as_ref()?));
    let otlp = shared.settings.otlp.iter();
    let of_otlp = otlp.filter_map(|collector| diagnose("otlp", collector.credential()?));
    let interception = shared.settings.intercept.as_ref().zip(shared.interception.as_ref());
    let now = SystemTime::now();
    let of_authority = interception.and_then(|(plan, running)| running.diagnose(plan, now));
    let of_roots = fault_of_roots().map(Diagnostic::of_roots);
    let of_credentials = of_routes.chain(of_outer).chain(of_otlp);
    let mut found: Vec<_> = of_credentials.chain(of_authority).chain(of_roots).collect();
    found.sort_by(|a, b| a.route_prefix.cmp(&b.route_prefix));
    found
}

fn credentials(shared: &Shared) -> impl Iterator<Item = &Credential> {
    let of_otlp = shared.settings.otlp.iter().filter_map(|collector| collector.credential());
    of_requests(shared).chain(of_otlp)
}

fn of_requests(shared: &Shared) -> impl Iterator<Item = &Credential> {
    let of_routes = shared.settings.routes.iter().filter_map(|route| route.credential.as_ref());
    let of_outer = shared.settings.outer.iter().filter_map(|outer| outer.credential.as_ref());
    of_routes.chain(of_outer)
}

fn diagnose(of: &str, credential: &Credential) -> Option<Diagnostic> {
    let error = credential.failure()?;
    Some(Diagnostic {
        code: error.code(),
        severity: "warning",
        route_prefix: of.to_owned(),
        credential_ref: credential.locator().to_string(),
        message: error.in_full(),
        hint: error.hint().map(str::to_owned),
    })
}

/// Refuses a plain http upstream whose name leads to where plain http may not go. Every request
/// judges the name again; this is to tell the mistake early.
async fn judge_plain(route: &Arc<Route>) -> Result<(), ConfigError> {
    let (Reach::PrivateOnly, Host::Domain(name)) = (route.reach, route.target.host()) else {
        return Ok(());
    };
    let Ok(Ok(addresses)) = timeout(LOOKUP, lookup_host((name.as_str(), 0))).await else {
        return Ok(());
    };
    for address in addresses {
        let Err(why) = route.reach.check(classify(address.ip())) else { continue };
        let reason = match why {
            OutOfReach::Always => "its name leads to an address that is never reachable",
            OutOfReach::Unnamed | OutOfReach::Unprotected => {
                "its name leads to a public address, where plain http would send the credential \
                 unprotected; use https"
            }
        };
        return Err(ConfigError::new("upstream", format!("http://{}", route.target), reason));
    }
    Ok(())
}
