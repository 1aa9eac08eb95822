//! Interception of TLS: a `CONNECT` to a host that must be governed ends here, with a
//! certificate made for it, and the requests inside pass the same stack as all others.
//!
//! ```text
//! authority ─ mints ─ leaves ─ shown by ─ session ─ serves the stack inside the tunnel
//!     └─ its certificate, in files of ─ bundle ─ named by ─ the clients' environment
//! ```
//!
//! The authority's key is in this process alone: whoever trusts the authority trusts this proxy,
//! for as long as it runs. Or the user brings an authority of their own, from files.

mod authority;
mod bundle;
mod keystore;
mod leaves;
mod preloaded;
mod session;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nono_credentials::root_certificates;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::allowlist::HostSet;
use crate::config::{self, ConfigError, InterceptConfig};
use crate::error::StartError;
use crate::prepare::Diagnostic;
use crate::route::{RouteTable, show};
use crate::target::Target;
use crate::tls::{self, Tls};

use authority::Authority;
pub(crate) use bundle::Bundle;
use leaves::Leaves;
pub(crate) use session::{Inside, begin};

/// What is to be intercepted, as configured.
#[derive(Debug)]
pub(crate) struct Plan {
    dir: PathBuf,
    /// What clients trust besides the system's roots.
    parents: Vec<CertificateDer<'static>>,
    hosts: HostSet,
    exclude: HostSet,
    is_constrained: bool,
    /// The files of the user's own authority: its certificate and its key.
    authority: Option<(PathBuf, PathBuf)>,
    /// How to speak TLS to hosts that are no route's.
    tls: Arc<Tls>,
}

impl Plan {
    /// Parses `config`, beside `routes`. The directory is judged when the proxy starts.
    pub(crate) fn parse(
        config: &InterceptConfig,
        routes: &RouteTable,
    ) -> Result<Self, ConfigError> {
        let parents = parents(&config.parent_ca_pems)?;
        let plan = Self {
            authority: authority(config)?,
            tls: Arc::new(tls::with_roots(&parents, "intercept_parent_ca_pems")?),
            dir: config.ca_dir.clone(),
            hosts: HostSet::new(config::patterns("intercept_hosts", &config.hosts)?),
            exclude: HostSet::new(config::patterns("intercept_exclude", &config.exclude)?),
            is_constrained: config.name_constraints,
            parents,
        };
        // Read again when the proxy starts, so that a configuration holds no key.
        plan.load_authority(routes)?;
        Ok(plan)
    }

    /// Whether a tunnel to `target` is to be intercepted: some route leads there over TLS, or a rule
    /// says so, and none keeps it out. The host of a route over plain http is reached through that
    /// alone: inside a tunnel nothing would lead to it.
    pub(crate) fn covers(&self, target: &Target, routes: &RouteTable) -> bool {
        let is_wanted = match routes.owner(target) {
            Some(_) => routes.over_tls(target).next().is_some(),
            None => self.hosts.contains(target),
        };
        is_wanted && !self.exclude.contains(target)
    }

    /// The user's own authority, if there is one: it must be able to vouch for all that can be
    /// intercepted.
    fn load_authority(&self, routes: &RouteTable) -> Result<Option<Authority>, ConfigError> {
        let Some((certificate, key)) = &self.authority else { return Ok(None) };
        let targets = routes.iter().map(|route| &route.target);
        let covered = targets.filter(|target| self.covers(target, routes));
        let mut hosts: Vec<_> = covered.map(|target| target.host().clone()).collect();
        hosts.extend(self.hosts.examples());
        preloaded::load(certificate, key, &hosts, SystemTime::now()).map(Some)
    }

    /// An authority of this proxy alone, limited to what can be intercepted if it is to be.
    fn make_authority(&self, routes: &RouteTable) -> Result<Authority, rcgen::Error> {
        let constraints = self.is_constrained.then(|| {
            let routes = routes.iter().filter(|route| route.tls.is_some());
            let mut hosts: Vec<_> = routes.map(|route| route.target.host().clone()).collect();
            hosts.extend(self.hosts.subtrees());
            hosts
        });
        Authority::new(SystemTime::now(), constraints.as_deref())
    }

    /// How to speak TLS to hosts that are no route's.
    pub(crate) fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }
}

/// The files of the user's own authority.
fn authority(config: &InterceptConfig) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (&config.ca_cert, &config.ca_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(_)) if config.name_constraints => {
            let reason = "its certificate is made already; `intercept_name_constraints` cannot \
                          change it";
            Err(ConfigError::new("intercept_ca_cert", show(certificate), reason))
        }
        (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
        (Some(file), None) => {
            let reason = "it needs `intercept_ca_key` beside it";
            Err(ConfigError::new("intercept_ca_cert", show(file), reason))
        }
        (None, Some(file)) => {
            let reason = "it needs `intercept_ca_cert` beside it";
            Err(ConfigError::new("intercept_ca_key", show(file), reason))
        }
    }
}

fn parents(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |reason: String| ConfigError::new("intercept_parent_ca_pems", "...", reason);
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("it cannot be read as PEM: {error}")))?;
    if found.is_empty() && !pem.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    Ok(found)
}

/// The interception of a running proxy.
#[derive(Debug)]
pub(crate) struct Interception {
    leaves: Leaves,
    bundle: Bundle,
}

impl Interception {
    /// Makes the authority, or reads it, and writes the files that clients trust it by.
    ///
    /// # Errors
    /// The directory for the files cannot be trusted or written to; or the user's own authority
    /// is not what it was when the configuration was judged.
    pub(crate) fn new(plan: &Plan, routes: &RouteTable) -> Result<Self, StartError> {
        let authority = match plan.load_authority(routes)? {
            Some(authority) => authority,
            None => plan.make_authority(routes).map_err(std::io::Error::other)?,
        };
        let own = authority.certificates();
        let all = || root_certificates().iter().chain(&plan.parents).chain(own);
        let (alone, whole): (String, String) =
            (own.iter().map(pem).collect(), all().map(pem).collect());
        let store = keystore::encode(all());
        let mark = getrandom::u64().map_err(std::io::Error::other)?;
        let contents = [alone.as_bytes(), whole.as_bytes(), &store];
        let bundle = Bundle::write(&plan.dir, mark, contents)?;
        let leaves = Leaves::new(authority).map_err(std::io::Error::other)?;
        Ok(Self { leaves, bundle })
    }

    /// What is wrong with the authority at `now`, if anything is.
    pub(crate) fn diagnose(&self, plan: &Plan, now: SystemTime) -> Option<Diagnostic> {
        let ends = self.leaves.ending(now)?;
        let place = plan.authority.as_ref().map(|(certificate, _)| show(certificate));
        Some(Diagnostic::of_authority(place.unwrap_or_default(), ends, now))
    }

    /// The files that clients read.
    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Variables that tell clients whom to trust. Most replace what the client trusts, so they
    /// name all of it; two add to it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let named = |names: &[&str], file: &bundle::Written| {
            let path = show(file.path());
            names.iter().map(|name| ((*name).to_owned(), path.clone())).collect::<Vec<_>>()
        };
        [named(&REPLACING, &self.bundle.whole), named(&ADDING, &self.bundle.alone)].concat()
    }

    /// Java's options to the same end.
    pub(crate) fn java_options(&self) -> String {
        let quoted = quote(&show(self.bundle.store.path()));
        format!("-Djavax.net.ssl.trustStore={quoted} -Djavax.net.ssl.trustStoreType=PKCS12")
    }
}

/// Whether a variable of this name tells some client whom to trust.
pub(crate) fn is_of_trust(name: &str) -> bool {
    // Some are read in either case.
    REPLACING.iter().chain(&ADDING).any(|known| known.eq_ignore_ascii_case(name))
}

/// A path as one of Java's options, which a blank would part. It takes both kinds of quotes, also
/// in the middle of a word, and knows no escapes; so a quote stands in those of the other kind.
fn quote(path: &str) -> String {
    if !path.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')) {
        return path.to_owned();
    }
    format!("\"{}\"", path.replace('"', "\"'\"'\""))
}

const REPLACING: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// A certificate as PEM (RFC 7468).
fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = BASE64.encode(certificate);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        let _ = writeln!(out, "{line}");
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
